"""Models of a call: checkpoints by file or name, networks of anybody, classifiers in memory."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from robustbench_sde.api.arguments import Data, Numbers, dataset_of, numbers_of
from robustbench_sde.data import ImageDataset
from robustbench_sde.data.registry import entry_of
from robustbench_sde.errors import BenchError, tell
from robustbench_sde.models.base import ClassifierBase
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.header import read_header
from robustbench_sde.models.located import (
    checkpoints_here,
    known_checkpoints,
    locate_existing,
    shipped_checkpoints,
)
from robustbench_sde.models.modules.adapter import ModuleClassifier, Normalisation
from robustbench_sde.models.modules.examine import examine
from robustbench_sde.models.modules.factory import Factory
from robustbench_sde.models.modules.outputs import ClassMap
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.models.weights import load_weights
from robustbench_sde.runs.names import distinct_paths, with_distinct_names
from robustbench_sde.runs.sources import LiveSource, ModuleSource, Source
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.spreadsheet import csv_text
from robustbench_sde.training.history import of_header

#: A checkpoint by its file or its name in checkpoints/, a classifier, or a network of your own.
Model = str | Path | RandomClassifier | nn.Module
#: One or several; None: all checkpoints in checkpoints/ that were trained on the data set.
Models = Model | Sequence[Model] | None


def as_classifier(
    module: nn.Module | str,
    data: Data,
    *,
    weights: str | Path | None = None,
    name: str = "",
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    classes: int | None = None,
    class_map: str | Path | Sequence[int | Sequence[int]] | None = None,
    noise: bool = True,
    device: str | Compute = "auto",
) -> ModuleClassifier:
    """Prepare any `nn.Module` for evaluation, and check it for common mistakes.

    The first images of `data` show whether it is deterministic, takes its noise as an argument, or has
    noise of its own (docs/your-model.md). Something suspicious gives a `BenchWarning`.

    Args:
        module: module that maps floats (B, C, H, W) to logits (B, classes); its device and mode are not
            changed. Or the name of a function that returns such a module: ``pkg.module:function``,
            ``FILE.py:function`` or a plug-in, which **imports and runs this code**. Stored cells are reused
            as long as the code, everything that it imports and the weights are the same.
        data: images on which the module is evaluated, or a data set by name, as in `attack`.
        weights: file whose weights are loaded into the module: ``.safetensors``, a state dict (``.pt``,
            ``.pth``) or a Hugging Face folder. Only tensors are read; an `argparse.Namespace` in the file
            is allowed and ignored.
        name: name in tables; None: the name of the class, of the weights, or of the function.
        mean: mean of the normalisation that the module expects, for images in [0, 1]: one number, or one
            for each channel.
        std: standard deviation of the normalisation, above 0, with as many numbers as `mean`.
        classes: number of its classes, if they are more than those of `data`, which are the first of them. A
            prediction of one of the others is wrong.
        class_map: outputs that stand for the classes of `data`, one or several for each, in the order of the
            labels: numbers, or a text file with a class in each line. All other outputs are left out, and the
            probabilities of several are added.
        noise: False switches the noise off, which is possible for keyed noise only.
        device: device for the module of a function; a module object stays on its device.

    Returns:
        A classifier for the other functions. Its `noise` is `none`, `keyed` or `opaque`, and its method
        `as_module` returns a plain module for other libraries.

    Raises:
        BenchError: the module cannot be evaluated, with the reason.
    """
    data = dataset_of(data)
    normalisation = Normalisation(*(_numbers(values) for values in (mean, std)))
    chosen = None if class_map is None else ClassMap.of(class_map)
    path = None if weights is None else Path(weights)
    if isinstance(module, str):
        compute = compute_of(device)
        source = ModuleSource.made_by(
            Factory.of(module, path),
            data,
            normalisation=normalisation,
            classes=classes,
            class_map=chosen,
            noise=noise,
            compute=compute,
        )
        if name:
            interface = replace(source.interface, name=name)
            source = replace(source, name=name, interface=interface)
        made, notes = source.load_inside(compute), source.notes
    else:
        if path is not None:
            load_weights(module, path)
        known = name or type(module).__name__
        interface, notes = examine(
            module, data, name=known, normalisation=normalisation, classes=classes, class_map=chosen
        )
        made = interface.around(module, noise=noise)
    for note in notes:
        tell(note, stacklevel=2)
    return made


def sources_of(
    models: Models,
    data: ImageDataset,
    *,
    sigma: float | None = None,
    noise: bool = True,
    precision: str = "fp32",
    smoothing: Numbers | None = None,
    certified: bool = False,
) -> list[Source]:
    """Return what stands for the models in cells, checkpoints first, with this noise and precision.

    With several values of `smoothing` each model stands there once for each of them. `certified` with no
    models means the checkpoints that were made for it.

    Raises:
        BenchError: one of them cannot be loaded or evaluated on `data`, or is in memory with a noise and a
            precision of its own.
    """
    several: Sequence[Any] = (
        [] if models is None else models if isinstance(models, list | tuple) else [models]
    )
    files = [Path(model) for model in several if isinstance(model, str | Path)]
    paths = find_checkpoints(files, data.name, smoothed=certified) if files or models is None else []
    sources = [Source.of(path, data, sigma=sigma, noise=noise, precision=precision) for path in paths]
    if sigma is not None and noise:
        for source in (source for source in sources if not source.kinds):
            tell(f"{source.name} has no noise: `sigma` changes nothing about it")
    for model in several:
        if isinstance(model, str | Path):
            continue
        ready = isinstance(model, ClassifierBase)
        if not ready and not isinstance(model, nn.Module):
            raise BenchError(
                f"a {type(model).__name__} is not a model: give a checkpoint, an nn.Module (wrap any other "
                "callable in one), or what as_classifier returns"
            )
        made = model if ready else as_classifier(model, data)
        sources.append(_source_in_memory(made, sigma=sigma, noise=noise, precision=precision))
    named = with_distinct_names(sources)
    if smoothing is None:
        return named
    values = list(dict.fromkeys(numbers_of(smoothing, "smoothing")))
    if not values:
        raise BenchError("`smoothing` names no value; give one, or None")
    for source in named:
        if source.smoothing is not None:
            raise BenchError(f"{source.name} is smoothed already: leave `smoothing` out")
    return [source.smoothed(value) for source in named for value in values]


def _source_in_memory(model: RandomClassifier, *, sigma: float | None, noise: bool, precision: str) -> Source:
    """Return what stands for a classifier in cells; one that a factory has made can be made otherwise.

    Raises:
        BenchError: it is in memory with a noise and a precision of its own.
    """
    made = ModuleSource.behind(model)
    if made is not None and sigma is None:
        return made.with_options(noise=noise and made.noise, precision=precision)
    if sigma is not None or not noise or precision != "fp32":
        raise BenchError(f"{model.name} is in memory: make it with the noise and precision wanted")
    return LiveSource.around(model)


def compute_of(device: str | Compute) -> Compute:
    """Return the choices of computing for a device by name."""
    return device if isinstance(device, Compute) else Compute.of(device)


def find_checkpoints(named: Sequence[Path] | None, dataset: str, *, smoothed: bool = False) -> list[Path]:
    """Return the named checkpoints, or all in ``checkpoints/`` that were trained on this data set.

    Those whose name ends in ``-smoothed`` are made for noise on the image: not named, they are for `certify`
    (`smoothed`) and for nothing else.

    Without any there, those that are installed with the package are taken. Unfinished trainings are left out
    unless they are named. Each of these is a warning. States of trainings, which a shell's ``*`` names, too,
    are passed over.

    Raises:
        BenchError: there are none, or a named one does not exist (with the most similar name).
    """
    if named:
        named = [path for path in named if ".state." not in path.name] or named
        found = distinct_paths(locate_existing(path) for path in named)
        for path, sentence in unfinished(found).items():
            tell(f"{path.stem}: {sentence}")
        return found
    entry = entry_of(dataset)
    trained_on = (entry and entry.trained_on) or dataset

    def fitting(paths: Sequence[Path], smoothed: bool) -> list[Path]:
        kind = [path for path in paths if path.stem.endswith("-smoothed") == smoothed]
        return [path for path in kind if read_header(path).dataset.name == trained_on]

    here = checkpoints_here()
    matching = fitting(here, smoothed)
    for path in [] if smoothed else fitting(here, True):
        tell(f"left out {path}: it is made for `certify`; name it to evaluate it")
    for path, sentence in unfinished(matching).items():
        tell(f"left out {path}: {sentence}; name it to evaluate it")
        matching.remove(path)
    if matching:
        return matching
    shipped = fitting(shipped_checkpoints(), smoothed)
    if not shipped and smoothed:
        raise BenchError(f"no checkpoint *-smoothed in checkpoints/ was trained on {dataset!r}; name one")
    if not shipped:
        others = ", ".join(sorted({read_header(path).dataset.name for path in known_checkpoints().values()}))
        raise BenchError(
            f"no checkpoint in checkpoints/ was trained on {dataset!r} (there are some of {others}); name "
            "one, or train one on it (`sde-bench train`)"
        )
    names = ", ".join(path.stem for path in shipped)
    message = f"checkpoints/ has none for {dataset!r}: taking the shipped ones, {names}"
    tell(message)
    return shipped


def check_checkpoints(named: Iterable[Path]) -> None:
    """Find each checkpoint.

    Raises:
        BenchError: one does not exist (with the most similar name).
    """
    for path in named:
        locate_existing(path)


def unfinished(paths: Iterable[Path]) -> dict[Path, str]:
    """Return a sentence like ``2 of 8 epochs, training not finished`` about each unfinished checkpoint."""
    sentences = {path: read_header(path).unfinished for path in paths if path.suffix == ".safetensors"}
    return {path: sentence for path, sentence in sentences.items() if sentence}


def about_trainings(sources: Iterable[Source]) -> dict[str, Any]:
    """Return the entry `unfinished` of a manifest, by name; nothing if all trainings are finished."""
    names = {source.path: source.name for source in sources if source.path is not None}
    found = {names[path]: sentence for path, sentence in unfinished(names).items()}
    return {"unfinished": found} if found else {}


def write_trainings(sources: Iterable[Source], folder: RunFolder) -> None:
    """Write `trainings.csv`, a row for each epoch of each checkpoint whose header has its history.

    A file that has disappeared while the run used its weights is passed over. Without any such checkpoint an
    earlier file is removed.
    """
    tables = []
    for path, name in {source.path: source.name for source in sources if source.path is not None}.items():
        is_there = path.suffix == ".safetensors" and path.is_file()
        history = of_header(read_header(path).training) if is_there else None
        if history is not None:
            tables.append(history.assign(checkpoint=name)[["checkpoint", *history.columns]])
    if tables:
        folder.write_text("trainings.csv", csv_text(pd.concat(tables), float_format="%.6g"))
    else:
        (folder.path / "trainings.csv").unlink(missing_ok=True)


def _numbers(values: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(values) if isinstance(values, Sequence) else (float(values),)
