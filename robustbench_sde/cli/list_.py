"""Define `sde-bench list`."""

import sys
from collections.abc import Callable, Collection
from typing import Annotated, TypeVar

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.errors import unknown_name
from robustbench_sde.plugins import Plugins, provider

_T = TypeVar("_T")


#: how to get entries of kinds of which none is shipped
_COME_FROM = {
    "checkpoints": ": `sde-bench train` writes into checkpoints/",
    "models": ": plug-ins add them (docs/your-data.md)",
}


def list_command(
    kind: Annotated[
        str,
        typer.Argument(
            help="checkpoints, configs, datasets, attacks, corruptions, models, suites, studies, presets or "
            "rules."
        ),
    ],
    json: o.Json = False,
) -> None:
    """List what exists, plug-ins included. A plug-in that cannot be used gets a line on stderr.

    [bold]Example:[/bold] sde-bench list attacks
    """
    from robustbench_sde.reporting.terminal import print_entries

    listings = {
        "attacks": _attacks,
        "checkpoints": _checkpoints,
        "configs": _configs,
        "corruptions": _corruptions,
        "datasets": _datasets,
        "models": _models,
        "presets": _presets,
        "rules": _rules,
        "studies": _studies,
        "suites": _suites,
    }
    if kind not in listings:
        raise unknown_name("kind", kind, listings)
    entries = listings[kind]()
    print_entries(entries, as_json=json)
    if not entries:
        print(f"sde-bench: there are no {kind} here{_COME_FROM.get(kind, '')}", file=sys.stderr)


def _attacks() -> dict[str, str]:
    from robustbench_sde.perturbations.attacks.base import Attack
    from robustbench_sde.perturbations.attacks.registry import ATTACK_PLUGINS, ATTACKS

    def line(attack: type[Attack]) -> str:
        return f"{_first_line(attack)} ({', '.join(attack.norms)})"

    ours = {name: line(attack) for name, attack in ATTACKS.items()}
    foolbox = {"foolbox:NAME": "An attack of foolbox by its class name, LinfPGD say, scored by us."}
    return ours | foolbox | _plugins(ATTACK_PLUGINS, ATTACKS, line)


def _checkpoints() -> dict[str, str]:
    from robustbench_sde.api.models import checkpoints_here
    from robustbench_sde.models.checkpoint import read_header

    entries = {}
    for path in checkpoints_here():
        header = read_header(path)
        accuracy = header.training.get("test_accuracy", [float("nan")])[0]
        noise = " + ".join(f"{term.kind} sigma {term.sigma:g}" for term in header.model.noise) or "no noise"
        entries[str(path)] = f"{header.dataset.name}, {noise}, clean {accuracy:.1%}"
    return entries


def _configs() -> dict[str, str]:
    from robustbench_sde.training.named import read_config, shipped_configs

    return {name: str(read_config(name)["description"]) for name in shipped_configs()}


def _corruptions() -> dict[str, str]:
    from robustbench_sde.perturbations.corruptions.registry import (
        CORRUPTION_PLUGINS,
        CORRUPTIONS,
        PLAIN,
        Corruption,
    )

    def line(corruption: Corruption) -> str:
        return f"{corruption.group}{', extra' * (not corruption.benchmark)}: {_first_line(corruption.recipe)}"

    graded = {name: line(corruption) for name, corruption in CORRUPTIONS.items()}
    plain = {
        f"{name}:{perturbation.parameter}": f"plain: {_first_line(perturbation.recipe)}"
        for name, perturbation in PLAIN.items()
    }
    return graded | plain | _plugins(CORRUPTION_PLUGINS, CORRUPTIONS, line)


def _datasets() -> dict[str, str]:
    from robustbench_sde.data.registry import DATASET_PLUGINS, DATASETS

    ours = {name: entry.summary for name, entry in DATASETS.items()}
    return ours | _plugins(DATASET_PLUGINS, DATASETS, lambda entry: entry.summary)


def _models() -> dict[str, str]:
    from robustbench_sde.models.modules.factory import MODEL_PLUGINS

    return _plugins(MODEL_PLUGINS, (), _first_line)


def _presets() -> dict[str, str]:
    from robustbench_sde.models.presets import PRESETS

    return {name: ", ".join(f"{k} {v}" for k, v in preset.items()) for name, preset in PRESETS.items()}


def _rules() -> dict[str, str]:
    return {
        "mean-prob": "argmax of the mean softmax over the score draws",
        "vote": "the class that most score draws give",
        "single": "argmax of one draw",
    }


def _studies() -> dict[str, str]:
    from robustbench_sde.runs.suite.suite import Suite, study_suites

    described = {name: Suite.read(suite).spec.description for name, suite in study_suites().items()}
    return described | {
        "stability": "How fast neighbouring states part, beside the theorem: sde-bench stability"
    }


def _suites() -> dict[str, str]:
    from robustbench_sde.runs.suite.suite import Suite, shipped_suites

    return {name: Suite.read(name).spec.description for name in shipped_suites()}


def _plugins(plugins: Plugins[_T], built_in: Collection[str], line: Callable[[_T], str]) -> dict[str, str]:
    """Return the entries of plug-ins, each with its package; unusable ones are named on stderr."""
    entries, problems = plugins.all(built_in)
    for problem in problems:
        print(f"sde-bench: {problem}", file=sys.stderr)
    return {name: f"{line(entry)} [{provider(plugins.kind, name)}]" for name, entry in entries.items()}


def _first_line(thing: object) -> str:
    return next(iter((thing.__doc__ or "").strip().splitlines()), "")
