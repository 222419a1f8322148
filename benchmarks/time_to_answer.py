"""How long until an attack's number: ours against the PGDs of foolbox, torchattacks and ART with equal draws.

    pip install -e '.[test,benchmarks]'
    python -m benchmarks.time_to_answer [CHECKPOINT ...] [--dataset digits] [--images 200] [--eps 0.03 0.06]
                                        [--steps 20] [--draws 16] [--threads 1] [--batch 32]

Every attacker makes at most `--steps` steps of 2.5 eps / steps, from a random point (some members of `auto`
do not); a gradient averages `--draws` draws. The peers see a random network as their users would: foolbox
behind its ExpectationOverTransformationWrapper, EOTPGD with `eot_iter`, ART behind a module that averages the
probabilities of so many forward passes. Their forward passes are ours, and weights ask for no gradient, so
that nobody pays for theirs, and their draws are independent. Ours: `pgd` with the same draws, `pgd` with as
many draws as a gradient needs and no more passes for an image than the peers, and `auto` of three members
with such draws, once with at most 7/40 and once with at most 7/20 of their passes (with twice their steps on
a deterministic network). All images are scored by us, on the same 128 draws. Seconds are CPU time of this
process.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import foolbox as fb
import numpy as np
import torch
import torchattacks
from torch import Tensor, nn

import robustbench_sde as rb
from benchmarks.peers import CHECKPOINTS, OneDraw, percent
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.texts import parse_budget

SCORE_DRAWS = 128

Judge = Callable[[Tensor], str]
Run = Callable[[OneDraw, Tensor, Tensor], Tensor]


class MeanOfDraws(nn.Module):
    """Log of the mean probability over so many forward passes of a module."""

    def __init__(self, module: OneDraw, draws: int) -> None:
        super().__init__()
        self.module, self.draws = module, draws

    def forward(self, images: Tensor) -> Tensor:
        """Log probabilities (B, classes)."""
        return torch.stack([self.module(images).softmax(-1) for _ in range(self.draws)]).mean(0).log()


def peers(eps: float, steps: int, draws: int) -> Iterator[tuple[str, Run]]:
    """Name and attack of each library; it takes (module, images, labels)."""
    step = 2.5 * eps / steps

    def foolbox(module: OneDraw, images: Tensor, labels: Tensor) -> Tensor:
        model: Any = fb.PyTorchModel(module, (0, 1))
        if draws > 1:
            model = fb.models.ExpectationOverTransformationWrapper(model, n_steps=draws)
        attack = fb.attacks.LinfPGD(abs_stepsize=step, steps=steps)
        return attack.run(model, images, fb.Misclassification(labels), epsilon=eps)

    def eotpgd(module: OneDraw, images: Tensor, labels: Tensor) -> Tensor:
        attack = torchattacks.EOTPGD(module, eps=eps, alpha=step, steps=steps, eot_iter=draws)
        return attack(images, labels)

    def art(module: OneDraw, images: Tensor, labels: Tensor) -> Tensor:
        kind = import_module("art.estimators.classification").PyTorchClassifier
        pgd = import_module("art.attacks.evasion").ProjectedGradientDescent
        classifier = kind(
            MeanOfDraws(module, draws).eval(),
            loss=nn.NLLLoss(),
            input_shape=images.shape[1:],
            nb_classes=module.model.classes,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        attack = pgd(
            classifier,
            norm=np.inf,
            eps=eps,
            eps_step=step,
            max_iter=steps,
            num_random_init=1,
            batch_size=len(images),
            verbose=False,
        )
        return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))

    yield "foolbox LinfPGD, EOT wrapper", foolbox
    yield "torchattacks EOTPGD", eotpgd
    yield "ART ProjectedGradientDescent", art


def theirs(run: Run, model: RandomClassifier, data: ImageDataset, batch: int) -> Tensor:
    """Images of a peer, in batches; torch's and numpy's global generators are left as they were."""
    state = np.random.get_state()  # noqa: NPY002 (ART draws its start from there)
    parts = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        for images, labels in zip(to_float(data.images).split(batch), data.labels.split(batch), strict=True):
            parts.append(run(OneDraw(model).eval(), images, labels).detach())
    np.random.set_state(state)  # noqa: NPY002
    return torch.cat(parts)


def ours(
    name: str, model: RandomClassifier, data: ImageDataset, batch: int, draws: int, **parameters: Any
) -> Tensor:
    """Images of an attack of our registry, in passes of the peers' size."""
    attack = make_attack(name, norm="linf", **parameters)
    made = attack(model, to_float(data.images), data.labels, data.ids, rows=batch * draws)
    return made.images


