"""The bracket of robust accuracy: certified from below, attacked from above, each a check of the other."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.bounds import bernstein_high, high_of_pairs
from robustbench_sde.evaluation.certificate_report import Bracket
from robustbench_sde.evaluation.certify_settings import CertifySettings
from robustbench_sde.evaluation.numbers import certified_at
from robustbench_sde.evaluation.statistics import wilson

#: rounding of a distance in float32
_SLACK = 1e-6
#: images that a status names, at most
_NAMED = 10


class Evaluated(NamedTuple):
    """A cell of the smoothed classifier, scored by the rule that is certified, on a fixed number of draws."""

    #: row of the summary (`SUMMARY`)
    row: Mapping[str, Any]
    #: one row per image (`RECORDS`)
    records: pd.DataFrame


def make_brackets(
    certificates: pd.DataFrame, evaluated: Sequence[Evaluated], settings: CertifySettings
) -> tuple[tuple[Bracket, ...], str]:
    """Put certified accuracy beside the lowest accuracy under an attack with each radius as its budget.

    Every cell tests every certificate that its images are within: an image that was moved by less than its
    certified radius and is fooled beyond chance contradicts the certificate, whatever has moved it.

    Args:
        certificates: one row per image (`CERTIFICATES`).
        evaluated: cells of the same classifier and images: clean, attacked or corrupted.
        settings: radii, rule and error.

    Returns:
        A bracket for each radius, and a status: `ok`, or `invalid: ...` with the contradicted images.
    """
    tests = sum(int(_tested(certificates, cell.records).sum()) for cell in evaluated)
    wrong = {
        id(cell): contradictions(certificates, cell.records, settings, tests=tests) for cell in evaluated
    }
    found = []
    for radius in settings.radii:
        here = [cell for cell in evaluated if _budget(cell.row) == radius]
        worst = min(here, key=lambda cell: float(cell.row["accuracy"]), default=None)
        fooled = {image for cell in here for image in wrong[id(cell)]}
        found.append(
            Bracket(
                radius,
                wilson(float(certified_at(certificates, radius).mean()), len(certificates)),
                None if worst is None else _accuracy(worst.row),
                tuple(sorted(fooled)),
                "" if worst is None or not radius else str(worst.row["perturbation"]),
            )
        )
    return tuple(found), _status(evaluated, wrong)


def contradictions(
    certificates: pd.DataFrame, moved: pd.DataFrame, settings: CertifySettings, *, tests: int = 0
) -> list[int]:
    """Find images that were moved by less than their certified radius and are fooled beyond chance.

    An image is fooled beyond chance if the upper bound of its label's vote share (or mean probability) on
    fresh draws is below one half. A pair of draws is one observation. The bounds of all tests together err
    with probability `alpha`.

    Args:
        certificates: one row per image (`CERTIFICATES`).
        moved: records (`RECORDS`) of the same images, perturbed; the column `l2` says how far.
        settings: rule and error.
        tests: number of tests among which `alpha` is shared; 0: as many as there are here.

    Returns:
        Their image ids; there are none if the certificates and the noise are sound.
    """
    rows = moved[_tested(certificates, moved)].to_dict("records")
    found = []
    for row in rows:
        alpha = settings.alpha / (tests or len(rows))
        draws, mean = int(row["score_draws"]), float(row["label_probability"])
        if settings.rule == "vote":
            right = round(float(row["share_correct"]) * draws)
            high = high_of_pairs(right, draws, alpha)
        elif draws < 4:
            high = 1.0
        else:  # no values in [0, 1] with this mean have a larger variance
            pairs = draws // 2
            high = bernstein_high(mean, mean * (1 - mean) * pairs / (pairs - 1), pairs, alpha)
        if high < 0.5:
            found.append(int(row["image_id"]))
    return found


def _tested(certificates: pd.DataFrame, moved: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Say which images have a right certificate that reaches beyond where they were moved."""
    reach = certificates["radius"].to_numpy() > moved["l2"].to_numpy() + _SLACK
    tested: np.ndarray[Any, np.dtype[np.bool_]] = certificates["correct"].to_numpy() & reach
    return tested


def _accuracy(row: Mapping[str, Any]) -> tuple[float, float, float]:
    return float(row["accuracy"]), float(row["accuracy_low"]), float(row["accuracy_high"])


def _budget(row: Mapping[str, Any]) -> float:
    """Return the L2 budget of a row: 0 for clean images, NaN for what has none."""
    if row["perturbation"] == "clean":
        return 0.0
    return float(row["eps"]) if row["norm"] == "l2" and row["perturbation"] != "control" else float("nan")


def _status(evaluated: Sequence[Evaluated], wrong: Mapping[int, Sequence[int]]) -> str:
    named, attacks = [], []
    for cell in evaluated:
        if wrong[id(cell)]:
            attacks.append(str(cell.row["perturbation"]))
            at = dict(zip(cell.records["image_id"], cell.records["l2"], strict=True))
            named += [f"image {image} at {at[image]:.3g}" for image in wrong[id(cell)]]
    if not named:
        return "ok"
    count = f"{len(named)} certificate{'s' * (len(named) > 1)}"
    images = ", ".join(named[:_NAMED]) + ", ..." * (len(named) > _NAMED)
    return f"invalid: {count} contradicted by {', '.join(dict.fromkeys(attacks))} ({images})"
