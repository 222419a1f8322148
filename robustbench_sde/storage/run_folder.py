"""Define the run folder: a file for every cell, and the tables made from them.

A run that was stopped at any moment goes on from the cells that are there.
"""

import json
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from safetensors import SafetensorError

from robustbench_sde.errors import BenchError, printable
from robustbench_sde.storage.cell_file import (
    StoredCell,
    Values,
    damaged,
    made_with_of,
    read_cell_file,
    read_columns,
    read_table_file,
    version_problem_of,
    write_cell_file,
)
from robustbench_sde.storage.examples import Examples
from robustbench_sde.storage.files import atomic_write, remove_leftovers
from robustbench_sde.storage.listed import read_listed_yaml, to_listed_yaml
from robustbench_sde.storage.provenance import bytes_sha256, file_sha256
from robustbench_sde.storage.records import digest_of
from robustbench_sde.storage.schema import CORRUPTIONS, DISTANCES, SUMMARY, Column, table
from robustbench_sde.storage.spreadsheet import csv_text, read_csv, without_apostrophe

#: metadata of the summary: digests of the files of its cells (JSON), and of the table itself
_FILES, _TABLE = b"sde-bench-files", b"sde-bench-summary"
#: table of corruptions, and the key of its digest
_CSV = "corruptions.csv"
#: format of a manifest
FORMAT = 1
#: what its manifest must say; other keys are for people
_MANIFEST = {
    "format": int,
    "command": str,
    "complete": bool,
    "dataset": dict,
    "checkpoints": dict,
    "cells": list,
}


