"""Make the arguments of API functions from the options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import robustbench_sde as rb
from robustbench_sde.cli import complete
from robustbench_sde.cli.texts import names as parse_names
from robustbench_sde.cli.texts import parse_smoothing
from robustbench_sde.errors import BenchError, counted, tell
from robustbench_sde.output import others_print_to_stderr

if TYPE_CHECKING:
    from robustbench_sde.api.certify import Certificates
    from robustbench_sde.api.models import Model as AnyModel
    from robustbench_sde.api.result import Result
    from robustbench_sde.api.stability import Stability
    from robustbench_sde.data import ImageDataset
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.storage.run_folder import RunFolder

#: options that functions of the API take under the same name
_SHARED = ("sigma", "noise", "precision", "score_draws", "rule", "seed", "batch_size")


def shared(context: typer.Context, *, device: str | None = None) -> dict[str, Any]:
    """Return the options of this command that functions of the API take under the same name.

    `device` is a `Compute`, with the options on noise backend, memory, compilation and graphs.

    Args:
        context: context of the command.
        device: device in place of `--device`.

    Raises:
        BenchError: there is no such device, or the memory limit is not a size.
    """
    from robustbench_sde.models.compute import Compute

    options = context.params
    more = {"smoothing": parse_smoothing(options["smoothing"])} if "smoothing" in options else {}
    return (
        {name: options[name] for name in _SHARED if name in options}
        | more
        | {
            "device": Compute.of(
                device or options["device"],
                noise_backend=options.get("noise_backend", "auto"),
                memory_limit=options.get("memory_limit"),
                compile=options.get("compile_", False),
                graphs=options.get("graphs", True),
                strict_versions=options.get("strict_versions", False),
            )
        }
    )


def load_images(context: typer.Context, name: str | None = None, *, whole: bool = False) -> "ImageDataset":
    """Load the test images of a command; of a split with fewer images than the default number, all.

    Args:
        context: context of the command, with the options on data.
        name: data set, if it is not that of `--dataset`.
        whole: whether to load the whole split.

    Raises:
        BenchError: there are no such data, or the command names a checkpoint that does not exist.
    """
    from robustbench_sde.api.models import check_checkpoints

    options = context.params
    for parameter in ("checkpoints", "checkpoint", "networks"):
        named = options.get(parameter) or []
        # before a folder of images is read, which may take a minute
        check_checkpoints([named] if isinstance(named, Path) else named)
    images = None if whole or options.get("images") == "all" else options.get("images")
    usual = images is not None and not is_typed(context, "images")
    data = rb.load_dataset(
        complete.dataset_name(name or options["dataset"]),
        split="test",
        images=None if usual else images,
        data_dir=options["data_dir"],
        download=options["download"],
        image_size=options["image_size"],
        resize=options.get("resize"),
        crop=options.get("crop"),
        interpolation=options.get("interpolation", "bilinear"),
        class_order=options.get("class_order"),
    )
    if images is None or not usual:
        return data
    if len(data) < images:
        tell(
            f"{data.name} has {counted(len(data), 'image')} in {data.split}: taking all, in place of {images}"
        )
    return data.subset(min(images, len(data)))


def is_typed(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def refuse_without(context: typer.Context, needed: str, *names: str) -> None:
    """Refuse options that do nothing without another one.

    Raises:
        BenchError: one of them stands on the command line.
    """
    for name in names:
        if is_typed(context, name):
            raise BenchError(f"--{name.replace('_', '-')} does nothing without {needed}")


def find_attacks(named: list[str] | None, settings: list[str] | None) -> dict[str, dict[str, Any]]:
    """Return the attacks of `--attack`, with the parameters that `--set` gives each, like ``cw.steps=200``.

    Raises:
        BenchError: `--set` is no such text, or names another attack.
    """
    from robustbench_sde.storage.files import parse_scalar

    names = parse_names(named or ["pgd"], complete.known("attacks"))
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in settings or ():
        target, equals, value = text.partition("=")
        name, dot, parameter = target.partition(".")
        if not (equals and dot):
            raise BenchError(f"--set {text!r}: write ATTACK.NAME=VALUE, like cw.steps=200")
        if name not in own:
            raise BenchError(f"--set names {name!r}, which is not in --attack {','.join(names)}")
        own[name][parameter] = parse_scalar(value)
    return own


def find_models(
    context: typer.Context, named: list[Path] | None, data: "ImageDataset", compute: "Compute"
) -> "list[AnyModel] | None":
    """Return the named checkpoints and the module of --model; None (neither is given) means all.

    Warnings about the module are printed on stderr.

    Raises:
        BenchError: the module cannot be evaluated on `data`, or options do not go together.
    """
    options = context.params
    model, weights, normalize = options["model"], options["weights"], options["normalize"]
    classes, class_map = options["classes"], options["class_map"]
    if model is None:
        if any(given is not None for given in (weights, normalize, classes, class_map)):
            raise BenchError("--weights, --normalize, --classes and --class-map belong to --model")
        return [*_ours(named)] if named else None
    from robustbench_sde.models.modules.adapter import Normalisation

    if options["sigma"] is not None:
        raise BenchError("--sigma does not reach into the module of --model; set its noise in your function")
    expected = Normalisation() if normalize is None else Normalisation.parse(normalize)
    with others_print_to_stderr():
        made = rb.as_classifier(
            model,
            data,
            weights=weights,
            mean=expected.mean,
            std=expected.std,
            classes=classes,
            class_map=class_map,
            noise=options["noise"],
            device=compute,
        )
    return [*_ours(named or []), made]


def _ours(named: list[Path]) -> list[Path]:
    for path in named:
        if path.suffix in (".pt", ".pth", ".bin", ".ckpt") and path.exists():
            raise BenchError(
                f"{path} is not a checkpoint of sde-bench: give --model FILE.py:FUNCTION --weights {path}, "
                f"or convert it with `sde-bench import {path}`"
            )
    return named


def folder_of(result: "Result | Stability | Certificates") -> "RunFolder":
    """Return the folder that a command has written."""
    from robustbench_sde.storage.run_folder import RunFolder

    assert result.folder is not None  # commands always give `out`
    return RunFolder(result.folder)
