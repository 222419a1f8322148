"""Evaluate cells in memory or into a run folder: shared by `attack`, `score` and `run`."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from robustbench_sde.api.models import about_trainings, write_trainings
from robustbench_sde.api.result import Result
from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.models.compute import Compute
from robustbench_sde.progress import Bars
from robustbench_sde.runs.run import run_cells, run_in_memory
from robustbench_sde.runs.sources import LiveSource, about_modules
from robustbench_sde.runs.tables import corruption_table
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.images import check_image_format
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import SUMMARY, table

#: Where results go: a folder, `"auto"` for one in reports/ that is named after the work, None for nowhere.
Out = str | Path | None


def work_folder(out: str | Path, kind: str, data: ImageDataset, keys: Iterable[str]) -> RunFolder:
    """Return the folder `out`; `"auto"` depends on the work alone, so that the same call goes on there."""
    if out != "auto":
        return RunFolder(Path(out))
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in data.name)
    mark = hashlib.sha256("".join(keys).encode()).hexdigest()[:8]
    return RunFolder(Path("reports") / f"{kind}-{safe}-{mark}")


def evaluate_work(
    kind: str,
    work: Work,
    compute: Compute,
    out: Out,
    bars: Bars | None,
    save_images: str | None = None,
    *,
    cache: bool = False,
    reference: str | None = None,
    force: bool = False,
) -> Result:
    """Evaluate the cells in memory, or into a folder whose name begins with `kind` if `out` is `"auto"`.

    `reference` is the name of the checkpoint whose errors mCE is relative to; with `force` another run in the
    folder is replaced.
    """
    bars = bars or Bars()
    for source in work.sources:
        if isinstance(source, LiveSource):  # stays where it is, and the manifest says where that is
            compute = replace(compute, device=str(source.model.device))
    kind_of_file = None if save_images is None else check_image_format(save_images)
    if out is None:
        if save_images is not None:
            raise BenchError("`save_images` writes into the folder of a run: give `out`")
        found, reports = run_in_memory(work, compute=compute, bars=bars)
        results = dict(zip(work.cells, found, strict=True))
        status = {cell: result.row["status"] for cell, result in results.items()}
        records = {cell: result.records for cell, result in results.items()}
        return Result(
            table([result.row for result in found], SUMMARY),
            corruptions=corruption_table(work.cells, status, records, reference),
            certificates=tuple(reports),
            _cells=found,
            _class_names=work.data.class_names,
        )
    folder = work_folder(out, kind, work.data, work.keys.values())
    run = run_cells(
        work,
        folder,
        compute=compute,
        bars=bars,
        save_images=kind_of_file,
        cache=cache,
        about=about_modules(work.sources) | about_trainings(work.sources),
        reference=reference,
        replace=force,
    )
    write_trainings(work.sources, folder)
    return Result(
        run.summary,
        folder.path,
        run.reused,
        run.corruptions,
        certificates=run.certificates,
        reused_certificates=run.reused_certificates,
        _class_names=work.data.class_names,
    )
