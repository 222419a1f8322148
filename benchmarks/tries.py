"""What tools that stop at the first wrong draw claim, beside our accuracy for as many submissions.

    pip install -e '.[test]'
    python -m benchmarks.tries [--checkpoint FILE] [--images 100] [--eps 1e-9 0.03] [--out FILE.md]

The tools see a random network as their users would: every forward pass is one fresh draw of each image. They
are APGD of torchattacks (which AutoAttack's `rand` runs) and PGD of foolbox, whose `.repeat` takes the
luckiest of its restarts. A tool looks at an image until one draw is wrong; k is its number of looks at an
image that stands. Our number is survives_k of the images that the tool returned, from fresh score draws, and
beside it the accuracy of one draw and of the decision rule on these images.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import foolbox as fb
import torch
import torchattacks
from torch import Tensor

import robustbench_sde as rb
from benchmarks.peers import OneDraw
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.texts import parse_budget

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "digits-multiplicative.safetensors"
#: Draws that score everybody.
SCORE_DRAWS = 256


@dataclass(frozen=True)
class Claim:
    """What a tool says, and the images that it returns."""

    #: share of images that the tool says it could not fool
    accuracy: float
    #: (n, C, H, W)
    images: Tensor
    #: looks at an image that decide whether it stands
    looks: int


def apgd(restarts: int, steps: int) -> Callable[[OneDraw, Tensor, Tensor, float], Claim]:
    """APGD of torchattacks: each image is looked at once before, and after each step of each restart."""

    def run(module: OneDraw, images: Tensor, labels: Tensor, eps: float) -> Claim:
        attack = torchattacks.APGD(module, eps=eps, steps=steps, n_restarts=restarts, eot_iter=1)
        stands, made = attack.perturb(images, labels)
        return Claim(float(stands.float().mean()), made, 1 + restarts * (steps + 1))

    return run


def foolbox_pgd(restarts: int, steps: int) -> Callable[[OneDraw, Tensor, Tensor, float], Claim]:
    """PGD of foolbox: each restart is looked at once, at its end; the luckiest counts."""

    def run(module: OneDraw, images: Tensor, labels: Tensor, eps: float) -> Claim:
        attack = fb.attacks.LinfPGD(steps=steps, rel_stepsize=2.5 / steps).repeat(restarts)
        _, made, fooled = attack(fb.PyTorchModel(module, (0, 1)), images, labels, epsilons=eps)
        return Claim(1 - float(fooled.float().mean()), made, restarts)

    return run


#: Tools by name.
TOOLS = {
    "torchattacks APGD, 10 steps": apgd(1, 10),
    "torchattacks APGD, 20 steps, 5 restarts": apgd(5, 20),
    "foolbox LinfPGD, 10 steps": foolbox_pgd(1, 10),
    "foolbox LinfPGD, 10 steps, .repeat(20)": foolbox_pgd(20, 10),
}

HEADER = (
    "| eps | tool | looks k | it claims | survives_k (95 %) | one draw | decision rule |\n"
    "|---|---|---|---|---|---|---|"
)


def table_row(model: RandomClassifier, data: ImageDataset, eps: float, name: str) -> str:
    """Run a tool and score what it returns: a line of the table."""
    module = OneDraw(model).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        claim = TOOLS[name](module, to_float(data.images), data.labels, eps)
    images = claim.images.detach().clamp(0, 1)
    result = rb.score(model, data, images, score_draws=SCORE_DRAWS)
    survives, row = result.survives(claim.looks), result.summary.iloc[-1]
    texts = [f"{eps:g}", name, str(claim.looks), f"{100 * claim.accuracy:.1f}"]
    texts.append("{:.1f} ({:.1f}-{:.1f})".format(*(100 * value for value in survives)))
    texts += [f"{100 * row[column]:.1f}" for column in ("single_draw_accuracy", "accuracy")]
    return f"| {' | '.join(texts)} |"


def main(arguments: list[str] | None = None) -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--eps", type=parse_budget, nargs="+", default=[1e-9, 0.03])
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    options = parser.parse_args(arguments)
    data = rb.load_dataset(options.dataset, images=options.images)
    model = rb.load_checkpoint(options.checkpoint)
    lines = [f"{model.name}, {len(data)} images, linf, {SCORE_DRAWS} score draws.\n", *HEADER.splitlines()]
    print("\n".join(lines), flush=True)
    for eps in options.eps:
        for name in TOOLS:
            lines.append(table_row(model, data, eps, name))
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
