"""Is one network more robust than another? Each network less a reference, image by image, by setting.

Trainings of a kind are pooled (`evaluation.trainings`). Two single trainings are compared by an exact paired
test, and then the answer is about these two networks: `ONE_TRAINING` says why that matters.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from robustbench_sde.errors import BenchError, counted, unknown_name
from robustbench_sde.evaluation import paired
from robustbench_sde.evaluation.statistics import Floats, Interval
from robustbench_sde.evaluation.trainings import Spread, difference
from robustbench_sde.regression.measured import ComparedCell, Side
from robustbench_sde.storage.files import parse_json

#: Probability of one or more false differences in a whole table (Holm).
ALPHA = 0.05
#: Remark on tables without a kind that was trained several times; the figures are those of docs/results.md.
ONE_TRAINING = (
    "one training of each: the intervals hold other images but not other trainings, and trainings differ by "
    "more than images do: three seeds of a kind were up to 2 points apart on CIFAR-10 and 15 to 34 points on "
    "the embedded digits (L2 0.5, docs/results.md); train each kind three times to speak of kinds"
)
#: beginning of a warning about unequal effort
UNEQUAL = "unequal effort"
#: largest number of settings about which there is a sentence each
_MOST_SENTENCES = 6
#: largest common number of draws for which single draws are tested exactly
_MOST_DRAWS = 2**16

Setting = tuple[str, str, float | None, float | None]


@dataclass(frozen=True)
class Contrast:
    """One accuracy of a subject and of the reference, on the same images; differences are shares."""

    measure: Literal["accuracy", "single_draw_accuracy"]
    reference: float
    subject: float
    #: subject less reference, with its 95 % interval
    difference: Interval
    #: two-sided p-value, alone and adjusted for all tests of the table (Holm)
    p: float
    p_holm: float
    #: smallest true difference that would have been found in 80 % of tables like this; 1: none
    detectable: float

    @property
    def differs(self) -> bool:
        """Whether the difference is beyond chance, all tests of the table considered."""
        return self.p_holm <= ALPHA

    @property
    def words(self) -> str:
        """Difference in words, like ``16.0 points below``."""
        side = "below" if self.difference.estimate < 0 else "above"
        return f"{100 * abs(self.difference.estimate):.1f} points {side}"

    @property
    def evidence(self) -> str:
        """Interval and p-value in the direction of `words`, like ``9.1 to 22.9, p = 2e-06``."""
        low, high = self.difference.low, self.difference.high
        if self.difference.estimate < 0:
            low, high = -high, -low
        return f"{100 * low:.1f} to {100 * high:.1f}, p = {self.p_holm:.1g}"


@dataclass(frozen=True)
class VersusRow:
    """One subject and the reference under one perturbation setting."""

    #: name of a checkpoint, or of a kind
    subject: str
    #: number of trainings of the subject and of the reference
    trainings: tuple[int, int]
    perturbation: str
    norm: str
    eps: float | None
    severity: float | None
    #: number of images that all networks have
    images: int
    accuracy: Contrast
    #: contrast of the single-draw accuracy; None if neither network is random
    single_draw: Contrast | None

    @property
    def setting(self) -> str:
        """Perturbation in words, like ``pgd linf 0.03`` or ``fog 3``."""
        return setting_text((self.perturbation, self.norm, self.eps, self.severity))


@dataclass(frozen=True)
class Versus:
    """All subjects less the reference."""

    reference: str
    dataset: str
    rows: tuple[VersusRow, ...]
    #: names of the checkpoints of each kind
    kinds: Mapping[str, tuple[str, ...]]
    #: whether all subjects are random and the reference is not
    sde_against_ode: bool = False
    #: standard deviation between trainings of a kind, as a share, by setting; empty without several trainings
    spread: Mapping[str, float] = field(default_factory=dict)
    #: faults that forbid or limit the use of the table
    warnings: tuple[str, ...] = ()
    #: remarks for the reader
    notes: tuple[str, ...] = ()
    #: folder of the run; None: in memory
    folder: Path | None = None

    @property
    def settings(self) -> list[str]:
        """Perturbation settings in the order of the table."""
        return list(dict.fromkeys(row.setting for row in self.rows))

    def sentences(self) -> list[str]:
        """Say the answer: one sentence for each setting, or for those with a difference if there are many."""
        perturbed = [setting for setting in self.settings if setting != "clean"]
        said = {
            setting: self._sentence(setting) for setting in [*perturbed, "clean"] if setting in self.settings
        }
        if len(said) <= _MOST_SENTENCES:
            return list(said.values())
        telling = [s for s in said if any(row.accuracy.differs for row in self.rows if row.setting == s)]
        silent = len(said) - len(telling)
        rest = [f"under {counted(silent, 'setting')} nothing differs from {self._name} beyond chance"]
        return [*(said[setting] for setting in telling[:_MOST_SENTENCES]), *(rest if silent else [])]

    @classmethod
    def from_json(cls, text: str | bytes) -> "Versus":
        """Read a comparison that was written as the JSON of `to_dict`.

        Raises:
            BenchError: the text is something else.
        """
        return parse_json(_VERSUS, text, "comparison of `versus`")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        rows = [asdict(row) for row in self.rows]
        return {
            "reference": self.reference,
            "sde_against_ode": self.sde_against_ode,
            "dataset": self.dataset,
            "alpha": ALPHA,
            "answer": self.sentences(),
            "kinds": {name: list(members) for name, members in self.kinds.items()},
            "spread": dict(self.spread),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "folder": None if self.folder is None else str(self.folder),
            "rows": rows,
        }

    @property
    def _name(self) -> str:
        return "the ODE" if self.sde_against_ode else self.reference

    def _sentence(self, setting: str) -> str:
        rows = [row for row in self.rows if row.setting == setting]
        where = "on clean images" if setting == "clean" else f"under {setting}"
        telling = [row for row in rows if row.accuracy.differs]
        if not telling:
            one = rows[0]
            largest = max(row.accuracy.detectable for row in rows)
            found = (
                f"a difference of {100 * largest:.0f} points would have been found"
                if largest < 1
                else "so few images and trainings find no difference at all"
            )
            if len(rows) == 1:
                return (
                    f"{one.subject} does not differ from {self._name} {where} beyond chance "
                    f"({100 * one.accuracy.difference.estimate:+.1f} points; {found})"
                )
            kind = "no SDE" if self.sde_against_ode else f"none of {len(rows)}"
            return f"{kind} differs from {self._name} {where} beyond chance ({found})"
        first, *others = (
            f"{row.subject} is {row.accuracy.words} ({row.accuracy.evidence})" for row in telling
        )
        rest = len(rows) - len(telling)
        more = (
            f"; {'the other does' if rest == 1 else f'the other {rest} do'} not differ beyond chance"
            * bool(rest)
        )
        head = first.replace(" (", f" {self._name} {where} (", 1)
        return "; ".join([head, *others]) + more


_VERSUS = TypeAdapter(Versus)


def setting_text(setting: Setting) -> str:
    """Format a perturbation setting, like ``pgd linf 0.03`` or ``fog 3``."""
    perturbation, norm, eps, severity = setting
    level = "" if severity is None else f"{severity:g}"
    return " ".join(
        part for part in (perturbation, norm, "" if eps is None else _budget_text(eps), level) if part
    )


def _budget_text(eps: float) -> str:
    """Format a budget, like ``0.03`` or ``8/255``: as a grey level if the decimal is long."""
    grey = 255 * eps
    return f"{grey:.0f}/255" if len(f"{eps:g}") > 5 and abs(grey - round(grey)) < 1e-6 else f"{eps:g}"


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
    networks = _networks(side.cells)
    members = _members(networks, kinds or {})
    base = _find_reference(reference, members)
    if len(members) == 1:
        raise BenchError(f"{side.name} has no network beside {reference!r} to compare it with")
    drafts: list[_Draft] = []
    unequal: list[str] = []
    spread: dict[str, float] = {}
    for setting in _settings(networks[name] for name in members[base]):
        at = {
            kind: [cell for name in names if (cell := networks[name].get(setting)) is not None]
            for kind, names in members.items()
        }
        at = {kind: cells for kind, cells in at.items() if cells}
        unequal += list(_unequal(setting, at, base))
        drafts += _draft_rows(setting, at, base, spread)
    if not drafts:
        raise BenchError(f"{reference!r} shares no valid perturbation setting with another network")
    if unequal and not allow_unequal:
        raise BenchError(f"{UNEQUAL}: {unequal[0]}; run both alike, or allow it with `allow_unequal`")
    notes = [] if spread else [ONE_TRAINING]
    return Versus(
        reference=base,
        dataset=side.cells[0].facts.dataset,
        rows=tuple(_with_holm(drafts)),
        kinds={kind: tuple(names) for kind, names in members.items()},
        sde_against_ode=_is_sde_against_ode(networks, members, base),
        spread=spread,
        warnings=(*warnings, *(f"{UNEQUAL}: {text}" for text in unequal)),
        notes=tuple(notes),
    )


def _networks(cells: Sequence[ComparedCell]) -> dict[str, dict[Setting, ComparedCell]]:
    """Group valid cells by network; a checkpoint with several noises or solvers is several networks.

    Of cells that differ in the number of score draws, the one with the most is kept.
    """
    fields = ("noise", "sigma", "solver", "solver_steps", "rule", "seed")
    sound = [cell for cell in cells if cell.status == "ok"]
    values: dict[tuple[str, str], set[object]] = defaultdict(set)
    for cell in sound:
        for name in fields:
            values[cell.facts.checkpoint, name].add(getattr(cell.facts, name))
    networks: dict[str, dict[Setting, ComparedCell]] = {}
    for cell in sound:
        facts = cell.facts
        told = [name for name in fields if len(values[facts.checkpoint, name]) > 1]
        network = " ".join([facts.checkpoint, *(f"{name}={getattr(facts, name)}" for name in told)])
        own = networks.setdefault(network, {})
        setting = (facts.perturbation, facts.norm, facts.eps, facts.severity)
        if setting not in own or own[setting].facts.score_draws < facts.score_draws:
            own[setting] = cell
    return networks


def _members(networks: Mapping[str, object], kinds: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the networks of each kind, in the order of the run; a network without a kind is one itself."""
    kind_of = {name: kind for kind, names in kinds.items() for name in names}
    members: dict[str, list[str]] = {}
    for network in networks:
        members.setdefault(kind_of.get(network, network), []).append(network)
    return members