class RunFolder:
    """The folder of a run, `reports/<name>/`; the first write makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: files of cells, by key; a key that is missing, or whose file has gone, is looked for again
        self._files: dict[str, Path] = {}
        #: digests that the summary holds; None: they are not read yet
        self._written: dict[str, str] | None = None

    def stored(self) -> set[str]:
        """Return the keys of the cells that have a file, whole or not."""
        self._files = {
            path.stem.rpartition("-")[2]: path for path in (self.path / "records").glob("*-*.parquet")
        }
        return set(self._files)

    def read_cell(self, cell: str) -> StoredCell | None:
        """Read the row and the records of a stored cell; they are checked. None if it is not stored.

        Raises:
            BenchError: the file is damaged.
        """
        path = self._stored(cell)
        if path is None:
            return None
        return read_cell_file(path, cell)

    def version_problem(self, cell: str) -> str:
        """Say why this version cannot use a stored cell; empty if it can, or the file is missing or damaged.

        Its records are not read.
        """
        path = self._stored(cell)
        return "" if path is None else version_problem_of(path)

    def made_with(self, cell: str) -> dict[str, Any]:
        """Return what a cell was made with, without reading its records; empty if nobody knows."""
        path = self._stored(cell)
        return {} if path is None else made_with_of(path)

    def read_records(self, cell: str) -> pd.DataFrame:
        """Read the records of a stored cell; they are checked.

        Raises:
            BenchError: the file is missing or damaged, or is that of another cell.
        """
        return read_cell_file(self._needed(cell), cell).records

    def read_unchanged_columns(self, cell: str, names: Collection[str]) -> dict[str, Values] | None:
        """Read some columns of a cell's records, if its file and its row are as the run has written them.

        Such records need no other check, which would take twenty times as long; None for others.

        Args:
            cell: key of the cell.
            names: names of columns (`RECORDS`).

        Raises:
            BenchError: the file is damaged or gone.
        """
        path = self._needed(cell)
        if self._written is None:
            self._written = self._written_digests()
        content = path.read_bytes() if cell in self._written else b""
        return (
            read_columns(path, content, names) if bytes_sha256(content) == self._written.get(cell) else None
        )

    def read_columns(self, cell: str, names: Collection[str]) -> dict[str, Values]:
        """Read some columns of the records of a stored cell; they are checked, unless they are unchanged.

        Raises:
            BenchError: the file is missing or damaged, or is that of another cell.
        """
        found = self.read_unchanged_columns(cell, names)
        if found is not None:
            return found
        records = self.read_records(cell)
        return {name: records[name].to_numpy() for name in names}

    def write_cell(
        self,
        cell: str,
        label: str,
        row: dict[str, Any],
        records: pd.DataFrame,
        made_with: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a cell atomically; `label` makes the name of the file readable."""
        path = self.path / "records" / f"{safe_name(label)}-{cell}.parquet"
        write_cell_file(path, row | {"cell": cell}, records, made_with)

    def adopt_cell(
        self, cell: str, other: "RunFolder", check: Callable[[StoredCell], object]
    ) -> StoredCell | None:
        """Copy a cell that another run has stored, and return it.

        None unless it is there, whole, of this version, and `check` raises no BenchError.
        """
        try:
            found = other.read_cell(cell)
            if found is not None:
                check(found)
            other.read_examples(cell)
        except BenchError:  # another run's damage is not ours: the cell is computed
            return None
        path, examples = other._stored(cell), other._examples_path(cell)
        if found is None or found.version_problem or path is None:
            return None
        if examples.exists():
            with atomic_write(self._examples_path(cell)) as temporary:
                shutil.copyfile(examples, temporary)
        with atomic_write(self.path / "records" / path.name) as temporary:
            shutil.copyfile(path, temporary)
        return found

    def remove_cell(self, cell: str) -> None:
        """Remove the file of a cell and its examples, so that it is evaluated again."""
        path = self._stored(cell)
        for file in (self._examples_path(cell), *([] if path is None else [path])):
            file.unlink(missing_ok=True)

    def write_examples(self, cell: str, examples: Examples) -> None:
        """Store a cell's example images atomically, as `examples/<cell>.safetensors`."""
        names = [field.name for field in fields(examples)]
        arrays = {name: np.ascontiguousarray(getattr(examples, name)) for name in names}
        with atomic_write(self._examples_path(cell)) as temporary:
            temporary.write_bytes(safetensors.numpy.save(arrays))

    def read_examples(self, cell: str) -> Examples | None:
        """The example images of a stored cell; None where it has none.

        Raises:
            BenchError: the file is damaged.
        """
        path = self._examples_path(cell)
        if not path.exists():
            return None
        try:
            return Examples(**safetensors.numpy.load_file(path))
        except (SafetensorError, OSError, TypeError, BenchError) as error:
            raise damaged(path, error) from error

    def read_summary(self) -> pd.DataFrame:
        """The summary of a run.

        Raises:
            BenchError: there is none, or it is damaged.
        """
        path = self.path / "summary.parquet"
        if not path.exists():
            raise BenchError(f"{self.path} is not the folder of a run: it has no summary.parquet")
        summary, _ = read_table_file(path, SUMMARY)
        texts = [column.name for column in SUMMARY if column.dtype == "str"]
        shown = {name: summary[name].map(_printable_of(summary[name])).astype("str") for name in texts}
        return summary.assign(**shown)

    def read_summary_so_far(self, planned: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the summary of the stored cells of a run that has not finished.

        Args:
            planned: names of checkpoints by the key of each cell of the run, in the order of its table; None:
                every stored cell counts, under the name that it was stored with.

        Raises:
            BenchError: no cell is stored, or one is damaged.
        """
        if self.path.is_file():
            raise BenchError(f"{self.path} is a file, and not the folder of a run")
        stored = self.stored()
        keys = sorted(stored) if planned is None else [key for key in planned if key in stored]
        found = [self.read_cell(cell) for cell in keys]
        rows = [cell.row for cell in found if cell is not None and not cell.version_problem]
        if not rows:
            raise BenchError(f"{self.path} has no stored cell yet")
        if planned is None:
            order = {"clean": 0, "control": 1}
            rows.sort(key=lambda row: (row["checkpoint"], order.get(row["perturbation"], 2)))
            return table(rows, SUMMARY)
        return table([row | {"checkpoint": planned[row["cell"]]} for row in rows], SUMMARY)

    def unchanged_cells(self) -> set[str]:
        """Return the cells whose row in `summary.parquet` and whose file are as the run has written them.

        Empty for a table of an earlier version, which does not say.
        """
        digests = self._written_digests().items()
        return {cell for cell, digest in digests if cell != _CSV and self._file_digest(cell) == digest}

    def has_unchanged_corruptions(self) -> bool:
        """Whether `corruptions.csv`, and all cells, from which it follows, are as the run has written them.

        False for a run of an earlier version, which does not say.
        """
        digests, path = self._written_digests(), self.path / _CSV
        written = digests.pop(_CSV, None)
        return path.exists() and file_sha256(path) == written and self.unchanged_cells() == digests.keys()

    def _written_digests(self) -> dict[str, str]:
        """Return the digests that an unchanged `summary.parquet` holds: of files of cells, and of `_CSV`."""
        try:
            written = pq.read_table(self.path / "summary.parquet")
            metadata = written.schema.metadata
            if metadata[_TABLE].decode() != digest_of(written.to_pandas()):
                return {}
            return dict(json.loads(metadata[_FILES]))
        except Exception:  # the reader raises nearly anything on damaged files
            return {}

    def _file_digest(self, cell: str) -> str:
        """Hash the file of a cell; empty if there is none."""
        path = self._stored(cell)
        return "" if path is None else file_sha256(path)

    def write_summary(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Write `summary.parquet` and `summary.csv`, and return the table.

        Its rows must follow from the stored cells, and so must a `corruptions.csv` in the folder: the table
        holds digests of itself and of these files, so that nobody has to check this again (`unchanged_cells`,
        `has_unchanged_corruptions`).
        """
        summary = table(rows, SUMMARY)
        files = {cell: digest for cell in summary["cell"] if (digest := self._file_digest(cell))}
        if (self.path / _CSV).exists():
            files[_CSV] = file_sha256(self.path / _CSV)
        arrow = pa.Table.from_pandas(summary, preserve_index=False)
        own = {_FILES: json.dumps(files), _TABLE: digest_of(summary)}
        with atomic_write(self.path / "summary.parquet") as temporary:
            pq.write_table(arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **own}), temporary)
        self._written = None
        self.write_text("summary.csv", csv_text(summary))
        return summary

    def read_corruptions(self) -> pd.DataFrame | None:
        """`corruptions.csv`, the table of a run with corruptions; None where there is none.

        Raises:
            BenchError: it is damaged.
        """
        return self._read_csv(_CSV, CORRUPTIONS)

    def read_distances(self) -> pd.DataFrame | None:
        """Read `distances.csv`, the curves of minimal-norm attacks; None if there is no such table.

        Raises:
            BenchError: it is damaged.
        """
        return self._read_csv("distances.csv", DISTANCES)

    def read_manifest(self) -> dict[str, Any]:
        """`manifest.yaml`: where the numbers come from.

        Raises:
            BenchError: it is missing, as in a run that is not finished, or no longer what a run has written.
        """
        path = self.path / "manifest.yaml"
        if not path.exists() and self.stored():
            raise BenchError(
                f"the run in {self.path} is not finished; the command that began it goes on with it"
            )
        manifest = read_listed_yaml(path, "cells", megabytes=50)
        fault = manifest_fault(manifest)
        if fault:
            raise BenchError(
                f"{path} has been changed: {fault}; "
                "the command of the run writes it again from the stored cells"
            )
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write `manifest.yaml`: where the numbers come from."""
        self.write_text("manifest.yaml", to_listed_yaml(manifest, "cells"))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file into the folder."""
        with atomic_write(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def remove_leftovers(self) -> None:
        """Remove what a killed process was writing; only for the one that holds the lock."""
        try:
            remove_leftovers(self.path.rglob(".*.tmp"))
        except OSError as error:
            raise BenchError(f"cannot clean {self.path}: {error.strerror or error}") from error

    def _read_csv(self, name: str, columns: tuple[Column, ...]) -> pd.DataFrame | None:
        path = self.path / name
        if not path.exists():
            return None
        try:
            kinds = {column.name: str for column in columns if column.dtype == "str"}
            # empty is NaN, and a checkpoint may be called NA
            frame = read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])
            texts = [name for name in kinds if name in frame]
            frame = frame.assign(**{name: frame[name].map(without_apostrophe) for name in texts})
            return table(frame, columns)
        except (ValueError, OSError, BenchError) as error:
            raise damaged(path, error) from error

    def _stored(self, cell: str) -> Path | None:
        if cell not in self._files or not self._files[cell].exists():
            self.stored()
        return self._files.get(cell)

    def _needed(self, cell: str) -> Path:
        path = self._stored(cell)
        if path is None:
            raise BenchError(f"{self.path} has no records of cell {cell}; run it again")
        return path

    def _examples_path(self, cell: str) -> Path:
        return self.path / "examples" / f"{cell}.safetensors"


def _printable_of(texts: "pd.Series[str]") -> dict[str, str]:
    return {text: printable(text) for text in texts.unique()}


def safe_name(label: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", label)[:80].strip("._")


def manifest_fault(manifest: dict[str, Any]) -> str | None:
    """Say what a run would not have written like this, or None."""
    for name, kind in _MANIFEST.items():
        if not isinstance(manifest.get(name), kind):
            return f"{name!r} is missing or no {kind.__name__}"
    if manifest["format"] != FORMAT:
        return f"its format is {manifest['format']}, and this version reads format {FORMAT}"
    if not all(isinstance(cell, dict) and isinstance(cell.get("cell"), str) for cell in manifest["cells"]):
        return "an entry of 'cells' names no cell"
    names = manifest["dataset"].get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "'class_names' are no names"
    return None
