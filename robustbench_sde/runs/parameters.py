"""Tell attacks of one name apart by the parameters in which they differ."""

import ast
from collections.abc import Sequence
from typing import Any

import pandas as pd

#: parameters that every table shows already
_NAMED = ["norm", "eps"]


def tell_apart(summary: pd.DataFrame, cells: Sequence[Any]) -> pd.DataFrame:
    """Return the summary with names like ``pgd steps=3``, so that no curve mixes two settings of an attack.

    Args:
        summary: rows of a run.
        cells: the list `cells` of its manifest, whose `perturbation` holds every parameter.
    """
    parameters = {
        entry["cell"]: _parameters(str(entry.get("perturbation")))
        for entry in cells
        if isinstance(entry, dict) and "cell" in entry
    }
    names = summary["perturbation"].copy()
    attacks = summary[(summary["norm"] != "") & (summary["perturbation"] != "control")]
    for _, rows in attacks.groupby(["perturbation", "norm"], sort=False):
        known = pd.DataFrame([parameters.get(cell, {}) for cell in rows["cell"]], index=rows.index)
        for parameter in known.columns[known.nunique(dropna=False) > 1].difference(_NAMED, sort=False):
            names[rows.index] += f" {parameter}=" + known[parameter].astype(str)
    return summary.assign(perturbation=names)


def _parameters(text: str) -> dict[str, str]:
    """Return the keyword arguments of ``PGD(eps=0.03, steps=20)`` as text; none if it is no such call."""
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    if not isinstance(call, ast.Call):
        return {}
    return {
        keyword.arg: str(keyword.value.value)
        for keyword in call.keywords
        if keyword.arg and isinstance(keyword.value, ast.Constant)
    }
