"""Define the answer of `versus`: a table of networks less a reference, and its sentences."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from robustbench_sde.errors import counted
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.shown import html_of
from robustbench_sde.storage.files import parse_json
from robustbench_sde.texts import short_budget

#: Probability of one or more false differences in a whole table (Holm).
ALPHA = 0.05
#: largest number of settings about which there is a sentence each
_MOST_SENTENCES = 6

#: name of a perturbation, norm, eps, severity
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
        digits = 1 if self.p_holm < 0.01 else 2  # .048 is not .05
        return f"{100 * low:z.1f} to {100 * high:z.1f}, p = {self.p_holm:.{digits}g}"


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

    def __repr__(self) -> str:
        """Return one line: the reference, the data, and the answer."""
        first, *others = self.sentences() or ["no settings"]
        more = f" (and {len(others)} more)" if others else ""
        return f"<Versus {self.reference} on {self.dataset}: {first}{more}>"

    def _repr_html_(self) -> str | None:
        """Return the answer and the table that the command prints, for notebooks."""
        return html_of(self)

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
        plain, _, smoothing = setting.partition("@")
        where = "on clean images" if plain == "clean" else f"under {setting}"
        where += f" at smoothing {smoothing}" * bool(plain == "clean" and smoothing)
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
                    f"({100 * one.accuracy.difference.estimate:+z.1f} points; {found})"
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
        part for part in (perturbation, norm, "" if eps is None else short_budget(eps), level) if part
    )
