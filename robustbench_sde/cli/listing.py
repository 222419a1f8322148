"""`sde-bench list` and `sde-bench show`."""

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, nearest, printable, unknown_name
from robustbench_sde.plugins import Plugins, provider

_T = TypeVar("_T")

#: how there can be some, where none is shipped
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
    """Say what exists, plug-ins included. One that cannot be used gets a line on stderr.

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


def show_command(
    path: Annotated[
        str,
        typer.Argument(
            help="A checkpoint (also by its name in checkpoints/), the folder of a run, or a suite.",
        ),
    ],
    json: o.Json = False,
    robustbench: Annotated[
        bool, typer.Option("--robustbench", help="Print a run as entries of RobustBench's model_info (JSON).")
    ] = False,
) -> None:
    """Say what is in a checkpoint, a run or a suite.

    [bold]Example:[/bold] sde-bench show checkpoints/digits-ode.safetensors
    """
    import json as json_module

    from robustbench_sde.api.models import checkpoints_here
    from robustbench_sde.models.checkpoint import read_header
    from robustbench_sde.reporting.robustbench import robustbench_entries
    from robustbench_sde.reporting.terminal import print_entries, print_json, print_summary
    from robustbench_sde.runs.suite.suite import Suite, shipped_suites
    from robustbench_sde.storage.run_folder import RunFolder

    if path == "study/stability":
        raise BenchError("study/stability is no suite but a command; see sde-bench stability --help")
    place = Path(path)
    if robustbench and not place.is_dir():
        raise BenchError(f"--robustbench is about the folder of a run, which {path} is not")
    if place.is_dir():
        folder = RunFolder(place)
        summary, manifest = folder.read_summary(), folder.read_manifest()
        if robustbench:
            print(json_module.dumps(robustbench_entries(summary), indent=2))
            return
        if json:
            print_json(summary)
            return
        print_summary(summary, folder=path)
        whole = "complete" if manifest["complete"] else "stopped before its end"
        print(f"run: {whole}, by {printable(manifest['command'])}")
    elif place.suffix in (".yaml", ".yml") or (path in shipped_suites() and not place.exists()):
        suite = Suite.read(path)
        print_entries(suite.spec.model_dump(mode="json"), as_json=json)
    elif place.exists() or (place := Path("checkpoints") / f"{path}.safetensors").exists():
        print_entries(read_header(place).model_dump(mode="json"), as_json=json)
    else:
        near = nearest(path, [*shipped_suites(), *(found.stem for found in checkpoints_here())])
        hint = f"did you mean {near!r}?" if near else "give a checkpoint, the folder of a run, or a suite"
        raise BenchError(f"{path} does not exist; {hint}")


def _attacks() -> dict[str, str]:
    from robustbench_sde.perturbations.attacks import ATTACK_PLUGINS, ATTACKS
    from robustbench_sde.perturbations.attacks.base import Attack

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
    """What plug-ins add, each with its package; those that cannot be used are told on stderr."""
    entries, problems = plugins.all(built_in)
    for problem in problems:
        print(f"sde-bench: {problem}", file=sys.stderr)
    return {name: f"{line(entry)} [{provider(plugins.kind, name)}]" for name, entry in entries.items()}


def _first_line(thing: object) -> str:
    return next(iter((thing.__doc__ or "").strip().splitlines()), "")