def _find_reference(reference: str, members: Mapping[str, Sequence[str]]) -> str:
    if reference in members:
        return reference
    for kind, names in members.items():
        if reference in names:
            return kind
    several = [name for names in members.values() for name in names if name.split(" ")[0] == reference]
    if several:
        raise BenchError(f"reference {reference!r} is several networks; name one: {', '.join(several[:5])}")
    raise unknown_name(
        "reference", reference, [*members, *(name for names in members.values() for name in names)]
    )


def _settings(networks: "Iterator[Mapping[Setting, ComparedCell]]") -> list[Setting]:
    return list(dict.fromkeys(setting for network in networks for setting in network))


def _unequal(setting: Setting, at: Mapping[str, Sequence[ComparedCell]], base: str) -> Iterator[str]:
    """Yield what differs between the effort of the reference and of each other network."""
    if base not in at:
        return
    first = at[base][0].facts
    for cell in (cell for cells in at.values() for cell in cells):
        differences = list(_effort(at[base][0], cell))
        if differences:
            where = f"{first.checkpoint} and {cell.facts.checkpoint} under {setting_text(setting)}"
            yield f"{where}: {'; '.join(differences)}"


def _effort(reference: ComparedCell, rival: ComparedCell) -> Iterator[str]:
    one, other = reference.facts, rival.facts
    if one.settings != other.settings:
        ours, theirs = reference.differing(rival)
        yield f"{ours[:80] or 'nothing'} against {theirs[:80] or 'nothing'}"
    if one.rule != other.rule:
        yield f"rule {one.rule} against {other.rule}"
    random = one.noise != "none" and other.noise != "none"
    if random and one.score_draws != other.score_draws:
        yield f"{one.score_draws} score draws against {other.score_draws}"


