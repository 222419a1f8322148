"""Cells that need not be run: stored in this run folder, or by an earlier run beside it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_sde.choices import ImageFormat
from robustbench_sde.errors import BenchError, counted
from robustbench_sde.evaluation.cell import CellResult
from robustbench_sde.runs.cells import Cell, controlled
from robustbench_sde.runs.checked import check_stored, completed
from robustbench_sde.runs.tables import needs_records
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.cell_file import StoredCell
from robustbench_sde.storage.images import PerturbedImages
from robustbench_sde.storage.provenance import of_other_versions, other_versions
from robustbench_sde.storage.run_folder import RunFolder, safe_name


@dataclass(frozen=True)
class StoredCells:
    """The cells of a run that need not be evaluated."""

    #: summary rows of the cells in the run folder
    rows: dict[Cell, dict[str, Any]]
    #: records of those among them that checks and tables need (`needs_records`)
    records: dict[Cell, pd.DataFrame]
    #: other runs that may have a cell which the run folder lacks
    elsewhere: dict[Cell, list[RunFolder]]
    #: reason why a cell that another version has stored is evaluated again
    outdated: dict[Cell, str] = field(default_factory=dict)
    #: what the cells were made with
    made_with: dict[Cell, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def find(
        cls, work: Work, folder: RunFolder, *, cache: bool, strict_versions: bool = False
    ) -> "StoredCells":
        """Read the cells that are in `folder`; with `cache`, note the folders beside it that have others.

        Args:
            work: the cells that are wanted.
            folder: folder of the run.
            cache: whether folders beside it may have them.
            strict_versions: whether cells that other versions of libraries have made count as not stored.

        Raises:
            BenchError: a cell in `folder` is damaged.
        """
        present = folder.stored()
        found = cls({}, {}, {})
        beside = _beside(folder) if cache else {}
        for cell, key in work.keys.items():
            stored = folder.read_cell(key) if key in present else None
            problems = {run: _problem(run, key, strict_versions) for run in beside.get(key, ())}
            usable = [run for run, problem in problems.items() if not problem]
            problem = "" if stored is None else stored.version_problem
            if stored is not None and strict_versions and not problem:
                problem = of_other_versions(stored.made_with)
            if stored is not None and not problem:
                _check(stored, folder)
                found._keep(cell, stored, work)
            elif usable:
                found.elsewhere[cell] = usable
            elif stored is not None or problems:
                found.outdated[cell] = next(iter(problems.values())) if stored is None else problem
            else:
                earlier = cell.earlier_keys(work.data)
                for why in (why for key, why in earlier.items() if key in present or key in beside):
                    found.outdated[cell] = why
        found._forget_apart(work)
        return found

    def outdated_in_words(self) -> list[str]:
        """Say which stored cells are evaluated again and why: a text for each reason."""
        return [f"{counted(number, 'cell')} {why}" for why, number in Counter(self.outdated.values()).items()]

    def other_versions_in_words(self) -> list[str]:
        """Say how many cells that are used were made with other versions of libraries, by these."""
        found = Counter(text for made in self.made_with.values() if (text := other_versions(made)))
        return [
            f"{counted(number, 'stored cell')} made with {text}: `strict_versions` makes them again"
            for text, number in found.items()
        ]

    def present_in(self, folder: RunFolder, work: Work) -> "StoredCells":
        """Return what is still there of it, without reading a file again."""
        keys = folder.stored()
        rows = {cell: row for cell, row in self.rows.items() if work.keys[cell] in keys}
        return replace(self, rows=rows, records=dict(self.records))

    def adopt(self, work: Work, folder: RunFolder) -> None:
        """Copy the cells that are whole elsewhere into `folder`; they count as its own from then on."""
        for cell, runs in self.elsewhere.items():
            copies = (folder.adopt_cell(work.keys[cell], run, check_stored) for run in runs)
            stored = next((copy for copy in copies if copy is not None), None)
            if stored is not None:
                self._keep(cell, stored, work)

    def _forget_apart(self, work: Work) -> None:
        """Forget clean rows without their control, and the reverse: they are made again, together."""
        for clean, controls in controlled(work.cells):
            together = [clean, *controls]
            if all(cell in self.rows or cell in self.elsewhere for cell in together):
                continue
            is_outdated = any(cell in self.outdated for cell in together)
            for cell in together:
                was_stored = self.rows.pop(cell, None) or self.elsewhere.pop(cell, None)
                self.records.pop(cell, None)
                if was_stored and is_outdated:
                    partner = "control" if cell is clean else "clean row"
                    self.outdated[cell] = f"made again together with its {partner}"

    def _keep(self, cell: Cell, stored: StoredCell, work: Work) -> None:
        """Keep a row under the names of today, which are no part of a key and may have changed."""
        row = completed(stored).row
        self.made_with[cell] = stored.made_with
        self.rows[cell] = row | {"checkpoint": cell.source.name, "dataset": work.data.name}
        if needs_records(cell.perturbation):
            self.records[cell] = stored.records


def _problem(run: RunFolder, key: str, strict_versions: bool) -> str:
    """Say why a cell that another run has stored is of no use; empty if it is."""
    problem = run.version_problem(key)
    return problem if problem or not strict_versions else of_other_versions(run.made_with(key))


def _check(stored: StoredCell, folder: RunFolder) -> None:
    try:
        check_stored(stored)
    except BenchError as error:
        key = stored.row["cell"]
        place = next((folder.path / "records").glob(f"*-{key}.parquet"), folder.path / "records")
        raise BenchError(f"{place} is damaged ({error}); delete it and run again") from error


def _beside(folder: RunFolder) -> dict[str, list[RunFolder]]:
    """Find the run folders beside this one, by the keys of the cells that they have."""
    found: dict[str, list[RunFolder]] = {}
    for path in sorted(folder.path.parent.glob("*/records/*-*.parquet")):
        run = path.parent.parent
        if run.name != folder.path.name:
            found.setdefault(path.stem.rpartition("-")[2], []).append(RunFolder(run))
    return found


def has_images(cell: Cell, work: Work, folder: RunFolder, kind: ImageFormat) -> bool:
    """Whether the images of a cell are in `folder`, or it has none of its own."""
    return not cell.perturbation.changes_images or _path(cell, work, folder, kind).exists()


def write_images(cell: Cell, result: CellResult, work: Work, folder: RunFolder, kind: ImageFormat) -> None:
    """Write `images/<cell>.<kind>`, unless the cell has failed or has no images of its own."""
    if not (result.ok and cell.perturbation.changes_images):
        return
    data, described, budget = work.data, cell.perturbation.describe(), cell.perturbation.budget
    about = {
        "dataset": data.name,
        "split": data.split,
        "fingerprint": data.fingerprint,
        "checkpoint": cell.source.name,
        "perturbation": described["perturbation"],
        "norm": described["norm"],
        "eps": None if budget is None else budget.eps,
    }
    images = PerturbedImages(result.images.numpy(), data.ids.numpy(), data.labels.numpy(), about)
    images.write(_path(cell, work, folder, kind))


def _path(cell: Cell, work: Work, folder: RunFolder, kind: ImageFormat) -> Path:
    return folder.path / "images" / f"{safe_name(cell.label)}-{work.keys[cell]}.{kind}"
