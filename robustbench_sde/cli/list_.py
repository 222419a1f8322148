"""Define `sde-bench list`."""

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from robustbench_sde.cli import complete, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import unknown_name
from robustbench_sde.plugins import Plugins, provider
from robustbench_sde.shipped import CONFIGS, STUDIES, SUITES, shipped_files

_T = TypeVar("_T")


#: how to get entries of kinds of which none is shipped
_COME_FROM = {
    "models": ": plug-ins add them (docs/your-data.md)",
    "runs": ": `sde-bench attack` and `sde-bench run` write into reports/",
}
_KINDS = (
    "attacks",
    "checkpoints",
    "configs",
    "corruptions",
    "datasets",
    "loggers",
    "models",
    "noise",
    "presets",
    "rules",
    "runs",
    "studies",
    "suites",
)


def _complete(incomplete: str) -> list[str]:
    return [kind for kind in _KINDS if kind.startswith(incomplete)]


def list_command(
    kind: Annotated[
        str,
        typer.Argument(
            help=f"Kind to list: {', '.join(_KINDS[:-1])} or {_KINDS[-1]}.", autocompletion=_complete
        ),
    ],
    json: o.Json = False,
    output: o.TableFormat = "table",
) -> None:
    """List all attacks, data sets, runs or other things by name, including those of plug-ins.

    A plug-in that cannot be used is named on stderr.

    [bold]Example:[/bold] sde-bench list attacks
    """
    from robustbench_sde.reporting.terminal import print_entries, print_runs

    listings: dict[str, Callable[[], dict[str, str]]] = {
        "attacks": _attacks,
        "checkpoints": _checkpoints,
        "configs": _configs,
        "corruptions": _corruptions,
        "datasets": _datasets,
        "loggers": _loggers,
        "models": _models,
        "noise": lambda: complete.catalogue()["noise"],
        "presets": lambda: complete.catalogue()["presets"],
        "rules": _rules,
        "studies": lambda: _described(STUDIES),
        "suites": lambda: _described(SUITES),
    }
    kind = texts.spelled(kind, _KINDS)
    if kind not in _KINDS:
        raise unknown_name("kind", kind, _KINDS)
    if kind == "runs":
        from robustbench_sde.storage.runs_here import runs_here

        runs = runs_here()
        print_runs(runs, as_json=json)
        found = bool(runs)
    else:
        entries = listings[kind]()
        print_entries(entries, as_json=json)
        found = bool(entries)
    if not found:
        print(f"sde-bench: there are no {kind} here{_COME_FROM.get(kind, '')}", file=sys.stderr)


def catalogue() -> dict[str, dict[str, str]]:
    """Return one line about each built-in attack, corruption, data set, logger, noise and preset.

    `make tables` writes it into catalogue.json, which `complete.catalogue` reads.
    """
    from robustbench_sde.data.registry import DATASETS
    from robustbench_sde.models.presets import PRESETS
    from robustbench_sde.perturbations.attacks.registry import ATTACKS
    from robustbench_sde.perturbations.corruptions.registry import CORRUPTIONS, PLAIN
    from robustbench_sde.sde.diffusion import NOISE_TERMS
    from robustbench_sde.training.trackers import TRACKERS

    plain = {
        f"{name}:{perturbation.parameter}": f"plain: {_first_line(perturbation.recipe)}"
        for name, perturbation in PLAIN.items()
    }
    return {
        "attacks": {name: _attack_line(attack) for name, attack in ATTACKS.items()},
        "corruptions": {name: _corruption_line(each) for name, each in CORRUPTIONS.items()} | plain,
        "datasets": {name: entry.summary for name, entry in DATASETS.items()},
        "loggers": {name: _first_line(kind) for name, kind in TRACKERS.items()},
        "noise": {name: _noise_line(term) for name, term in NOISE_TERMS.items()},
        "presets": {
            name: ", ".join(f"{key} {value}" for key, value in preset.items())
            for name, preset in PRESETS.items()
        },
    }