@dataclass(frozen=True)
class _Draft:
    """Row whose p-values are not adjusted yet, with what computes a detectable difference for a level."""

    row: VersusRow
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
    if base not in at or len(at) < 2:
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
        contrasts = [test.contrast for test in tests]
        row = VersusRow(
            kind,
            (len(cells), len(at[base])),
            *setting,
            len(ids),
            contrasts[0],
            contrasts[1] if draws > 1 else None,
        )
        yield _Draft(row, tuple(tests))


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
        if draws <= _MOST_DRAWS:
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
        contrasts = [
            replace(test.contrast, p_holm=next(adjusted), detectable=test.detectable(ALPHA / len(tests)))
            for test in draft.tests
        ]
        yield replace(
            draft.row, accuracy=contrasts[0], single_draw=contrasts[1] if len(contrasts) > 1 else None
        )


def _is_sde_against_ode(
    networks: Mapping[str, Mapping[Setting, ComparedCell]], members: Mapping[str, Sequence[str]], base: str
) -> bool:
    """Whether the reference is an ODE of ours and all others are SDEs of ours."""

    def noises(names: Sequence[str]) -> set[str]:
        return {cell.facts.noise if cell.facts.solver else "" for n in names for cell in networks[n].values()}

    others = set().union(*(noises(names) for kind, names in members.items() if kind != base))
    return noises(members[base]) == {"none"} and not others & {"none", ""}
