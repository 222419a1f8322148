"""The run folder: one Parquet file per cell, and the tables made from them.

A cell file holds the records and, in its metadata, the summary row: it is whole or absent, and a run that
was stopped at any moment goes on from the cells that are there.
"""

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import yaml
from safetensors import SafetensorError

from robustbench_sde.errors import BenchError
from robustbench_sde.results.examples import Examples
from robustbench_sde.results.files import atomic_write, read_yaml, remove_leftovers
from robustbench_sde.results.schema import CORRUPTIONS, RECORDS, SUMMARY, Column, table

_KEY = b"sde-bench"
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
    """`reports/<name>/`; made on the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_cell(self, cell: str) -> dict[str, Any] | None:
        """The summary row of a stored cell, its records checked as well.

        None where it is not stored, or stored by a version of this package that had other columns.

        Raises:
            BenchError: the file is damaged.
        """
        path = self._stored(cell)
        if path is None:
            return None
        records, metadata = _read_table(path, RECORDS)
        try:
            row = dict(json.loads(metadata[_KEY]))
            if row["cell"] != cell or row["images"] != len(records):
                raise ValueError("its summary row does not belong to its records")
        except (KeyError, ValueError, TypeError) as error:
            raise _damaged(path, error) from error
        return row if row.keys() == _SUMMARY_NAMES else None

    def read_records(self, cell: str) -> pd.DataFrame:
        """The records of a stored cell.

        Raises:
            BenchError: the file is missing or damaged.
        """
        path = self._stored(cell)
        if path is None:
            raise BenchError(f"{self.path} has no records of cell {cell}; run it again")
        return _read_table(path, RECORDS)[0]

    def write_cell(self, cell: str, label: str, row: dict[str, Any], records: pd.DataFrame) -> None:
        """Store a cell atomically; `label` makes the name of the file readable."""
        arrow = pa.Table.from_pandas(table(records, RECORDS), preserve_index=False)
        metadata = {**(arrow.schema.metadata or {}), _KEY: json.dumps(row | {"cell": cell})}
        with atomic_write(self.path / "records" / f"{safe_name(label)}-{cell}.parquet") as temporary:
            pq.write_table(arrow.replace_schema_metadata(metadata), temporary, write_page_checksum=True)

    def adopt_cell(self, cell: str, other: "RunFolder") -> dict[str, Any] | None:
        """Copy a cell that another run has stored, and return its row; None if it is not there, whole."""
        try:
            row = other.read_cell(cell)
            other.read_examples(cell)
        except BenchError:  # another run's damage is not ours: the cell is computed
            return None
        path, examples = other._stored(cell), other._examples_path(cell)
        if row is None or path is None:
            return None
        if examples.exists():
            with atomic_write(self._examples_path(cell)) as temporary:
                shutil.copyfile(examples, temporary)
        with atomic_write(self.path / "records" / path.name) as temporary:
            shutil.copyfile(path, temporary)
        return row

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
        return _read_table(path, SUMMARY)[0]

    def write_summary(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Write `summary.parquet`, `.csv` and `.md`, and return the table."""
        summary = table(rows, SUMMARY)
        with atomic_write(self.path / "summary.parquet") as temporary:
            summary.to_parquet(temporary, index=False)
        self.write_text("summary.csv", summary.to_csv(index=False))
        self.write_text("summary.md", markdown(summary))
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
            return table(pd.read_csv(path, dtype={"checkpoint": str, "corruption": str}), CORRUPTIONS)
        except (ValueError, OSError, BenchError) as error:
            raise _damaged(path, error) from error

    def read_manifest(self) -> dict[str, Any]:
        """`manifest.yaml`: where the numbers come from.

        Raises:
            BenchError: it is missing, or no longer what a run has written.
        """
        path = self.path / "manifest.yaml"
        manifest = read_yaml(path, megabytes=50)  # one entry for every cell
        for name, kind in _MANIFEST.items():
            if not isinstance(manifest.get(name), kind):
                raise BenchError(
                    f"{path} has been changed: {name!r} is missing or no {kind.__name__}; "
                    "the command of the run writes it anew from the stored cells"
                )
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write `manifest.yaml`: where the numbers come from."""
        self.write_text("manifest.yaml", yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file into the folder."""
        with atomic_write(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def remove_leftovers(self) -> None:
        """Remove what a killed process was writing; only for the one that holds the lock."""
        remove_leftovers(self.path)

    def _stored(self, cell: str) -> Path | None:
        return next((self.path / "records").glob(f"*-{cell}.parquet"), None)

    def _examples_path(self, cell: str) -> Path:
        return self.path / "examples" / f"{cell}.safetensors"


_SUMMARY_NAMES = {column.name for column in SUMMARY}


def _read_table(path: Path, columns: tuple[Column, ...]) -> tuple[pd.DataFrame, dict[bytes, bytes]]:
    try:
        arrow = pq.read_table(path, page_checksum_verification=True)
        return table(arrow.to_pandas(), columns), arrow.schema.metadata or {}
    except (pa.ArrowException, OSError, BenchError) as error:
        raise _damaged(path, error) from error


def safe_name(label: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", label)[:80].strip("._")


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
