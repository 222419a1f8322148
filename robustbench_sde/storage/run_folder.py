"""The run folder: one Parquet file per cell, and the tables made from them.

A cell file holds the records and, in its metadata, the summary row: it is whole or absent, and a run that
was stopped at any moment goes on from the cells that are there.
"""

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from safetensors import SafetensorError

from robustbench_sde.errors import BenchError, printable
from robustbench_sde.storage.examples import Examples
from robustbench_sde.storage.files import atomic_write, read_yaml, remove_leftovers, to_yaml
from robustbench_sde.storage.records import check_records, digest_of
from robustbench_sde.storage.schema import CORRUPTIONS, RECORDS, SUMMARY, Column, table

#: metadata of a cell's file: its row of the summary (JSON), and the digest of its records
_KEY, _DIGEST = b"sde-bench", b"sde-bench-records"
#: more are refused before any is read: a few kilobytes of Parquet can claim billions
_MOST_ROWS = 1_000_000
#: what its manifest must say; other keys are for people
_MANIFEST = {
    "format": int,
    "command": str,
    "complete": bool,
    "dataset": dict,
    "checkpoints": dict,
    "cells": list,
}


class StoredCell(NamedTuple):
    """What the file of a cell holds."""

    #: row of the cell in the summary (`SUMMARY`)
    row: dict[str, Any]
    #: one row per image (`RECORDS`)
    records: pd.DataFrame


