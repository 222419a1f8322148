"""Export a run in the words of RobustBench's `model_info/<dataset>/<threat>/<model>.json`."""

from typing import Any

import pandas as pd

#: RobustBench's words for our norms.
_THREATS = {"linf": "Linf", "l2": "L2"}
#: Fields that only the authors know, to be filled in by hand.
_TO_BE_FILLED = {"link": None, "authors": None, "venue": None, "architecture": None, "additional_data": None}


def robustbench_entries(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one entry per checkpoint, noise, norm and eps: clean accuracy, and the lowest under attack.

    `autoattack_acc` is present only if `auto` was run: our ensemble through the noise, not AutoAttack itself.
    `reported` is the lowest accuracy of all attacks of the run. Values are in percent, as there. Rows whose
    status is not ok are left out. `sde_bench` holds values for which RobustBench has no field.
    """
    ok = summary.loc[summary["status"] == "ok"]
    entries = []
    settings = ["checkpoint", "dataset", "sigma", "score_draws", "rule", "seed", "norm", "eps"]
    attacked = ok.loc[ok["norm"].isin(list(_THREATS)) & ok["eps"].gt(0)]
    for _, rows in attacked.groupby(settings, dropna=False, sort=False):
        worst = rows.nsmallest(1, "accuracy").iloc[0]
        same = _same(ok, worst, settings[:-2]) & (ok["perturbation"] == "clean")
        clean = ok.loc[same].iloc[0] if same.any() else None
        auto = rows.loc[rows["perturbation"] == "auto"]
        entries.append(
            {
                "name": worst["checkpoint"],
                **_TO_BE_FILLED,
                "number_forward_passes": int(worst["score_draws"]),
                "dataset": worst["dataset"],
                "threat_model": _THREATS[worst["norm"]],
                "eps": _eps(float(worst["eps"]), worst["norm"]),
                "clean_acc": None if clean is None else _percent(clean["accuracy"]),
                "reported": _percent(worst["accuracy"]),
                **({"autoattack_acc": _percent(auto["accuracy"].iloc[0])} if len(auto) else {}),
                "sde_bench": {
                    "attack": worst["perturbation"],
                    "attacks": list(dict.fromkeys(rows["perturbation"])),
                    "images": int(worst["images"]),
                    "rule": worst["rule"],
                    "reported_interval": [_percent(worst["accuracy_low"]), _percent(worst["accuracy_high"])],
                    "noise": worst["noise"],
                    "sigma": None if pd.isna(worst["sigma"]) else float(worst["sigma"]),
                    "seed": int(worst["seed"]),
                    "fingerprint": worst["fingerprint"],
                },
            }
        )
    return entries


def _same(frame: pd.DataFrame, row: "pd.Series[Any]", columns: list[str]) -> "pd.Series[bool]":
    """Return a mask of rows equal to `row` in all `columns`; NaN equals NaN."""
    same = pd.Series(True, index=frame.index)
    for name in columns:
        same &= frame[name].isna() if pd.isna(row[name]) else frame[name] == row[name]
    return same


def _eps(eps: float, norm: str) -> str:
    levels = eps * 255
    whole = norm == "linf" and abs(levels - round(levels)) < 1e-9
    return f"{round(levels)}/255" if whole else f"{eps:g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
