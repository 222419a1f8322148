"""`run`: the cells of a suite."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from robustbench_sde.api.arguments import Numbers, numbers_of
from robustbench_sde.api.models import about_trainings, compute_of, find_checkpoints, write_trainings
from robustbench_sde.api.progress import shown
from robustbench_sde.api.result import Result
from robustbench_sde.choices import Interpolation
from robustbench_sde.data import ImageDataset, load_dataset
from robustbench_sde.errors import BenchError
from robustbench_sde.models.compute import Compute
from robustbench_sde.progress import Bars
from robustbench_sde.runs.engine import Engine
from robustbench_sde.runs.names import names_of_files
from robustbench_sde.runs.plan import Plan
from robustbench_sde.runs.run import run_cells
from robustbench_sde.runs.suite.suite import Suite
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import SUMMARY, table

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def run(
    suite: str | Path,
    checkpoints: str | Path | Sequence[str | Path] | None = None,
    data: ImageDataset | str | None = None,
    *,
    images: int | Literal["all"] | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: Interpolation = "bilinear",
    class_order: str | None = None,
    precision: str = "fp32",
    smoothing: Numbers | None = None,
    batch_size: int = 256,
    device: str | Compute = "auto",
    engine: Engine | None = None,
    cache: bool = True,
    out: str | Path = "auto",
    force: bool | Literal["suite"] = False,
    dry_run: bool = False,
    planned: Callable[[Plan], object] | None = None,
    progress: bool = False,
    bars: Bars | None = None,
) -> Result:
    """Run a suite: every checkpoint under every perturbation of a YAML file (docs/suites.md).

    After an interruption the same call continues.

    Args:
        suite: file of the suite, or the name of a shipped suite (`sde-bench list suites`); names like
            `study/clean` are the studies of the paper.
        checkpoints: files of checkpoints, or names in checkpoints/; None: those of the suite.
        data: a data set, or its name; None: that of the suite.
        images: number of test images of a data set by name, or `"all"`; None: as the suite says.
        data_dir: as in `load_dataset`, for a data set by name.
        download: as in `load_dataset`.
        image_size: as in `load_dataset`. If one of `image_size`, `resize` and `crop` is given, it replaces
            all that the suite says of sizes.
        resize: as in `load_dataset`.
        crop: as in `load_dataset`.
        interpolation: as in `load_dataset`, of the sizes that are given with it.
        class_order: as in `load_dataset`.
        precision: as in `attack`.
        smoothing: as in `attack`; replaces all values of the suite. None: the values of the suite.
        batch_size: as in `attack`.
        device: as in `attack`.
        engine: engine that computes the cells, like `runs.cluster.ray.RayEngine`; None: this process.
        cache: whether equal cells of other runs in the same folder as `out` are reused.
        out: folder of the run; `"auto"` is reports/<name of the suite>.
        force: as in `attack`. `"suite"` replaces an earlier run of the same suite, and so does False if `out`
            is `"auto"`; a warning says so.
        dry_run: whether to stop after the plan is made.
        planned: function that is called with the plan before anything is run.
        progress: as in `attack`.
        bars: as in `attack`.

    Returns:
        The result with a row for each checkpoint and perturbation, and the plan; after a dry run only the
        plan.

    Raises:
        BenchError: the suite is wrong (the message says where), or a checkpoint or the data are.
    """
    chosen = Suite.read(str(suite))
    if smoothing is not None:
        values = numbers_of(smoothing, "smoothing")
        if not values:
            raise BenchError("`smoothing` names no value; give one, or None")
        chosen = chosen.with_smoothing(values)
    spec = chosen.spec
    folder = RunFolder(Path("reports") / folder_name(chosen.name) if out == "auto" else Path(out))
    compute = compute_of(device)
    if not isinstance(data, ImageDataset):
        if image_size is None and resize is None and crop is None:
            image_size, resize, crop = spec.image_size, spec.resize, spec.crop
            interpolation = spec.interpolation
        with chosen.document.blame("dataset"):
            data = load_dataset(
                data or spec.dataset,
                split="test",
                images=spec.images if images is None else None if images == "all" else images,
                data_dir=data_dir or spec.data_dir,
                download=download,
                image_size=image_size,
                resize=resize,
                crop=crop,
                interpolation=interpolation,
                class_order=class_order or spec.class_order,
            )
    named = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    paths = find_checkpoints([Path(path) for path in named or chosen.checkpoints()], data.name)
    work = chosen.work(paths, data, rows=batch_size, precision=precision)
    plan = Plan.of(work, folder, compute=compute, cache=cache)
    if planned is not None:
        planned(plan)
    files = {name: path for path, name in names_of_files(paths).items()}
    if dry_run:
        empty = table(pd.DataFrame(columns=[column.name for column in SUMMARY]), SUMMARY)
        return Result(empty, checkpoints=files, plan=plan)
    with shown(progress, bars) as bars:
        done = run_cells(
            work,
            folder,
            engine=engine,
            compute=compute,
            bars=bars,
            stored=plan.stored,
            about=chosen.about() | about_trainings(work.sources),
            replace=force or ("suite" if out == "auto" else False),
        )
    folder.write_text("suite.yaml", chosen.document.text)
    write_trainings(work.sources, folder)
    return Result(
        done.summary,
        folder.path,
        done.reused,
        done.corruptions,
        checkpoints=files,
        plan=plan,
        certificates=done.certificates,
        reused_certificates=done.reused_certificates,
        _class_names=data.class_names,
    )


def folder_name(name: str) -> str:
    """A name that stays inside reports/.

    Raises:
        BenchError: it does not.
    """
    if not _NAME.fullmatch(name):
        raise BenchError(f"`name` is {name!r}; letters, digits, '.', '_' and '-' only, no path")
    return name
