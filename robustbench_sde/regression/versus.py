"""Is one network more robust than another? Each network less a reference, image by image, by setting.

Trainings of a kind are pooled (`evaluation.trainings`). Two single trainings are compared by an exact paired
test, and then the answer is about these two networks: `ONE_TRAINING` says why that matters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation import paired
from robustbench_sde.evaluation.statistics import Floats
from robustbench_sde.evaluation.trainings import Spread, difference
from robustbench_sde.regression.answer import ALPHA, Contrast, Setting, Versus, VersusRow, setting_text
from robustbench_sde.regression.measured import ComparedCell, Side
from robustbench_sde.regression.networks import (
    find_reference,
    group_by_kind,
    group_by_network,
    is_sde_against_ode,
    settings_of,
    unequal_efforts,
)

#: Remark on tables without a kind that was trained several times; the figures are those of docs/results.md.
ONE_TRAINING = (
    "one training of each: the intervals hold other images but not other trainings, and trainings differ by "
    "more than images do: three seeds of a kind were up to 2 points apart on CIFAR-10 and 13 to 42 points on "
    "the embedded digits (L2 0.5, docs/results.md); train each kind three times to speak of kinds"
)
#: beginning of a warning about unequal effort
UNEQUAL = "unequal effort"
#: words of a warning that a row was passed over
LEFT_OUT = "is left out"


def versus(
    side: Side,
    reference: str,
    kinds: Mapping[str, Sequence[str]] | None = None,
    *,
    allow_unequal: bool = False,
    warnings: Sequence[str] = (),
) -> Versus:
    """Compare all networks of a run with one of them, image by image.

    Args:
        side: cells of the run.
        reference: name of a checkpoint or of a kind; a checkpoint stands for its kind.
        kinds: checkpoints of each kind that was trained several times; others are kinds of their own.
        allow_unequal: whether cells whose attacks or scoring differ may be compared.
        warnings: faults that are known already, like failed audits.

    Raises:
        BenchError: the reference is not in the run, is several networks, shares no setting with another, or
            was attacked with other effort.
    """
    networks = group_by_network(side.cells)
    members = group_by_kind(networks, kinds or {})
    base = find_reference(reference, members)
    left_out = [
        f"{cell.facts.label} {LEFT_OUT} ({cell.status})" for cell in side.cells if cell.status != "ok"
    ]
    why = f": {left_out[0]}" if left_out else ""
    if len(members) == 1:
        raise BenchError(f"{side.name} has no network beside {reference!r} to compare it with{why}")
    drafts: list[_Draft] = []
    unequal: list[str] = []
    spread: dict[str, float] = {}
    for setting in settings_of(networks[name] for name in members[base]):
        at = {
            kind: [cell for name in names if (cell := networks[name].get(setting)) is not None]
            for kind, names in members.items()
        }
        at = {kind: cells for kind, cells in at.items() if cells}
        unequal += list(unequal_efforts(setting, at, base))
        drafts += _draft_rows(setting, at, base, spread)
    if not drafts:
        raise BenchError(f"{reference!r} shares no valid perturbation setting with another network{why}")
    if unequal and not allow_unequal:
        raise BenchError(f"{UNEQUAL}: {unequal[0]}; run both alike, or allow it with `allow_unequal`")
    notes = [] if spread else [ONE_TRAINING]
    return Versus(
        reference=base,
        dataset=side.cells[0].facts.dataset,
        rows=tuple(_with_holm(drafts)),
        kinds={kind: tuple(names) for kind, names in members.items()},
        sde_against_ode=is_sde_against_ode(networks, members, base),
        spread=spread,
        warnings=tuple(dict.fromkeys([*warnings, *left_out, *(f"{UNEQUAL}: {text}" for text in unequal)])),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Draft:
    """Row whose p-values are not adjusted yet, with what computes a detectable difference for a level."""

    #: subject, numbers of trainings, setting and number of images: the first fields of a `VersusRow`
    head: tuple[str, tuple[int, int], str, str, float | None, float | None, int]
    tests: tuple["_Test", ...]


@dataclass(frozen=True)
class _Test:
    contrast: Contrast
    #: (images,) difference of each image, for single trainings; None: `freedom` and `error` hold
    changes: Floats | None
    detectable: Any


def _draft_rows(
    setting: Setting, at: Mapping[str, Sequence[ComparedCell]], base: str, spread: dict[str, float]
) -> Iterator[_Draft]:
    if len(at) < 2:
        return
    ids = None
    for cell in (cell for cells in at.values() for cell in cells):
        ids = cell.ids if ids is None else np.intersect1d(ids, cell.ids, assume_unique=True)
    if ids is None or not len(ids):
        raise BenchError(f"the networks have no image in common under {setting_text(setting)}")
    if len({cell.facts.fingerprint for cells in at.values() for cell in cells}) > 1:
        raise BenchError(f"the networks were measured on different data under {setting_text(setting)}")
    right = {kind: np.stack([_decisions(cell, ids) for cell in cells]) for kind, cells in at.items()}
    shares = {kind: np.stack([_shares(cell, ids) for cell in cells]) for kind, cells in at.items()}
    pooled = Spread.pooled(list(right.values()))
    pooled_shares = Spread.pooled(list(shares.values()))
    if pooled is not None:
        spread[setting_text(setting)] = pooled.deviation
    for kind, cells in at.items():
        if kind == base:
            continue
        tests = [_test("accuracy", right[kind], right[base], 1, pooled)]
        draws = int(np.lcm.reduce([cell.facts.score_draws for cell in (*cells, *at[base])]))
        if draws > 1:
            tests.append(_test("single_draw_accuracy", shares[kind], shares[base], draws, pooled_shares))
        yield _Draft((kind, (len(cells), len(at[base])), *setting, len(ids)), tuple(tests))


def _decisions(cell: ComparedCell, ids: Any) -> Floats:
    return _pick(cell, ids, cell.correct)


def _shares(cell: ComparedCell, ids: Any) -> Floats:
    return _pick(cell, ids, cell.right_draws) / cell.facts.score_draws


def _pick(cell: ComparedCell, ids: Any, values: Any) -> Floats:
    """Return the values of the images with these ids, in their order."""
    order = np.argsort(cell.ids)
    found: Floats = values[order[np.searchsorted(cell.ids, ids, sorter=order)]].astype(np.float64)
    return found


def _test(
    measure: Literal["accuracy", "single_draw_accuracy"],
    subject: Floats,
    reference: Floats,
    draws: int,
    pooled: Spread | None,
) -> _Test:
    """Compare (trainings, images) outcomes, whole multiples of 1 / `draws`."""
    found = difference(subject, reference, pooled)
    p, detectable = found.p, found.detectable
    changes = subject[0] - reference[0]
    if pooled is None:
        p = paired.sign_flip_test(np.rint(changes * draws).astype(np.int64))
        if draws == 1:
            images, changed = len(changes), float(np.abs(changes).mean())

            def detectable(level: float) -> float:
                return paired.detectable_by_decisions(images, changed, level)

    contrast = Contrast(
        measure, float(reference.mean()), float(subject.mean()), found.interval, p, p, detectable=1.0
    )
    return _Test(contrast, changes, detectable)


def _with_holm(drafts: Sequence[_Draft]) -> Iterator[VersusRow]:
    tests = [test for draft in drafts for test in draft.tests]
    adjusted = iter(paired.holm([test.contrast.p for test in tests]))
    for draft in drafts:
        accuracy, *single_draw = (
            replace(test.contrast, p_holm=next(adjusted), detectable=test.detectable(ALPHA / len(tests)))
            for test in draft.tests
        )
        yield VersusRow(*draft.head, accuracy, single_draw[0] if single_draw else None)
