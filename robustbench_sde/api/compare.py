"""`compare`: two runs, image by image."""

from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_sde.errors import BenchError
from robustbench_sde.regression import compare as gate
from robustbench_sde.regression.baseline import read_side
from robustbench_sde.regression.policy import load_policy
from robustbench_sde.regression.verdict import Comparison
from robustbench_sde.storage.runs_here import resolve

if TYPE_CHECKING:  # it needs torch, and a comparison does not
    from robustbench_sde.api.result import Result


def compare(
    baseline: "Result | str | Path",
    run: "Result | str | Path",
    *,
    policy: str | Path | None = None,
    max_drop: float | None = None,
    alpha: float | None = None,
) -> Comparison:
    """Find out whether robustness has regressed: compare a run with a baseline image by image (docs/ci.md).

    Args:
        baseline: a result in a folder, the folder of a run or its name in reports/, or a baseline file
            (`Result.save_baseline`).
        run: run to compare with the baseline, given in the same ways.
        policy: YAML file with limits for each cell; None: one limit for all cells.
        max_drop: largest drop of an accuracy that is tolerated, as a share; None: that of the policy, or
            0.02.
        alpha: probability of a false verdict over all cells; None: that of the policy, or 0.05.

    Returns:
        The verdict of the comparison, and for every cell its verdict and its numbers.

    Raises:
        BenchError: the baseline or the run cannot be read, or the policy is wrong.
    """
    limits = load_policy(None if policy is None else Path(policy), max_drop=max_drop, alpha=alpha)
    return gate.compare(read_side(_place(baseline)), read_side(_place(run)), limits)


def _place(side: "Result | str | Path") -> Path:
    if isinstance(side, str | Path):
        return resolve(side)
    if side.folder is None:
        raise BenchError("only runs in folders can be compared: give `out`")
    return side.folder
