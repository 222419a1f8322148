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
from robustbench_sde.regression.measured import Facts
from robustbench_sde.regression.policy import tries_of

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MeasureTest:
    """MeasureTest of one measure of one cell, before it is judged."""

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
    drops = (was - now) / draws
    deviation = float(drops.std(ddof=1)) if len(drops) > 1 else 1.0
    return MeasureTest(
        "single_draw_accuracy",
        float(was.mean()) / draws,
        float(now.mean()) / draws,
        paired.drop_of_shares(drops, alpha),
        paired.sign_flip_test(was - now),
        partial(paired.detectable_by_shares, len(drops), deviation),
        partial(paired.images_for_shares, deviation),
    )


def compare_survival(
    was: npt.NDArray[np.uint16],
    now: npt.NDArray[np.uint16],
    facts: Facts,
    metric: str,
    cell: str,
    alpha: float,
) -> MeasureTest:
    """MeasureTest accuracy against somebody who may submit an image again, estimated image by image.

    The permutation test takes whole numbers: the estimates are rounded to 1/4096, which keeps it exact.

    Raises:
        BenchError: the score draws are too few for so many submissions.
    """
    tries, answers = tries_of(metric), facts.answers
    if answers < tries:
        raise BenchError(
            f"the policy asks for {metric}, and {cell} has {facts.score_draws} score draws: measure both "
            f"runs with {tries * facts.try_draws} or more"
        )
    count = np.full(len(was), answers, dtype=np.int64)
    first, second = (survives(right.astype(np.int64), count, tries) for right in (was, now))
    drops = first - second
    deviation = float(drops.std(ddof=1)) if len(drops) > 1 else 1.0
    return MeasureTest(
        metric,
        float(first.mean()),
        float(second.mean()),
        paired.drop_of_shares(drops, alpha),
        paired.sign_flip_test(
            np.rint(4096 * first).astype(np.int64) - np.rint(4096 * second).astype(np.int64)
        ),
        partial(paired.detectable_by_shares, len(drops), deviation),
        partial(paired.images_for_shares, deviation),
    )