def ours_by_name(
    model: RandomClassifier, eps: float, steps: int, draws: int
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Label, attack and parameters of each of ours."""
    fixed: dict[str, Any] = {"eps": eps, "steps": steps}
    yield "pgd", "pgd", fixed | {"eot_draws": draws}
    if model.stochastic:
        yield "pgd, draws auto", "pgd", fixed | {"eot_draws": "auto", "passes": steps * draws}
    auto = fixed | {"eot_draws": "auto", "queries_per_step": 1, "depth": 3}
    shares = (7 * steps * draws // 40, 7 * steps * draws // 20)
    for passes in shares if model.stochastic else (2 * steps,):
        yield f"auto, {passes} passes", "auto", auto | {"passes": passes}


def attackers(
    model: RandomClassifier, data: ImageDataset, eps: float, steps: int, draws: int, batch: int
) -> Iterator[tuple[str, bool, Callable[[], Tensor]]]:
    """Name of each, whether it is ours, and how to make its images; the peers first."""
    draws = draws if model.stochastic else 1
    for label, run in peers(eps, steps, draws):
        yield label, False, partial(theirs, run, model, data, batch)
    for label, name, parameters in ours_by_name(model, eps, steps, draws):
        yield label, True, partial(ours, name, model, data, batch, draws, **parameters)


HEADER = """
| checkpoint | eps | attacker | accuracy left (95 %) | CPU seconds | of the fastest peer's |
|---|---|---|---|---|---|"""


def table_rows(
    job: Iterable[tuple[str, bool, Callable[[], Tensor]]], where: str, judge: Judge
) -> Iterator[str]:
    """Markdown rows of one checkpoint and budget, as they are measured; the peers together."""
    waiting, fastest = [], math.inf
    for name, own, make in job:
        started = time.process_time()
        images = make()
        seconds = time.process_time() - started
        fastest = fastest if own else min(fastest, seconds)
        waiting.append((name, judge(images), seconds))
        if own:
            yield from (
                f"| {where} | {name} | {left} | {taken:.1f} | {taken / fastest:.2f} |"
                for name, left, taken in waiting
            )
            waiting.clear()


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "checkpoints", nargs="*", type=Path, default=[CHECKPOINTS / "digits-multiplicative.safetensors"]
    )
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--eps", type=parse_budget, nargs="+", default=[0.03, 0.06])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32, help="images in a pass")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = rb.load_dataset(options.dataset, images=options.images)
    print(f"{data.name}, {len(data)} images, linf, {options.steps} steps, {options.draws} draws a gradient")
    print(HEADER, flush=True)
    for checkpoint in options.checkpoints:
        model = rb.load_checkpoint(checkpoint)

        def judge(images: Tensor, model: RandomClassifier = model) -> str:
            records = rb.score(model, data, images, score_draws=SCORE_DRAWS).records
            return percent(wilson(float(records["correct"].mean()), len(records)))

        for eps in options.eps:
            job = attackers(model, data, eps, options.steps, options.draws, options.batch)
            for row in table_rows(job, f"{model.name} | {eps:.4g}", judge):
                print(row, flush=True)


if __name__ == "__main__":
    main()
