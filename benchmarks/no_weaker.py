"""Does `auto` leave images that an earlier `auto`, or other libraries with five times the budget, would fool?

    pip install -e '.[test,benchmarks]'
    python -m benchmarks.no_weaker [CHECKPOINT ...] --before FOLDER [--dataset digits] [--images 200]
                                   [--eps 0.03 0.06] [--steps 20] [--draws 16] [--times 5]

`--before` is a folder with another source tree of this package. Both versions of `auto` have `--steps` steps,
draws auto and their other defaults, and each runs in a process of its own. Images that this `auto` leaves are
given to foolbox's PGD, torchattacks' EOTPGD and the PGD of ART (as in `benchmarks.time_to_answer`), with
`--times` as many steps and `--draws` draws in every gradient. What `auto` leaves, less the images that fall
there, is less than the library alone would leave. This version scores all images, on the same 128 draws.
Seconds are CPU time.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import robustbench_sde as rb
from benchmarks.peers import CHECKPOINTS, percent
from benchmarks.time_to_answer import SCORE_DRAWS, peers, theirs
from benchmarks.trees import attack_in
from robustbench_sde.data import ImageDataset
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.texts import parse_budget

COLUMNS = (
    "checkpoint",
    "eps",
    "images",
    "now, % left (95 %)",
    "CPU s",
    "before, % left",
    "CPU s",
    "left by one only: now, before",
    "fall to a library",
)


def auto_of(tree: Path, checkpoint: Path, eps: float, options: argparse.Namespace) -> tuple[Tensor, float]:
    """Images that `auto` of a source tree makes, and its CPU seconds."""
    parameters = {"norm": "linf", "eps": eps, "steps": options.steps, "eot_draws": "auto"}
    data = {"dataset": options.dataset, "images": options.images}
    images, seconds, *_ = attack_in(tree, "auto", checkpoint, parameters, **data, threads=1)
    return images, seconds


def right(model: RandomClassifier, data: ImageDataset, images: Tensor) -> Tensor:
    """Whether the model is right at each of the images: (B,) bool."""
    records = rb.score(model, data, images, score_draws=SCORE_DRAWS).records
    return torch.tensor(records["correct"].to_numpy())


def fooled_by_libraries(
    model: RandomClassifier, data: ImageDataset, eps: float, options: argparse.Namespace
) -> str:
    """Count the images of `data` that each library fools, and name the libraries."""
    draws = options.draws if model.stochastic else 1
    counts = []
    for name, run in peers(eps, options.times * options.steps, draws):
        images = theirs(run, model, data, 32)
        counts.append(f"{name.split()[0]} {int((~right(model, data, images)).sum())}")
    return ", ".join(counts)


def row(checkpoint: Path, eps: float, options: argparse.Namespace) -> str:
    """Markdown row of a checkpoint and a budget."""
    model = rb.load_checkpoint(checkpoint)
    data = rb.load_dataset(options.dataset, images=options.images)
    after, seconds = auto_of(Path(__file__).parents[1], checkpoint, eps, options)
    before, earlier = auto_of(options.before, checkpoint, eps, options)
    left, stood = right(model, data, after), right(model, data, before)
    fallen = "none is left"
    if left.any():
        fallen = fooled_by_libraries(model, data.select(data.ids[left]), eps, options)
    cells = (
        model.name,
        f"{eps:.4g}",
        str(len(data)),
        percent(wilson(float(left.double().mean()), len(data))),
        f"{seconds:.1f}",
        f"{100 * float(stood.double().mean()):.1f}",
        f"{earlier:.1f}",
        f"{int((left & ~stood).sum())}, {int((stood & ~left).sum())}",
        fallen,
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoints", nargs="*", type=Path, default=[CHECKPOINTS / "digits-multiplicative.safetensors"]
    )
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--eps", type=parse_budget, nargs="+", default=[0.03, 0.06])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for checkpoint in options.checkpoints:
        for eps in options.eps:
            print(row(checkpoint, eps, options), flush=True)


if __name__ == "__main__":
    main()
