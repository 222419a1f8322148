"""Test one measure of one cell, image by image: decisions, single draws, and repeated submissions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation import paired
from robustbench_sde.evaluation.bounds import survives
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.evaluation.tries import enough_draws
from robustbench_sde.regression.measured import ComparedCell
from robustbench_sde.regression.policy import tries_of

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MeasureTest:
    """Test of one measure of one cell, before it is judged."""

    measure: str
    baseline: float
    run: float
    drop: Interval
    p: float
    #: function from the level of the test to the smallest true drop that it finds
    detectable: Callable[[float], float]
    #: function from a true drop and the level of the test to the number of images that find it
    needed: Callable[[float, float], int | None]


def compare_decisions(was: npt.NDArray[np.bool_], now: npt.NDArray[np.bool_], alpha: float) -> MeasureTest:
    """Test the accuracy of the decision rule."""
    images = len(was)
    lost, won = int((was & ~now).sum()), int((now & ~was).sum())
    changed = (lost + won) / images
    return MeasureTest(
        "accuracy",
        float(was.mean()),
        float(now.mean()),
        paired.drop_of_decisions(lost, won, images, alpha),
        paired.sign_flip_test(was.astype(np.int64) - now.astype(np.int64)),
        partial(paired.detectable_by_decisions, images, changed),
        partial(paired.images_for_decisions, changed),
    )


def compare_single_draws(was: Ints, now: Ints, draws: int, alpha: float) -> MeasureTest:
    """Test the accuracy of single draws, from the number of right draws of each image."""
    means = float(was.mean()) / draws, float(now.mean()) / draws
    p = paired.sign_flip_test(was - now)
    return _compare_shares("single_draw_accuracy", means, (was - now) / draws, p, alpha)


def compare_survival(
    was: ComparedCell,
    now: ComparedCell,
    places: tuple[Ints, Ints],
    metric: str,
    cell: str,
    alpha: float,
) -> MeasureTest:
    """Test the accuracy against somebody who may submit an image again, estimated image by image.

    The permutation test takes whole numbers: the estimates are rounded to 1/4096, which keeps it exact.

    Args:
        was, now: the cell in the baseline and in the run.
        places: positions of the images in each.
        metric: like ``survives_10``.
        cell: name in the message of an error.
        alpha: level of the interval.

    Raises:
        BenchError: the score draws are too few for so many submissions.
    """
    tries, estimates = tries_of(metric), []
    for side, rows in zip((was, now), places, strict=True):
        facts, split = side.facts, side.split
        if (facts.answers if split is None else (facts.answers + 1) // 2) < tries:
            raise BenchError(
                f"the policy asks for {metric}, and {cell} has {facts.score_draws} score draws: measure both "
                f"runs with {enough_draws(tries, facts.try_draws)} or more"
            )
        right = side.answered_rightly[rows].astype(np.int64)
        count = np.full(len(right), facts.answers, dtype=np.int64)
        halves = None if split is None else split[rows].astype(np.int64)
        estimates.append(survives(right, count, tries, halves))
    first, second = estimates
    whole = [np.rint(4096 * share).astype(np.int64) for share in (first, second)]
    means = float(first.mean()), float(second.mean())
    p = paired.sign_flip_test(whole[0] - whole[1])
    return _compare_shares(metric, means, first - second, p, alpha)


def _compare_shares(
    measure: str, means: tuple[float, float], drops: npt.NDArray[np.float64], p: float, alpha: float
) -> MeasureTest:
    """Make the test of a measure that is a share for each image, from its drops and its p-value."""
    deviation = float(drops.std(ddof=1)) if len(drops) > 1 else 1.0
    return MeasureTest(
        measure,
        *means,
        paired.drop_of_shares(drops, alpha),
        p,
        partial(paired.detectable_by_shares, len(drops), deviation),
        partial(paired.images_for_shares, deviation),
    )
