"""Measures of the studies that need records: differences between cells on the same images.

Both functions take the summary of a study and its folder, and return the summary with more columns: a mean
over images, its normal 95 % interval, NaN for rows to which the measure does not apply.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.statistics import Floats, mean_interval
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import TableRow

#: attack that the paper's own attack is compared with
_HONEST = "apgd-ce"
#: smallest distance of a float32 probability from 1 that is told apart from 0
_LEAST = 2.0**-24


def with_overstated(summary: pd.DataFrame, folder: RunFolder) -> pd.DataFrame:
    """Add `overstated`: the accuracy that the paper's attack and scoring report above the honest accuracy.

    The honest accuracy is that of `apgd-ce` at the same budget. Clean rows are repeated as budget 0 of every
    attack.
    """
    clean, attacked = (summary[(summary["perturbation"] == "clean") == which] for which in (True, False))
    kinds = dict.fromkeys(zip(attacked["perturbation"], attacked["norm"], strict=True))
    starts = [clean.assign(perturbation=str(kind), norm=str(norm), eps=0.0) for kind, norm in kinds]
    summary = pd.concat([*starts, attacked], ignore_index=True)
    honest = {
        (row["checkpoint"], row["eps"], row["seed"]): row["cell"]
        for row in summary[summary["perturbation"] == _HONEST].to_dict("records")
    }

    def difference(row: TableRow) -> Floats | None:
        partner = honest.get((row["checkpoint"], row["eps"], row["seed"]))
        if row["perturbation"] != "liu2020" or partner is None:
            return None
        own, other = folder.read_records(row["cell"]), folder.read_records(partner)
        return (own["share_correct"] - other["correct"]).to_numpy(dtype=np.float64)

    return _with_mean(summary, "overstated", difference)


def with_change(summary: pd.DataFrame, folder: RunFolder) -> pd.DataFrame:
    """Add `change` and `logit_change`: distance of the label's probability and logit to the finest solve.

    The finest solve is the one with the most steps. The logit of p is log(p / (1 - p)): for one draw
    the logit of the label less the log-sum-exp of all others.
    """
    finest = summary.loc[summary.groupby("checkpoint")["solver_steps"].idxmax()]
    reference = dict(zip(finest["checkpoint"], finest["cell"], strict=True))

    def probabilities(cell: str) -> Floats:
        return folder.read_records(cell)["label_probability"].to_numpy(dtype=np.float64)

    def distance(transform: Callable[[Floats], Floats]) -> Callable[[TableRow], Floats | None]:
        def to_finest(row: TableRow) -> Floats | None:
            finer = reference[row["checkpoint"]]
            if finer == row["cell"]:
                return None
            return np.abs(transform(probabilities(row["cell"])) - transform(probabilities(finer)))

        return to_finest

    changed = _with_mean(summary, "change", distance(lambda p: p))
    return _with_mean(changed, "logit_change", distance(_logit), most=np.inf)


def _logit(probability: Floats) -> Floats:
    """Return finite logits; probabilities are clipped to the float32 values next to 0 and 1."""
    inside = probability.clip(_LEAST, 1 - _LEAST)
    odds: Floats = inside / (1 - inside)
    return np.log(odds)


def _with_mean(
    summary: pd.DataFrame, name: str, difference: Callable[[TableRow], Floats | None], most: float = 1.0
) -> pd.DataFrame:
    """Add the mean of per-image differences with its interval, whose absolute value is at most `most`."""
    found = []
    for row in summary.to_dict("records"):
        values = difference(row)
        if values is None:
            found.append((np.nan, np.nan, np.nan))
            continue
        mean, low, high = mean_interval(values)
        least = 0.0 if (values >= 0).all() else -most
        found.append((mean, max(least, low), min(most, high)))
    columns = np.array(found, dtype=np.float64).reshape(-1, 3).T
    return summary.assign(**dict(zip((name, f"{name}_low", f"{name}_high"), columns, strict=True)))
