"""Every corruption by name: a new one is a recipe, a line here and its parameters in severities.py."""

import math
from dataclasses import dataclass, field
from types import MappingProxyType

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.perturbations.corruptions import blur, digital, noise, plain, weather
from robustbench_sde.perturbations.corruptions.colour import Recipe

#: The groups of the benchmark, in its order.
GROUPS = ("noise", "blur", "weather", "digital")


@dataclass(frozen=True)
class Corruption:
    """A corruption with published severities."""

    name: str
    #: noise, blur, weather or digital
    group: str
    recipe: Recipe = field(repr=False)
    #: one of the 15 of the benchmark; otherwise one of the 4 extra ones
    benchmark: bool = True


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
    Corruption("pixelate", "digital", digital.pixelate),
    Corruption("jpeg_compression", "digital", digital.jpeg_compression),
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


def select(text: str) -> list[str]:
    """The names that `text` stands for: "all", "benchmark", groups, names and comma lists of these.

    Plain perturbations go by name and parameter (`rotation:15`). A name is given once, where it comes first.

    Raises:
        BenchError: a word is none of these.
    """
    names = [name for word in text.split(",") for name in _expand(word.strip())]
    return list(dict.fromkeys(names))


def find(name: str) -> tuple[Corruption | PlainPerturbation, float | None]:
    """The perturbation called `name`, with its parameter if it is a plain one."""
    if name in CORRUPTIONS:
        return CORRUPTIONS[name], None
    kind, _, value = name.partition(":")
    if kind not in PLAIN:
        raise unknown_name("corruption", name, [*CORRUPTIONS, *_plain_names()])
    perturbation = PLAIN[kind]
    try:
        parameter = float(value)
    except ValueError:
        parameter = math.nan
    if not (0 <= parameter < math.inf):
        wanted = f"{kind}:{perturbation.parameter}"
        raise BenchError(f"corruption {name!r} needs a number that is not negative, as {wanted}")
    return perturbation, parameter


def _expand(word: str) -> list[str]:
    if word == "all":
        return list(CORRUPTIONS)
    if word == "benchmark":
        return [name for name, corruption in CORRUPTIONS.items() if corruption.benchmark]
    if word in GROUPS:
        return [name for name, corruption in CORRUPTIONS.items() if corruption.group == word]
    if word in CORRUPTIONS or word.partition(":")[0] in PLAIN:
        find(word)
        return [word]
    raise unknown_name("corruption", word, ["all", "benchmark", *GROUPS, *CORRUPTIONS, *_plain_names()])


def _plain_names() -> list[str]:
    return [f"{name}:{perturbation.parameter}" for name, perturbation in PLAIN.items()]
