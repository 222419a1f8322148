"""What a suite file says: the keys, their types and defaults (docs/suites.md)."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field

from robustbench_sde.choices import DecisionRule, Interpolation
from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.evaluation.certify_settings import CertifySettings
from robustbench_sde.models.strict import Seed, Spec
from robustbench_sde.sde.solvers import SOLVERS
from robustbench_sde.texts import parse_budget

_RANGE = re.compile(r"\s*(\d{1,9})\s*\.\.\s*(\d{1,9})\s*")
#: values that one key may list
_MOST = 10_000
_T = TypeVar("_T")


def _listed(value: object) -> list[object]:
    """One value or a list of them, ranges like ``1..5`` written out."""
    values: list[object] = []
    for item in value if isinstance(value, list | tuple) else [value]:
        found = _RANGE.fullmatch(item) if isinstance(item, str) else None
        if found is None:
            values.append(item)
            continue
        first, last = map(int, found.groups())
        if not first <= last < first + _MOST:
            raise ValueError(f"the range {item!r} goes down or is longer than {_MOST}")
        values.extend(range(first, last + 1))
    if len(values) > _MOST:
        raise ValueError(f"{len(values)} values are more than {_MOST}")
    if len(set(map(repr, values))) < len(values):
        raise ValueError("a value is there twice")
    return values


def _number(value: object) -> object:
    """``8/255`` and ``1e-3``, which YAML takes for text, as numbers; anything else as it is."""
    try:
        return parse_budget(value) if isinstance(value, str) else value
    except BenchError:
        return value


def _eps(value: object) -> object:
    """A budget; ``none`` is the smallest change that an attack finds."""
    return None if value == "none" else _number(value)


def _whole(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("it must be a whole number")
    return value


def _images(value: object) -> object:
    """A number of images; ``all`` and null are the whole split."""
    return None if value in ("all", None) else _whole(value)


def _solver(value: object) -> object:
    if value == "trained":
        return None
    if not isinstance(value, str) or value not in SOLVERS:
        raise ValueError(str(unknown_name("solver", str(value), ["trained", *SOLVERS])))
    return value


def _each(check: Callable[[Any], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: [check(item) for item in _listed(value)])


_Some = Field(min_length=1)
Seeds = Annotated[tuple[Seed, ...], _each(_whole), _Some]
Positive = Annotated[tuple[Annotated[int, Field(ge=1)], ...], _each(_whole), _Some]
#: `auto` is as few, up to 256, as decide the same
ScoreDraws = Annotated[
    tuple[Annotated[int, Field(ge=1)] | Literal["auto"], ...],
    _each(lambda value: value if value == "auto" else _whole(value)),
    _Some,
]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed), _Some]
Rules = Annotated[tuple[DecisionRule, ...], BeforeValidator(_listed), _Some]
#: `trained` is the noise that a checkpoint was trained with
Sigmas = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1e3)] | None, ...],
    _each(lambda value: None if value == "trained" else _number(value)),
    _Some,
]
#: `trained` is the solver, or its number of steps, that a checkpoint was trained with
Solvers = Annotated[tuple[str | None, ...], _each(_solver), _Some]
SolverSteps = Annotated[
    tuple[Annotated[int, Field(ge=1, le=10_000)] | None, ...],
    _each(lambda value: None if value == "trained" else _whole(value)),
    _Some,
]
#: `none` is no noise on the image
Smoothings = Annotated[
    tuple[Annotated[float, Field(gt=0, le=10)] | None, ...],
    _each(lambda value: None if value == "none" else _number(value)),
    _Some,
]
Radii = Annotated[tuple[Annotated[float, Field(ge=0, le=1e4)], ...], _each(_number), _Some]
Budgets = Annotated[tuple[float | None, ...], _each(_eps), _Some]


class SuiteEntry(Spec):
    """What attacks and corruptions have in common: grids that replace those of the suite."""

    sigma: Sigmas | None = None
    solver: Solvers | None = None
    solver_steps: SolverSteps | None = None
    smoothing: Smoothings | None = None
    score_draws: ScoreDraws | None = None


class AttackEntry(SuiteEntry):
    """Attacks at several budgets; other keys are parameters of the attack, as `steps` and `eot_draws`."""

    model_config = ConfigDict(extra="allow")

    attack: Texts
    norm: Texts = ("linf",)
    #: 0 is the control, which is there in any case
    eps: Budgets | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the attack."""
        return {name: _number(value) for name, value in (self.model_extra or {}).items()}


class CertifyEntry(SuiteEntry):
    """Smoothed classifiers whose images are certified (docs/certificates.md); the rules are named."""

    certify: Rules
    radius: Radii = (0.0, 0.25, 0.5, 1.0)
    #: largest number of draws of an image
    draws: Positive = (10_000,)
    #: draws that pick the class
    select_draws: Annotated[int, Field(ge=1)] = 100
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    #: False: every image gets all draws
    early: bool = True

    def settings(self, seed: int, rows: int) -> list[CertifySettings]:
        """Return the settings of each rule and number of draws.

        Raises:
            BenchError: a rule has no certificate, or a number makes no sense.
        """
        radii = tuple(sorted(set(self.radius)))
        return [
            CertifySettings(draws, self.select_draws, self.alpha, radii, rule, self.early, seed, rows)
            for draws in self.draws
            for rule in self.certify
        ]


class CorruptionEntry(SuiteEntry):
    """Corruptions at several severities: made here, or read from a published set."""

    corruption: Texts
    severity: Positive = (1, 2, 3, 4, 5)
    family: str | None = None
    frost_dir: str | None = None
    #: published images, written `cifar10-c:DIR`
    official: str | None = None


class SuiteSpec(Spec):
    """A suite."""

    description: str = ""
    #: paths, globs, or names in checkpoints/; empty: all there that were trained on the data set
    checkpoints: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    dataset: str = "digits"
    data_dir: str | None = None
    #: side that images of a folder are squeezed to
    image_size: Annotated[int, Field(ge=1)] | None = None
    #: pixels of their shorter side, proportions kept
    resize: Annotated[int, Field(ge=1)] | None = None
    #: side of the square that is then cut from the centre
    crop: Annotated[int, Field(ge=1)] | None = None
    #: how pixels of another size are computed
    interpolation: Interpolation = "bilinear"
    #: `numeric`, `text`, or a file with a class in each line
    class_order: str | None = None
    #: how many; `all` or null takes all
    images: Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_images)] = 200
    seeds: Seeds = (0,)
    score_draws: ScoreDraws = (32,)
    rules: Rules = ("mean-prob",)
    #: draws that answer one submission of somebody who may submit an image again
    try_draws: Annotated[int, Field(ge=1)] = 1
    sigma: Sigmas = (None,)
    #: solvers at test time; one that does not take the noise of a checkpoint is left out for it
    solver: Solvers = (None,)
    solver_steps: SolverSteps = (None,)
    #: deviations of Gaussian noise that every draw adds to the image; each makes another classifier
    smoothing: Smoothings = (None,)
    #: False switches the noise off at test time
    noise: bool = True
    #: one mapping each with the key `attack`, `corruption` or `certify`; none: the clean images alone
    perturbations: tuple[dict[str, Any], ...]