def _attack_line(attack: Any) -> str:
    return f"{_first_line(attack)} ({', '.join(attack.norms)})"


def _corruption_line(each: Any) -> str:
    return f"{each.group}{', extra' * (not each.benchmark)}: {_first_line(each.recipe)}"


def _noise_line(term: Any) -> str:
    own = [f"{name}: {each.summary}" for name, each in term.parameters.items()]
    return "; ".join([term.summary, *own])


def _attacks() -> dict[str, str]:
    ours = complete.catalogue()["attacks"]
    found = ours | {"foolbox:NAME": "An attack of foolbox by its class name, LinfPGD say, scored by us."}
    if not complete.plugged("attacks"):
        return found
    from robustbench_sde.perturbations.attacks.registry import ATTACK_PLUGINS

    return found | _plugins(ATTACK_PLUGINS, ours, _attack_line)


def _checkpoints() -> dict[str, str]:
    from robustbench_sde.models.header import read_header
    from robustbench_sde.models.located import checkpoints_here, shipped_checkpoints

    entries = {}
    shipped = shipped_checkpoints()
    for path in [*checkpoints_here(), *shipped]:
        header = read_header(path)
        accuracy = header.training.get("test_accuracy", [None])[0]
        state = header.unfinished or ("" if accuracy is None else f"clean {accuracy:.1%}")
        noise = " + ".join(f"{term.kind} sigma {term.sigma:g}" for term in header.model.noise) or "no noise"
        entries[path.stem + " (shipped)" if path in shipped else str(path)] = ", ".join(
            filter(None, (header.dataset.name, noise, state))
        )
    return entries


def _configs() -> dict[str, str]:
    return _described(CONFIGS)


def _corruptions() -> dict[str, str]:
    ours = complete.catalogue()["corruptions"]
    if not complete.plugged("corruptions"):
        return ours
    from robustbench_sde.perturbations.corruptions.registry import CORRUPTION_PLUGINS

    return ours | _plugins(CORRUPTION_PLUGINS, ours, _corruption_line)


def _datasets() -> dict[str, str]:
    ours = complete.catalogue()["datasets"]
    if not complete.plugged("datasets"):
        return ours
    from robustbench_sde.data.registry import DATASET_PLUGINS

    return ours | _plugins(DATASET_PLUGINS, ours, lambda entry: entry.summary)


def _loggers() -> dict[str, str]:
    ours = complete.catalogue()["loggers"]
    if not complete.plugged("loggers"):
        return ours
    from robustbench_sde.training.loggers import LOGGER_PLUGINS

    return ours | _plugins(LOGGER_PLUGINS, ours, _first_line)


def _models() -> dict[str, str]:
    if not complete.plugged("models"):
        return {}
    from robustbench_sde.models.modules.factory import MODEL_PLUGINS

    return _plugins(MODEL_PLUGINS, (), _first_line)


def _rules() -> dict[str, str]:
    return {
        "mean-prob": "argmax of the mean softmax over the score draws",
        "vote": "the class that most score draws give",
        "single": "argmax of one draw",
    }


def _described(folder: Path) -> dict[str, str]:
    """Return the `description` of each YAML file in a folder of the package."""
    from robustbench_sde.storage.files import read_yaml

    return {name: str(read_yaml(path).get("description", "")) for name, path in shipped_files(folder).items()}


def _plugins(plugins: Plugins[_T], built_in: Collection[str], line: Callable[[_T], str]) -> dict[str, str]:
    """Return the entries of plug-ins, each with its package; unusable ones are named on stderr."""
    entries, problems = plugins.all(built_in)
    for problem in problems:
        print(f"sde-bench: {problem}", file=sys.stderr)
    return {name: f"{line(entry)} [{provider(plugins.kind, name)}]" for name, entry in entries.items()}


def _first_line(thing: object) -> str:
    return next(iter((thing.__doc__ or "").strip().splitlines()), "")
