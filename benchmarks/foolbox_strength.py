"""Our PGD and C&W against foolbox's with equal steps and step size, on the shipped digits ODE.

Both attacks' images are scored by us. Run: python benchmarks/foolbox_strength.py [--images 200]
"""

import argparse
import math
import time
from pathlib import Path

import foolbox as fb
import torch
from torch import Tensor, nn

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.norms import NORMS
from robustbench_sde.sde.draws import Draws, Stream

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
PGD_STEPS, CW_STEPS, CW_ROUNDS = 20, 100, 5


class Deterministic(nn.Module):
    """An ODE classifier as foolbox wants it."""

    def __init__(self, model: RandomClassifier) -> None:
        super().__init__()
        self._model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self._model.logits(images, torch.arange(len(images)), Draws(0, Stream.ATTACK))[0]


def pgd_accuracy(
    model: RandomClassifier, data: ImageDataset, norm: str, eps: float, *, random_start: bool
) -> tuple[float, float]:
    """Accuracy that (our, foolbox's) PGD leaves after 20 steps of 2.5 eps / 20."""
    ours = rb.attack(model, data, "pgd", norm=norm, eps=eps, steps=PGD_STEPS, random_start=random_start)
    kind = fb.attacks.LinfPGD if norm == "linf" else fb.attacks.L2PGD
    attack = kind(rel_stepsize=2.5 / PGD_STEPS, steps=PGD_STEPS, random_start=random_start)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, images, _ = attack(
            fb.PyTorchModel(Deterministic(model).eval(), (0, 1)),
            to_float(data.images),
            data.labels,
            epsilons=eps,
        )
    return float(ours.records["correct"].mean()), float(
        rb.score(model, data, images).records["correct"].mean()
    )


def cw_distances(model: RandomClassifier, data: ImageDataset) -> tuple[Tensor, Tensor]:
    """L2 distance of each image by (our, foolbox's) C&W, infinite where our scoring says it still stands."""
    parameters = {"steps": CW_STEPS, "binary_search_steps": CW_ROUNDS, "initial_constant": 0.1}
    attack = make_attack("cw", learning_rate=1e-2, **parameters)
    ours = attack(model, to_float(data.images), data.labels, data.ids).images
    theirs = fb.attacks.L2CarliniWagnerAttack(
        binary_search_steps=CW_ROUNDS, steps=CW_STEPS, stepsize=1e-2, initial_const=0.1, abort_early=False
    )
    _, images, _ = theirs(
        fb.PyTorchModel(Deterministic(model).eval(), (0, 1)),
        to_float(data.images),
        data.labels,
        epsilons=None,
    )
    return _scored_distance(model, data, ours), _scored_distance(model, data, images.clamp(0, 1))


def _scored_distance(model: RandomClassifier, data: ImageDataset, images: Tensor) -> Tensor:
    correct = torch.tensor(rb.score(model, data, images).records["correct"].to_numpy())
    return torch.where(correct, math.inf, NORMS["l2"].size(images - to_float(data.images)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    data = rb.load_dataset("digits", images=parser.parse_args().images)
    model = rb.load_checkpoint(CHECKPOINTS / "digits-ode.safetensors")
    print(f"digits-ode, {len(data)} images, accuracy left (ours / foolbox)")
    for norm, budgets in (("linf", (0.01, 0.03, 0.06)), ("l2", (0.25, 0.5, 1.0))):
        for eps in budgets:
            for start in (True, False):
                ours, theirs = pgd_accuracy(model, data, norm, eps, random_start=start)
                where = "random start" if start else "same start"
                print(f"pgd {norm:4} eps {eps:<5} {ours:6.1%} / {theirs:6.1%} {where}", flush=True)
    started = time.perf_counter()
    near, far = cw_distances(model, data)
    quartiles = torch.tensor([0.25, 0.5, 0.75])
    for name, distances in (("ours", near), ("foolbox", far)):
        q25, q50, q75 = distances.quantile(quartiles, interpolation="higher").tolist()
        print(f"cw {name:8} L2 distance: quartiles {q25:.3f} {q50:.3f} {q75:.3f}")
    print(f"cw: ours is nearer or equal on {(near <= far + 1e-3).float().mean():.1%} of the images")
    print(f"({time.perf_counter() - started:.0f} s for both C&W)")


if __name__ == "__main__":
    main()
