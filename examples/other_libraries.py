"""Attacks of torchattacks and ART on a Neural SDE, judged by us; what they say of themselves beside it.

    pip install torchattacks adversarial-robustness-toolbox
    python examples/other_libraries.py checkpoints/digits-additive.safetensors

Writes adversarial/<library>.npz, which `sde-bench score` reads as well: see docs/your-model.md.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import robustbench_sde as rb
from robustbench_sde.api.result import Result

SMALL = "--small" in sys.argv  # seconds instead of minutes
EPS = 0.03
STEPS, IMAGES = (2, 4) if SMALL else (20, 50)


def torchattacks_pgd(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """PGD of torchattacks."""
    import torchattacks

    attack = torchattacks.PGD(net, eps=EPS, alpha=2.5 * EPS / STEPS, steps=STEPS)
    adversarial: Tensor = attack(images, labels)
    return adversarial


def art_pgd(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """PGD of the Adversarial Robustness Toolbox."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), tuple(images.shape[1:]), nb_classes=10, clip_values=(0.0, 1.0)
    )
    step = 2.5 * EPS / STEPS
    attack = ProjectedGradientDescent(estimator, eps=EPS, eps_step=step, max_iter=STEPS, verbose=False)
    return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


ATTACKS = {"torchattacks": torchattacks_pgd, "art": art_pgd}


def main(checkpoint: str) -> None:
    """Print, for each library, the accuracy that it sees in one look and the one that scoring finds."""
    torch.manual_seed(0)  # both libraries start at random, from the global generators
    np.random.seed(0)  # noqa: NPY002
    model, data = rb.load_checkpoint(checkpoint), rb.load_dataset("digits", images=IMAGES)
    images = data.images / 255
    print(f"{'attack':<14} {'by its own look':>16} {'scored':>8}   95 % interval")
    for name, attack in ATTACKS.items():
        net = model.as_module(draws=8)
        adversarial = attack(net, images, data.labels)
        with torch.no_grad():
            seen = (net(adversarial).argmax(1) == data.labels).double().mean()
        _print(name, f"{seen:.1%}", rb.score(model, data, adversarial, norm="linf", eps=EPS))
        path = Path("adversarial") / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, x=adversarial.numpy(), ids=data.ids.numpy(), y=data.labels.numpy())
    _print("ours", "", rb.attack(model, data, "pgd", eps=EPS, steps=STEPS, eot_draws=8))


def _print(name: str, seen: str, result: Result) -> None:
    row = result.summary.iloc[-1]
    interval = f"{row['accuracy_low']:.1%} - {row['accuracy_high']:.1%}"
    print(f"{name:<14} {seen:>16} {row['accuracy']:>8.1%}   {interval}")


if __name__ == "__main__":
    named = [argument for argument in sys.argv[1:] if argument != "--small"]
    main(*(named or ["checkpoints/digits-additive.safetensors"]))
