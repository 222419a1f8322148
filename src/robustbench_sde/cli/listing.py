"""`sde-bench list` and `sde-bench show`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, unknown_name


def list_command(
    kind: Annotated[
        str, typer.Argument(help="checkpoints, datasets, attacks, corruptions, suites, presets or rules.")
    ],
    json: o.Json = False,
) -> None:
    """Say what exists.

    [bold]Example:[/bold] sde-bench list attacks
    """
    from robustbench_sde.reporting.terminal import print_entries

    listings = {
        "attacks": _attacks,
        "checkpoints": _checkpoints,
        "corruptions": _corruptions,
        "datasets": _datasets,
        "presets": _presets,
        "rules": _rules,
        "suites": _suites,
    }
    if kind not in listings:
        raise unknown_name("kind", kind, listings)
    print_entries(listings[kind](), as_json=json)


def show_command(
    thing: Annotated[
        str, typer.Argument(metavar="PATH", help="A checkpoint, the folder of a run, or a suite.")
    ],
    json: o.Json = False,
) -> None:
    """Say what is in a checkpoint, a run or a suite.

    [bold]Example:[/bold] sde-bench show checkpoints/digits-ode.safetensors
    """
    from robustbench_sde.models.checkpoint import read_header
    from robustbench_sde.reporting.terminal import print_entries, print_json, print_summary
    from robustbench_sde.results.run_folder import RunFolder
    from robustbench_sde.suite.suite import Suite, shipped_suites

    path = Path(thing)
    if path.is_dir():
        folder = RunFolder(path)
        summary, manifest = folder.read_summary(), folder.read_manifest()
        if json:
            print_json(summary)
            return
        print_summary(summary, folder=thing)
        whole = "complete" if manifest["complete"] else "stopped before its end"
        print(f"run: {whole}, by {manifest['command']}")
    elif path.suffix in (".yaml", ".yml") or (thing in shipped_suites() and not path.exists()):
        suite = Suite.read(thing)
        print_entries(suite.spec.model_dump(mode="json"), as_json=json)
    elif path.exists():
        print_entries(read_header(path).model_dump(mode="json"), as_json=json)
    else:
        raise BenchError(f"{path} does not exist; give a checkpoint, the folder of a run, or a suite")


def _attacks() -> dict[str, str]:
    from robustbench_sde.perturbations.attacks import ATTACKS

    ours = {name: _first_line(attack) + f" ({', '.join(attack.norms)})" for name, attack in ATTACKS.items()}
    return ours | {"foolbox:NAME": "An attack of foolbox by its class name, LinfPGD say, scored by us."}


def _checkpoints() -> dict[str, str]:
    from robustbench_sde.models.checkpoint import read_header

    entries = {}
    for path in o.checkpoints_here():
        header = read_header(path)
        accuracy = header.training.get("test_accuracy", [float("nan")])[0]
        noise = " + ".join(f"{term.kind} sigma {term.sigma:g}" for term in header.model.noise) or "no noise"
        entries[str(path)] = f"{header.dataset.name}, {noise}, clean {accuracy:.1%}"
    return entries


def _corruptions() -> dict[str, str]:
    from robustbench_sde.perturbations.corruptions.registry import CORRUPTIONS, PLAIN

    graded = {
        name: f"{corruption.group}{', extra' * (not corruption.benchmark)}: {_first_line(corruption.recipe)}"
        for name, corruption in CORRUPTIONS.items()
    }
    plain = {
        f"{name}:{perturbation.parameter}": f"plain: {_first_line(perturbation.recipe)}"
        for name, perturbation in PLAIN.items()
    }
    return graded | plain


def _datasets() -> dict[str, str]:
    from robustbench_sde.data import DATASETS

    return {name: entry.summary for name, entry in DATASETS.items()}


def _presets() -> dict[str, str]:
    from robustbench_sde.models.presets import PRESETS

    return {name: ", ".join(f"{k} {v}" for k, v in preset.items()) for name, preset in PRESETS.items()}


def _rules() -> dict[str, str]:
    return {
        "mean-prob": "argmax of the mean softmax over the score draws",
        "vote": "the class that most score draws give",
        "single": "argmax of one draw",
    }


def _suites() -> dict[str, str]:
    from robustbench_sde.suite.suite import Suite, shipped_suites

    return {name: Suite.read(name).spec.description for name in shipped_suites()}


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]
