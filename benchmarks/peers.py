"""`auto` against the attacks of torchattacks and foolbox, everybody's images scored by us on the same draws.

    pip install -e '.[test]'
    python -m benchmarks.peers [--checkpoints FILE ...] [--dataset digits] [--images 200] [--eps 0.03 0.06]
                                [--gradients 250] [--families [--standing]] [--threads 1] [--out FILE.md]

A budget is a number of gradients an image, each of 8 draws on a random network. `auto` may take no more than
that and every other attacker is given no less: steps of 2.5 eps / steps, 20 draws each (one on an ODE). The
peers see a random network as their users would: every forward pass is one fresh draw of each image. foolbox's
PGD runs behind our model, which gives it the mean probability over the draws. `auto` leaves settled images
alone, and APGD those that one draw got wrong: hence its second row, the points of highest loss, for which it
drops no image. The others go on to the end.

`--families` runs `auto` against other attackers instead (`benchmarks/families.py`): targeted, boundary,
black-box and ensemble attacks, each with five times the passes that `auto` may take. With `--standing` they
attack only the images that `auto` leaves, and those that it fools count as fooled by everybody: no other
image can be one that an attacker finds and `auto` does not.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchattacks
from torch import Tensor, nn

import robustbench_sde as rb
from benchmarks.families import MeanDraws, families
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.statistics import Interval, paired, wilson
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.sde.draws import Draws, Stream
from robustbench_sde.texts import parse_budget

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
#: Draws in a gradient of the budget, in one of a peer (as in `rand` of AutoAttack), and in scoring everybody.
BUDGET_DRAWS, PEER_DRAWS, SCORE_DRAWS = 8, 20, 128
#: How far `auto` may be above an attacker.
TOLERANCE = 0.01
#: Passes of an attacker of `--families`, for each that `auto` may take.
TIMES = 5


class OneDraw(nn.Module):
    """A random classifier as a plain module: each forward pass takes the next draw of every image.

    Counts its calls, and backward passes times images.
    """

    def __init__(self, model: RandomClassifier) -> None:
        super().__init__()
        self.model = model
        self.calls = 0
        self.backward_passes = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1]."""
        # independent draws, as the numbers of `torch.randn` in a user's module are
        draws = Draws.independent(0, Stream.ATTACK, self.calls, 1)
        self.calls += 1
        logits = self.model.logits(images, torch.arange(len(images)), draws)[0]
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)


@dataclass(frozen=True)
class Made:
    """An attacker's images (n, C, H, W) and what they took."""

    images: Tensor
    #: gradient passes of one draw: mean over the images
    passes: float
    #: the most that it gives to an image
    most: int
    seconds: float


@dataclass(frozen=True)
class Job:
    """What all attackers of a table block have in common; the norm is linf."""

    model: RandomClassifier
    data: ImageDataset
    eps: float

    def ours(self, name: str, **parameters: object) -> Made:
        """An attack of our registry."""
        attack = make_attack(name, norm="linf", eps=self.eps, **parameters)
        started = time.perf_counter()
        made = attack(self.model, to_float(self.data.images), self.data.labels, self.data.ids)
        taken = made.backward_passes
        seconds = time.perf_counter() - started
        return Made(made.images, float(taken.double().mean()), int(taken.max()), seconds)

    def theirs(self, most: int, run: Callable[[OneDraw, Tensor, Tensor], Tensor]) -> Made:
        """Images that `run` makes of (module, images, labels)."""
        module = OneDraw(self.model).eval()
        images, seconds = self._run(run, module)
        return Made(images, module.backward_passes / len(self.data), most, seconds)

    def of_family(self, most: int, run: Callable[[MeanDraws, Tensor, Tensor], Tensor]) -> Made:
        """Images that `run` makes of (module, images, labels); passes of a black box are forward ones."""
        module = MeanDraws(self.model).eval()
        images, seconds = self._run(run, module)
        passes = module.backward_passes or module.forward_passes
        return Made(images, passes / len(self.data), most, seconds)

    def _run(self, run: Callable[[Any, Tensor, Tensor], Tensor], module: nn.Module) -> tuple[Tensor, float]:
        """Images and seconds of `run`; torch's global generator is left as it was."""
        started = time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            images = run(module, to_float(self.data.images), self.data.labels).detach()
        return images, time.perf_counter() - started


