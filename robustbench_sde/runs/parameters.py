"""Tell attacks of one name apart by the parameters in which they differ."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

#: parameters that every table shows already
_NAMED = ["norm", "eps"]


def tell_apart(summary: pd.DataFrame, cells: Sequence[Any]) -> pd.DataFrame:
    """Return the summary with names like ``pgd steps=3``, so that no curve mixes two settings of an attack.

    Args:
        summary: rows of a run.
        cells: the list `cells` of its manifest, whose `parameters` holds every parameter by name.
    """
    parameters = {
        entry["cell"]: {name: str(value) for name, value in entry["parameters"].items()}
        for entry in cells
        if isinstance(entry, dict) and "cell" in entry and isinstance(entry.get("parameters"), dict)
    }
    names = summary["perturbation"].copy()
    attacks = summary[(summary["norm"] != "") & (summary["perturbation"] != "control")]
    for _, rows in attacks.groupby(["perturbation", "norm"], sort=False):
        known = pd.DataFrame([parameters.get(cell, {}) for cell in rows["cell"]], index=rows.index)
        for parameter in known.columns[known.nunique(dropna=False) > 1].difference(_NAMED, sort=False):
            names[rows.index] += f" {parameter}=" + known[parameter].astype(str)
    return summary.assign(perturbation=names)
