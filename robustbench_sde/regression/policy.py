"""Policy of a gate, from a YAML file or the defaults: which drops pass."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from robustbench_sde.errors import unknown_name
from robustbench_sde.models.strict import Spec, first_problem
from robustbench_sde.storage.files import read_yaml
from robustbench_sde.texts import matches

#: a budget in whole grey levels
_GREY = re.compile(r"eps=(\d+)/255\b")


def _known_metric(name: str) -> str:
    """Return the name of a metric if it is one."""
    if not re.fullmatch(r"survives_[1-9]\d{0,4}", name):
        raise ValueError(f"it is {name!r:.40}; write survives_K with a number of submissions, as survives_10")
    return name


def tries_of(metric: str) -> int:
    """Return the number of submissions in the name of a metric, ``survives_10``."""
    return int(metric.removeprefix("survives_"))


#: name of an accuracy that a gate may watch: against somebody who may submit an image K times
Metric = Annotated[str, AfterValidator(_known_metric)]


class Limits(Spec):
    """Limits for one cell."""

    #: largest drop of an accuracy that is tolerated, as a share: 0.02 is two points of a hundred
    max_drop: float = Field(default=0.02, gt=0, lt=1)
    #: number of images in both runs below which a cell does not pass
    min_images: int = Field(default=1, ge=1)
    #: False: only a regression of the cell counts; missing, incomparable or inconclusive is shown and passes
    required: bool = True
    #: accuracy that is tested beside those that always are: `survives_K`; None: no other
    metric: Metric | None = None


class PolicyRule(Spec):
    """Other limits for the cells that match; None keeps a limit as it is."""

    #: name of the cell as tables show it; * stands for any text and ? for any letter
    match: str = Field(min_length=1)
    max_drop: float | None = Field(default=None, gt=0, lt=1)
    min_images: int | None = Field(default=None, ge=1)
    required: bool | None = None
    metric: Metric | None = None


class VersusRule(Spec):
    """Limit of how far networks may lie below a reference in the same run."""

    #: name of the reference checkpoint
    reference: str = Field(min_length=1)
    #: names of the other cells as tables show them; * stands for any text and ? for any letter
    match: str = Field(min_length=1)
    #: largest loss of accuracy against the reference that is tolerated, as a share
    max_below: float = Field(gt=0, lt=1)
    #: whether an inconclusive comparison counts
    required: bool = True


class Policy(Limits):
    """Limits for all cells, rules for some, and the level of the tests."""

    #: probability, over the whole comparison, of a false regression or improvement
    alpha: float = Field(default=0.05, gt=0, le=0.5)
    #: rules for some cells; of several that match, the later wins
    cells: tuple[PolicyRule, ...] = ()
    #: limits between networks of the run
    versus: tuple[VersusRule, ...] = ()

    def limits(self, cell: str) -> Limits:
        """Return the limits for the cell of this name."""
        values = {name: getattr(self, name) for name in Limits.model_fields}
        for rule in self.cells:
            if covers(rule.match, cell):
                values |= rule.model_dump(exclude={"match"}, exclude_none=True)
        return Limits(**values)

    def unused(self, cells: list[str]) -> list[str]:
        """Return the patterns that match none of these cells: a typing error would let a cell pass."""
        return [rule.match for rule in self.cells if not any(covers(rule.match, cell) for cell in cells)]


def covers(pattern: str, cell: str) -> bool:
    """Whether a pattern is that of a cell's name; ``eps=8/255`` may also be written ``eps=0.0313725``."""
    decimal = _GREY.sub(lambda found: f"eps={int(found[1]) / 255:g}", cell)
    return matches(cell, pattern) or matches(decimal, pattern)


def load_policy(
    path: Path | None = None, *, max_drop: float | None = None, alpha: float | None = None
) -> Policy:
    """Read the policy in a file, or return the default one; `max_drop` and `alpha` win over its top level.

    Raises:
        BenchError: the file is not readable, has an unknown key, or a value is wrong.
    """
    where = "policy" if path is None else str(path)
    values = {} if path is None else read_yaml(path)
    for name in values:
        if name not in Policy.model_fields:
            raise unknown_name(f"key of {where}", str(name), Policy.model_fields)
    typed = {"max_drop": max_drop, "alpha": alpha}
    values |= {name: value for name, value in typed.items() if value is not None}
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        raise first_problem(error, where) from error