def attackers(job: Job, gradients: int) -> Iterator[tuple[str, Made]]:
    """Name and images of each attacker, `auto` first; it gets no more than the budget, the others no less."""
    budget = gradients * (BUDGET_DRAWS if job.model.stochastic else 1)
    yield "auto", job.ours("auto", passes=budget)
    draws = PEER_DRAWS if job.model.stochastic else 1
    steps = math.ceil(budget / draws)
    total = steps * draws
    yield "pgd", job.ours("pgd", steps=steps, eot_draws=draws, passes=total)

    def eotpgd(module: OneDraw, images: Tensor, labels: Tensor) -> Tensor:
        step = 2.5 * job.eps / steps
        attack = torchattacks.EOTPGD(module, eps=job.eps, alpha=step, steps=steps, eot_iter=draws)
        return attack(images, labels)

    def apgd(module: OneDraw, images: Tensor, labels: Tensor) -> Tensor:
        return torchattacks.APGD(module, eps=job.eps, steps=steps, eot_iter=draws)(images, labels)

    def apgd_best_loss(module: OneDraw, images: Tensor, labels: Tensor) -> Tensor:
        attack = torchattacks.APGD(module, eps=job.eps, steps=steps, eot_iter=draws)
        return attack.perturb(images, labels, best_loss=True)[1]

    yield "torchattacks EOTPGD", job.theirs(total, eotpgd)
    yield "torchattacks APGD", job.theirs(total + draws, apgd)
    yield "torchattacks APGD, highest loss", job.theirs(total + draws, apgd_best_loss)
    yield "foolbox LinfPGD", job.ours("foolbox:LinfPGD", steps=steps, eot_draws=draws, passes=total)


def other_families(job: Job, gradients: int, *, standing: bool = False) -> Iterator[tuple[str, Made]]:
    """Name and images of `auto`, which gets no more than the budget, and of the attackers of `families`.

    If `standing`, these get the images that stand under `auto`, and its images elsewhere.
    """
    budget = gradients * (BUDGET_DRAWS if job.model.stochastic else 1)
    auto = job.ours("auto", passes=budget)
    yield "auto", auto
    rows = torch.arange(len(job.data))
    if standing:
        rows = torch.from_numpy(correct(job, auto.images)).nonzero()[:, 0]
    some = Job(job.model, job.data.select(job.data.ids[rows]), job.eps)
    for name, run in families(job.model, job.eps, TIMES * budget):
        made = some.of_family(TIMES * budget, run)
        yield name, replace(made, images=auto.images.index_copy(0, rows, made.images))


def correct(job: Job, images: Tensor) -> np.ndarray:
    """Return which images still stand by our scoring: (n,) float.

    Raises:
        BenchError: an image is outside the ball.
    """
    records = rb.score(job.model, job.data, images, score_draws=SCORE_DRAWS).records
    if records["linf"].max() > job.eps + 1e-6:
        raise BenchError(f"an image is {records['linf'].max():.3g} away; the budget is {job.eps:g}")
    return records["correct"].to_numpy(dtype=float)


def percent(interval: Interval) -> str:
    """`84.5 (78.8-88.9)`, in percent or points."""
    return "{:.1f} ({:.1f} to {:.1f})".format(*(100 * value for value in interval))


HEADER = (
    "| checkpoint | eps | attacker | accuracy left (95 %) | auto less attacker, points (95 %) "
    "| auto <= attacker + 1 | gradient passes an image: mean (largest; of others, allowed) | seconds |\n"
    "|---|---|---|---|---|---|---|---|"
)


def table_rows(job: Job, made_by: Iterator[tuple[str, Made]]) -> Iterator[str]:
    """Markdown rows of one checkpoint at one budget, each as soon as it is known."""
    left = None
    for name, made in made_by:
        stands = correct(job, made.images)
        left = stands if left is None else left
        difference = left - stands
        verdict = "yes" if difference.mean() <= TOLERANCE + 1e-9 else "**no**"
        comparison = ("", "") if name == "auto" else (percent(paired(difference)), verdict)
        cells = (
            *(job.model.name, f"{job.eps:g}", name),
            percent(wilson(float(stands.mean()), len(stands))),
            *comparison,
            f"{made.passes:.0f} ({made.most})",
            f"{made.seconds:.0f}",
        )
        yield f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoints",
        nargs="+",
        type=Path,
        default=[path for path in sorted(CHECKPOINTS.glob("digits-*")) if "smoothed" not in path.name],
    )
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--eps", type=parse_budget, nargs="+", default=[0.03, 0.06])
    parser.add_argument("--gradients", type=int, default=250, help="gradients an image, see above")
    parser.add_argument("--families", action="store_true", help="other attackers, at five times the passes")
    parser.add_argument("--standing", action="store_true", help="these attack the images that auto leaves")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rivals = partial(other_families, standing=options.standing) if options.families else attackers
    data = rb.load_dataset(options.dataset, images=options.images)
    lines = [
        f"{data.name}, {len(data)} images, linf, {SCORE_DRAWS} score draws, "
        f"{options.gradients} gradients an image, {options.threads} thread(s).\n",
        *HEADER.splitlines(),
    ]
    print("\n".join(lines), flush=True)
    for checkpoint in options.checkpoints:
        model = rb.load_checkpoint(checkpoint)
        for eps in options.eps:
            job = Job(model, data, eps)
            for row in table_rows(job, rivals(job, options.gradients)):
                print(row, flush=True)
                lines.append(row)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
