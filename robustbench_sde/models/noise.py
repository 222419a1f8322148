"""Specify the noise of a network: its terms, and the words for them."""

import math
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from robustbench_sde.choices import NoiseShape
from robustbench_sde.errors import unknown_name
from robustbench_sde.models.strict import Spec, first_problem
from robustbench_sde.sde.diffusion import NOISE_TERMS, NoiseTerm, Parameter

if TYPE_CHECKING:
    from torch import Tensor

#: Words for kinds of noise.
KINDS = ("none", *NOISE_TERMS)


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(str(unknown_name("noise", kind, KINDS)))
    return kind


class NoiseSpec(Spec):
    """One term of the noise: its kind, its scale, what shares a Brownian motion, and its own parameters.

    Parameters that only some kinds have (`NoiseTerm.parameters`) are further keys: ``alpha`` of Levy noise.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    kind: Annotated[str, AfterValidator(_known_kind)] = "none"
    #: noise scale, whose meaning the class of the kind says; 0 for an ODE
    sigma: float = Field(default=0.0, ge=0.0, le=1e3)
    #: one Brownian motion per entry of the state (the released networks), channel, or image (the theorem)
    shape: NoiseShape = "independent"
    #: ratio sigma(T) / sigma(0); linear in between
    growth: float = Field(default=1.0, ge=0.0, le=1e3)
    #: True if each flow learns its sigma, from `sigma` on
    learned: bool = False

    @model_validator(mode="before")
    @classmethod
    def _with_own_defaults(cls, values: Any) -> Any:
        """Add the parameters of the kind that are not given; every term stores some (`stored_by_all`)."""
        if not isinstance(values, dict):
            return values
        defaults = {
            name: parameter.default
            for name, parameter in own_parameters(values.get("kind", "none")).items()
            if name not in values
        }
        return values | defaults

    @model_validator(mode="after")
    def _own_in_range(self) -> Self:
        known = own_parameters(self.kind)
        for name, value in self.own.items():
            if name not in known:
                raise ValueError(str(unknown_name(f"parameter of {self.kind} noise", name, known)))
            if not known[name].above < value <= known[name].at_most:
                raise ValueError(
                    f"{name} of {self.kind} noise must be above {known[name].above:g} and at most "
                    f"{known[name].at_most:g}, not {value:g}"
                )
        return self

    @property
    def own(self) -> dict[str, float]:
        """Return the parameters that only some kinds have, by name."""
        return self.__pydantic_extra__

    @property
    def active(self) -> bool:
        """Whether the forward pass is random."""
        return self.kind != "none" and self.sigma > 0

    @property
    def label(self) -> str:
        """Return kind, scale and parameters of this kind for names: ``levy-0.3-alpha1.5``."""
        known = own_parameters(self.kind)
        own = [f"{name}{value:g}" for name, value in self.own.items() if not known[name].stored_by_all]
        return "-".join([self.kind, f"{self.sigma:g}", *own])

    def term(self, sigma: "float | Tensor", horizon: float) -> NoiseTerm:
        """Return the noise term of an equation up to `horizon`, with a given or learned scale."""
        build = NOISE_TERMS[self.kind]
        own = {name: self.own[name] for name in build.parameters}
        return build(sigma, growth=self.growth, horizon=horizon, **own)


def own_parameters(kind: object) -> dict[str, Parameter]:
    """Return the parameters that a term of this kind stores, by name."""
    return {
        name: parameter
        for other, term in NOISE_TERMS.items()
        for name, parameter in term.parameters.items()
        if parameter.stored_by_all or other == kind
    }


def parse_noise(
    text: str, *, sigma: float, keep: float | None = None, **common: object
) -> tuple[NoiseSpec, ...]:
    """Read noise terms: ``none``, ``multiplicative``, ``additive:0.3+levy:0.5,alpha=1.8``.

    Args:
        text: kinds joined by ``+``, each with its own sigma behind a colon if it differs from `sigma`, and
            parameters of that kind as ``name=value`` behind commas.
        sigma: scale of the terms that name none.
        keep: share p that dropout keeps, in place of its sigma, which is then sqrt((1-p)/p).
        common: further fields of every term, and parameters of those terms that have them.

    Raises:
        BenchError: there is no such kind, or a value is wrong.
    """
    return tuple(_parse_term(part.strip(), sigma, keep, common) for part in text.split("+"))


def _parse_term(part: str, sigma: float, keep: float | None, common: dict[str, object]) -> NoiseSpec:
    head, *assignments = part.split(",")
    kind, _, own_sigma = head.partition(":")
    if kind not in KINDS:
        raise unknown_name("noise", kind, KINDS)
    scale: float | str = own_sigma or sigma
    if kind == "dropout" and keep is not None and not own_sigma:
        scale = math.sqrt((1 - keep) / keep)
    known = NOISE_TERMS[kind].parameters if kind in NOISE_TERMS else {}
    fields = NoiseSpec.model_fields.keys() | own_parameters(kind)
    values = {name: value for name, value in common.items() if name in fields}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if name.strip() not in known or not equals:
            raise unknown_name(f"parameter of {kind} noise", name.strip(), known)
        values[name.strip()] = value
    try:
        return NoiseSpec.model_validate(values | {"kind": kind, "sigma": scale})
    except ValidationError as error:
        raise first_problem(error, f"noise {part}") from error


def _listed(noise: object) -> object:
    """Return one term as a tuple of one: the form in the first checkpoints."""
    return noise if isinstance(noise, list | tuple) else (noise,)


def _without_none(noise: tuple[NoiseSpec, ...]) -> tuple[NoiseSpec, ...]:
    terms = tuple(term for term in noise if term.kind != "none")
    if len({term.kind for term in terms}) < len(terms):
        raise ValueError("each kind of noise can be there once")
    return terms


#: Terms that act together, each with its own Brownian motion; empty for an ODE.
Noise = Annotated[tuple[NoiseSpec, ...], BeforeValidator(_listed), AfterValidator(_without_none)]
