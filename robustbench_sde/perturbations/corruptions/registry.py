"""Every corruption by name: a new one is a recipe, a line here and its parameters in severities.py.

A plug-in's is a `Corruption` with parameters of its own, under the entry point group
``robustbench_sde.corruptions``.
"""

import math
from dataclasses import dataclass, field
from types import MappingProxyType

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.perturbations.corruptions import blur, digital, noise, plain, weather
from robustbench_sde.perturbations.corruptions.colour import Recipe
from robustbench_sde.perturbations.corruptions.severities import Family, Parameters
from robustbench_sde.plugins import Plugins

#: The groups of the benchmark, in its order.
GROUPS = ("noise", "blur", "weather", "digital")


@dataclass(frozen=True)
class Corruption:
    """A corruption with severities 1 to 5."""

    name: str
    #: noise, blur, weather or digital
    group: str
    recipe: Recipe = field(repr=False)
    #: one of the 15 of the benchmark
    benchmark: bool = True
    #: parameters of the recipe at severities 1 to 5; None: those of the family (severities.py)
    severities: tuple[Parameters, ...] | None = None
    #: whether images of the recipe are whole levels from 0 to 255, in float32, instead of values in [0, 1]
    eight_bit: bool = False

    def parameters(self, family: Family, severity: int) -> Parameters:
        """Look up the parameters of the recipe at `severity` 1 to 5."""
        if self.severities is None:
            return family.parameters(self.name, severity)
        return self.severities[severity - 1]


_ALL = (
    Corruption("gaussian_noise", "noise", noise.gaussian_noise),
    Corruption("shot_noise", "noise", noise.shot_noise),
    Corruption("impulse_noise", "noise", noise.impulse_noise),
    Corruption("defocus_blur", "blur", blur.defocus_blur),
    Corruption("glass_blur", "blur", blur.glass_blur),
    Corruption("motion_blur", "blur", blur.motion_blur),
    Corruption("zoom_blur", "blur", blur.zoom_blur),
    Corruption("snow", "weather", weather.snow),
    Corruption("frost", "weather", weather.frost),
    Corruption("fog", "weather", weather.fog),
    Corruption("brightness", "weather", digital.brightness),
    Corruption("contrast", "digital", digital.contrast),
    Corruption("elastic_transform", "digital", digital.elastic_transform),
    Corruption("pixelate", "digital", digital.pixelate, eight_bit=True),
    Corruption("jpeg_compression", "digital", digital.jpeg_compression, eight_bit=True),
    Corruption("speckle_noise", "noise", noise.speckle_noise, benchmark=False),
    Corruption("gaussian_blur", "blur", blur.gaussian_blur, benchmark=False),
    Corruption("spatter", "weather", weather.spatter, benchmark=False),
    Corruption("saturate", "digital", digital.saturate, benchmark=False),
)

#: The 19 corruptions, the benchmark's 15 first and in its order.
CORRUPTIONS = MappingProxyType({corruption.name: corruption for corruption in _ALL})


@dataclass(frozen=True)
class PlainPerturbation:
    """A perturbation without severities: named with its parameter, as in `gaussian:0.1`."""

    name: str
    #: what the parameter is called
    parameter: str
    recipe: Recipe = field(repr=False)


#: Not part of "all": ordinary perturbations to compare with.
PLAIN = MappingProxyType(
    {
        perturbation.name: perturbation
        for perturbation in (
            PlainPerturbation("uniform", "EPS", plain.uniform),
            PlainPerturbation("gaussian", "SIGMA", plain.gaussian),
            PlainPerturbation("rotation", "DEGREES", plain.rotation),
            PlainPerturbation("translation", "PIXELS", plain.translation),
        )
    }
)


def _from_plugin(name: str, corruption: object) -> Corruption:
    if not isinstance(corruption, Corruption):
        raise BenchError(f"it is {corruption!r}; it must be a Corruption")
    if corruption.name != name:
        raise BenchError(f"its name is {corruption.name!r}; it must be that of the entry")
    if corruption.benchmark or corruption.severities is None or len(corruption.severities) != 5:
        raise BenchError("it must have benchmark=False and severities of 5 tuples of parameters")
    return corruption


CORRUPTION_PLUGINS = Plugins("corruptions", _from_plugin)


def select(text: str) -> list[str]:
    """The names that `text` stands for: "all", "benchmark", groups, names and comma lists of these.

    Plain perturbations go by name and parameter (`rotation:15`). A name is given once, where it comes first.
    Plug-ins go by name only: what is installed does not change what "all" or a group means.

    Raises:
        BenchError: a word is none of these.
    """
    names = [name for word in text.split(",") for name in _expand(word.strip())]
    return list(dict.fromkeys(names))


def find(name: str) -> tuple[Corruption | PlainPerturbation, float | None]:
    """The perturbation called `name`, with its parameter if it is a plain one.

    Raises:
        BenchError: there is none, its parameter is no number, or the plug-in cannot be used.
    """
    if name in CORRUPTIONS:
        return CORRUPTIONS[name], None
    kind, _, value = name.partition(":")
    if kind not in PLAIN:
        plugin = CORRUPTION_PLUGINS.find(name)
        if plugin is None:
            raise unknown_name("corruption", name, _names())
        return plugin, None
    perturbation = PLAIN[kind]
    try:
        parameter = float(value)
    except ValueError:
        parameter = math.nan
    if not (0 <= parameter < math.inf):
        wanted = f"{kind}:{perturbation.parameter}"
        raise BenchError(f"corruption {name!r} needs a number that is not negative, as {wanted}")
    return perturbation, parameter


def has_severities(name: str) -> bool:
    """Whether the perturbation called `name` is a `Corruption`. Raises as `find`."""
    return isinstance(find(name)[0], Corruption)


def _expand(word: str) -> list[str]:
    if word == "all":
        return list(CORRUPTIONS)
    if word == "benchmark":
        return [name for name, corruption in CORRUPTIONS.items() if corruption.benchmark]
    if word in GROUPS:
        return [name for name, corruption in CORRUPTIONS.items() if corruption.group == word]
    if word in _names() or word.partition(":")[0] in PLAIN:
        find(word)
        return [word]
    raise unknown_name("corruption", word, ["all", "benchmark", *GROUPS, *_names()])


def _names() -> list[str]:
    plain = [f"{name}:{perturbation.parameter}" for name, perturbation in PLAIN.items()]
    return [*CORRUPTIONS, *CORRUPTION_PLUGINS.names(), *plain]
