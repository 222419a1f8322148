"""Smallest L2 changes: do `fmn` and `cw` leave a floor, and is anybody's `fmn` nearer?

    pip install foolbox adv-lib
    python -m benchmarks.smallest [--checkpoints FILE ...] [--images 100] [--steps 100] [--threads 1]

Everybody's images are scored by us, on 128 draws of a random network. `stand` is the share of images that
stand at any distance; `after 2 % more` the share that still stands when every image is moved on by 2 % of its
way: a floor of a curve is no number if it falls with that. Distances of images that stand are infinite. On a
network without noise the FMN attacks of foolbox and adv-lib run with the same number of steps, and `fmn` must
not be farther than they are in the median by more than 1 %. Of a random network they would keep the point
that one lucky draw misclassified.
"""

import argparse
import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import foolbox
import torch
from torch import Tensor, nn

import robustbench_sde as rb
from benchmarks.families import MeanDraws
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.norms import NORMS

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
#: Draws of a random network in scoring.
SCORE_DRAWS = 128
#: Share of its way by which an image is moved on.
FURTHER = 0.02
#: How much farther than a peer's `fmn` may be in the median.
TOLERANCE = 0.01

HEADER = (
    "| checkpoint | attack | stand, % | after 2 % more, % | L2 distance: quartiles | median / that of fmn |\n"
    "|---|---|---|---|---|---|"
)


def attackers(model: RandomClassifier, data: ImageDataset, steps: int) -> Iterator[tuple[str, Tensor]]:
    """Give the name and the images of each attack: `fmn` first, then `cw`, then the peers of `fmn`."""
    clean, labels = to_float(data.images), data.labels
    for name, parameters in (("fmn", {"steps": steps}), ("cw", {})):
        yield name, make_attack(name, norm="l2", **parameters)(model, clean, labels, data.ids).images
    if model.stochastic:
        return
    net: nn.Module = MeanDraws(model).eval()
    attack = foolbox.attacks.L2FMNAttack(steps=steps)
    yield "foolbox L2FMN", attack(foolbox.PyTorchModel(net, (0, 1)), clean, labels, epsilons=None)[1]
    adv_lib = import_module("adv_lib.attacks")
    yield "adv-lib fmn", adv_lib.fmn(net, clean, labels, norm=2, steps=steps)


def distances(model: RandomClassifier, data: ImageDataset, images: Tensor) -> Tensor:
    """Compute the L2 distance of each image, (n,); infinite where our scoring says that it stands."""
    records = rb.score(model, data, images=images.clamp(0, 1), score_draws=SCORE_DRAWS).records
    stands = torch.from_numpy(records["correct"].to_numpy(copy=True))
    return torch.where(stands, math.inf, NORMS["l2"].size(images - to_float(data.images)))


def table_rows(model: RandomClassifier, data: ImageDataset, steps: int) -> Iterator[str]:
    """Give the Markdown rows of one checkpoint, each as soon as it is known."""
    clean = to_float(data.images)
    ours = math.nan
    for name, images in attackers(model, data, steps):
        found = distances(model, data, images)
        further = distances(model, data, clean + (1 + FURTHER) * (images - clean))
        quartiles = found.quantile(torch.tensor([0.25, 0.5, 0.75]), interpolation="higher").tolist()
        ours = quartiles[1] if name == "fmn" else ours
        ratio = quartiles[1] / ours
        peer = name not in ("fmn", "cw")
        verdict = "" if not peer else " (yes)" if 1 / ratio <= 1 + TOLERANCE else " (**no**)"
        cells = (
            *(model.name, name),
            f"{100 * found.isinf().float().mean():.0f}",
            f"{100 * further.isinf().float().mean():.0f}",
            " ".join(f"{quartile:.4f}" for quartile in quartiles),
            f"{ratio:.4f}{verdict}",
        )
        yield f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("digits-ode.safetensors", "digits-additive.safetensors")
    parser.add_argument("--checkpoints", nargs="+", type=Path, default=[CHECKPOINTS / name for name in names])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100, help="of every fmn")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = rb.load_dataset(options.dataset, images=options.images)
    print(f"{data.name}, {len(data)} images, {options.steps} steps of fmn, {SCORE_DRAWS} score draws\n")
    print(HEADER, flush=True)
    for checkpoint in options.checkpoints:
        for row in table_rows(rb.load_checkpoint(checkpoint), data, options.steps):
            print(row, flush=True)


if __name__ == "__main__":
    main()
