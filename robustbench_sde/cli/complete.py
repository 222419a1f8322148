"""Complete the values of options and arguments; nothing heavy is imported, since a shell waits."""

import json
from collections.abc import Iterable
from pathlib import Path

from robustbench_sde.cli.texts import spelled
from robustbench_sde.plugins import Plugins
from robustbench_sde.shipped import CHECKPOINTS, CONFIGS, PACKAGE, STUDIES, SUITES, shipped_files


def catalogue() -> dict[str, dict[str, str]]:
    """Return one line about each built-in attack, corruption, data set, noise and preset, by kind and name.

    `make tables` writes the file from the registries, and a test compares the two: reading it takes a
    millisecond, importing the registries a second.
    """
    return dict(json.loads((PACKAGE / "cli" / "catalogue.json").read_text("utf-8")))


def known(kind: str) -> list[str]:
    """Return the names of a kind of the catalogue, plug-ins included, none of which is imported."""
    return [*catalogue()[kind], *plugged(kind)]


def plugged(kind: str) -> list[str]:
    """Return the names of the plug-ins of a kind; none is imported."""
    return Plugins(kind, lambda _, entry: entry).names()


def dataset_name(text: str) -> str:
    """Return a data set with its name spelled as the registry does; what follows a colon is left alone."""
    name, colon, path = text.partition(":")
    return spelled(name, known("datasets")) + colon + path


def attacks(incomplete: str) -> list[str]:
    """Complete the last of several attacks."""
    return _last_of(incomplete, known("attacks"))


def corruptions(incomplete: str) -> list[str]:
    """Complete the last of several corruptions or groups of them."""
    groups = ("all", "benchmark", "noise", "blur", "weather", "digital")
    return _last_of(incomplete, [*groups, *(name for name in known("corruptions") if ":" not in name)])


def datasets(incomplete: str) -> list[str]:
    """Complete a data set."""
    return _starting(incomplete, known("datasets"))


def devices(incomplete: str) -> list[str]:
    """Complete a device."""
    return _starting(incomplete, ("auto", "cpu", "cuda", "mps"))


def loggers(incomplete: str) -> list[str]:
    """Complete the last of several trackers of trainings."""
    return _last_of(incomplete, known("loggers"))


def presets(incomplete: str) -> list[str]:
    """Complete an architecture."""
    return _starting(incomplete, catalogue()["presets"])


def configs(incomplete: str) -> list[str]:
    """Complete a shipped configuration of a training."""
    return _starting(incomplete, shipped_files(CONFIGS))


def suites(incomplete: str) -> list[str]:
    """Complete a shipped suite, or a suite file here."""
    return _starting(incomplete, [*shipped_files(SUITES), *map(str, Path().glob("*.yaml"))])


def studies(incomplete: str) -> list[str]:
    """Complete a study."""
    return _starting(incomplete, shipped_files(STUDIES))


def checkpoints(incomplete: str) -> list[str]:
    """Complete a checkpoint by its name in checkpoints/ or among the shipped ones."""
    folders = (Path("checkpoints"), CHECKPOINTS)
    found = {path.stem for folder in folders for path in folder.glob("*.safetensors")}
    return _starting(incomplete, sorted(name for name in found if ".state" not in name))


def runs(incomplete: str) -> list[str]:
    """Complete a run by its name in reports/."""
    return _starting(incomplete, (path.parent.name for path in sorted(Path("reports").glob("*/records"))))


def shown(incomplete: str) -> list[str]:
    """Complete what `show` knows: checkpoints, runs, suites."""
    return [*checkpoints(incomplete), *runs(incomplete), *suites(incomplete)]


def _last_of(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _starting(last, names)]


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.casefold().startswith(incomplete.casefold())]