class RunFolder:
    """The folder of a run, `reports/<name>/`; the first write makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: files of cells, by key; a key that is missing, or whose file has gone, is looked for again
        self._files: dict[str, Path] = {}

    def stored(self) -> set[str]:
        """Return the keys of the cells that have a file, whole or not."""
        self._files = {
            path.stem.rpartition("-")[2]: path for path in (self.path / "records").glob("*-*.parquet")
        }
        return set(self._files)

    def read_cell(self, cell: str) -> StoredCell | None:
        """Read the row and the records of a stored cell; they are checked.

        None if it is not stored, or was stored by a version of this package that had other columns.

        Raises:
            BenchError: the file is damaged.
        """
        path = self._stored(cell)
        if path is None:
            return None
        row, records = _read_cell(path, cell)
        later = _LATER - _COUNTED  # nothing can be said about it, and nothing has to be
        if not records["backward_passes"].any():  # an attack without gradients has not counted them
            later = _LATER
        row = dict.fromkeys(later, math.nan) | row
        return StoredCell(row, records) if row.keys() == _SUMMARY_NAMES else None

    def read_records(self, cell: str) -> pd.DataFrame:
        """Read the records of a stored cell; they are checked.

        Raises:
            BenchError: the file is missing or damaged, or is that of another cell.
        """
        path = self._stored(cell)
        if path is None:
            raise BenchError(f"{self.path} has no records of cell {cell}; run it again")
        return _read_cell(path, cell).records

    def write_cell(self, cell: str, label: str, row: dict[str, Any], records: pd.DataFrame) -> None:
        """Store a cell atomically; `label` makes the name of the file readable."""
        records = table(records, RECORDS)
        arrow = pa.Table.from_pandas(records, preserve_index=False)
        own = {_KEY: json.dumps(row | {"cell": cell}), _DIGEST: digest_of(records)}
        metadata = {**(arrow.schema.metadata or {}), **own}
        with atomic_write(self.path / "records" / f"{safe_name(label)}-{cell}.parquet") as temporary:
            pq.write_table(arrow.replace_schema_metadata(metadata), temporary, write_page_checksum=True)

    def adopt_cell(
        self, cell: str, other: "RunFolder", check: Callable[[StoredCell], object]
    ) -> StoredCell | None:
        """Copy a cell that another run has stored, and return it.

        None unless it is there, whole, and `check` raises no BenchError.
        """
        try:
            found = other.read_cell(cell)
            if found is not None:
                check(found)
            other.read_examples(cell)
        except BenchError:  # another run's damage is not ours: the cell is computed
            return None
        path, examples = other._stored(cell), other._examples_path(cell)
        if found is None or path is None:
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
            raise _damaged(path, error) from error

    def read_summary(self) -> pd.DataFrame:
        """The summary of a run.

        Raises:
            BenchError: there is none, or it is damaged.
        """
        path = self.path / "summary.parquet"
        if not path.exists():
            raise BenchError(f"{self.path} is not the folder of a run: it has no summary.parquet")
        summary, _ = _read_table(path, SUMMARY)
        texts = [column.name for column in SUMMARY if column.dtype == "str"]
        return summary.assign(**{name: summary[name].map(printable).astype("str") for name in texts})

    def read_summary_so_far(self) -> pd.DataFrame:
        """Return the summary of the stored cells of a run that has not finished, by checkpoint.

        Raises:
            BenchError: no cell is stored, or one is damaged.
        """
        found = [self.read_cell(cell) for cell in sorted(self.stored())]
        rows = [cell.row for cell in found if cell is not None]
        if not rows:
            raise BenchError(f"{self.path} has no stored cell yet")
        order = {"clean": 0, "control": 1}
        rows.sort(key=lambda row: (row["checkpoint"], order.get(row["perturbation"], 2)))
        return table(rows, SUMMARY)

    def write_summary(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Write `summary.parquet` and `summary.csv`, and return the table."""
        summary = table(rows, SUMMARY)
        with atomic_write(self.path / "summary.parquet") as temporary:
            summary.to_parquet(temporary, index=False)
        self.write_text("summary.csv", summary.to_csv(index=False))
        return summary

    def read_corruptions(self) -> pd.DataFrame | None:
        """`corruptions.csv`, the table of a run with corruptions; None where there is none.

        Raises:
            BenchError: it is damaged.
        """
        path = self.path / "corruptions.csv"
        if not path.exists():
            return None
        try:
            kinds = {column.name: str for column in CORRUPTIONS if column.dtype == "str"}
            # empty is NaN, and a checkpoint may be called NA
            frame = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])
            return table(frame, CORRUPTIONS)
        except (ValueError, OSError, BenchError) as error:
            raise _damaged(path, error) from error

    def read_manifest(self) -> dict[str, Any]:
        """`manifest.yaml`: where the numbers come from.

        Raises:
            BenchError: it is missing, or no longer what a run has written.
        """
        path = self.path / "manifest.yaml"
        manifest = read_yaml(path, megabytes=50)  # one entry for every cell
        fault = _manifest_fault(manifest)
        if fault:
            raise BenchError(
                f"{path} has been changed: {fault}; "
                "the command of the run writes it again from the stored cells"
            )
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write `manifest.yaml`: where the numbers come from."""
        self.write_text("manifest.yaml", to_yaml(manifest))

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

    def _stored(self, cell: str) -> Path | None:
        if cell not in self._files or not self._files[cell].exists():
            self.stored()
        return self._files.get(cell)

    def _examples_path(self, cell: str) -> Path:
        return self.path / "examples" / f"{cell}.safetensors"


_SUMMARY_NAMES = {column.name for column in SUMMARY}
_LATER = {column.name for column in SUMMARY if column.later}
_COUNTED = _LATER & {column.name for column in RECORDS}


def _read_table(path: Path, columns: tuple[Column, ...]) -> tuple[pd.DataFrame, dict[bytes, bytes]]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.metadata.num_rows > _MOST_ROWS:
                raise BenchError(f"{file.metadata.num_rows} rows are more than {_MOST_ROWS}")
            arrow = file.read(use_threads=False)  # small files: threads cost more than they save
        return table(arrow.to_pandas(use_threads=False), columns), arrow.schema.metadata or {}
    except Exception as error:  # the reader raises nearly anything on damaged files
        raise _damaged(path, error) from error


def _read_cell(path: Path, cell: str) -> StoredCell:
    """Read the file of a cell, and check that it is what a run has written for this cell."""
    records, metadata = _read_table(path, RECORDS)
    try:
        row = dict(json.loads(metadata[_KEY]))
        if row["cell"] != cell:
            raise ValueError(f"it holds the records of another cell, {printable(str(row['cell']))[:40]}")
        if row["images"] != len(records):
            raise ValueError(f"it has {len(records)} records and says {row['images']!r:.20}")
        check_records(records)
        digest = metadata.get(_DIGEST)  # earlier versions wrote none
        if digest is not None and digest.decode() != digest_of(records):
            raise ValueError("its records were changed")
    except KeyError as error:
        raise _damaged(path, ValueError(f"its metadata lack {error}")) from error
    except (ValueError, TypeError, BenchError) as error:
        raise _damaged(path, error) from error
    return StoredCell(row, records)


def safe_name(label: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", label)[:80].strip("._")


def _manifest_fault(manifest: dict[str, Any]) -> str | None:
    """Say what a run would not have written like this, or None."""
    for name, kind in _MANIFEST.items():
        if not isinstance(manifest.get(name), kind):
            return f"{name!r} is missing or no {kind.__name__}"
    if not all(isinstance(cell, dict) and isinstance(cell.get("cell"), str) for cell in manifest["cells"]):
        return "an entry of 'cells' names no cell"
    names = manifest["dataset"].get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "'class_names' are no names"
    return None


def _damaged(path: Path, error: Exception) -> BenchError:
    return BenchError(f"{path} is damaged ({' '.join(str(error).split())}); delete it and run again")


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table; floats with four digits, NaN empty."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "" if pd.isna(value) else f"{value:.4g}"
        return str(value).replace("|", "\\|").replace("\n", " ")

    header = [str(name) for name in frame.columns]
    lines = [
        header,
        ["---"] * len(header),
        *([text(v) for v in row] for row in frame.itertuples(index=False)),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
