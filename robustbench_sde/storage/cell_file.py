"""Define the file of a cell: Parquet with its records and, in the metadata, its row of the summary.

A file is written in one step, so that it is whole or absent.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robustbench_sde.errors import BenchError, printable
from robustbench_sde.storage.files import atomic_write
from robustbench_sde.storage.records import check_records, digest_of
from robustbench_sde.storage.schema import RECORDS, SUMMARY, Column, table

#: metadata of a cell's file: its row of the summary (JSON), and the digest of its records
_KEY, _DIGEST = b"sde-bench", b"sde-bench-records"
#: metadata: what the cell was made with (JSON); earlier versions wrote nothing
_MADE = b"sde-bench-made-with"
#: (images,) values of a column
Values = npt.NDArray[Any]
#: more are refused before any is read: a few kilobytes of Parquet can claim billions
_MOST_ROWS = 1_000_000
#: columns of records
_KNOWN = {column.name for column in RECORDS}
#: columns that earlier versions did not write, and those among them that attacks with gradients count
_LATER = {column.name for column in SUMMARY if column.later}
_COUNTED = _LATER & _KNOWN


class StoredCell(NamedTuple):
    """What the file of a cell holds."""

    #: row of the cell in the summary (`SUMMARY`)
    row: dict[str, Any]
    #: one row per image (`RECORDS`)
    records: pd.DataFrame
    #: versions, device, threads and batch size that it was made with; empty for cells of earlier versions
    made_with: Mapping[str, Any] = MappingProxyType({})

    @property
    def version_problem(self) -> str:
        """Sentence on the other columns of the version that stored the cell; empty if there are none."""
        return _version_problem(self.row)


def write_cell_file(
    path: Path, row: dict[str, Any], records: pd.DataFrame, made_with: Mapping[str, Any] | None = None
) -> None:
    """Write the file of a cell; `row` holds the key of the cell as `cell`."""
    records = table(records, RECORDS)
    arrow = pa.Table.from_pandas(records, preserve_index=False)
    own = {_KEY: json.dumps(row), _DIGEST: digest_of(records)}
    made = {_MADE: json.dumps(dict(made_with))} if made_with else {}
    metadata = {**(arrow.schema.metadata or {}), **own, **made}
    with atomic_write(path) as temporary:
        pq.write_table(arrow.replace_schema_metadata(metadata), temporary, write_page_checksum=True)


def read_cell_file(path: Path, cell: str) -> StoredCell:
    """Read the file of a cell, and check that it is what a run has written for this cell.

    Raises:
        BenchError: the file is damaged, or is that of another cell.
    """
    records, schema = read_table_file(path, RECORDS)
    names, metadata = schema.names, schema.metadata or {}
    try:
        row = dict(json.loads(metadata[_KEY]))
        if row["cell"] != cell:
            raise ValueError(f"it holds the records of another cell, {printable(str(row['cell']))[:40]}")
        if row["images"] != len(records):
            raise ValueError(f"it has {len(records)} records and says {row['images']!r:.20}")
        check_records(records)
        digest = metadata.get(_DIGEST)  # earlier versions wrote none
        written = records[[name for name in records if name in names]]
        if digest is not None and digest.decode() != digest_of(written):
            raise ValueError("its records were changed")
        made_with = dict(json.loads(metadata.get(_MADE, b"{}")))
    except KeyError as error:
        raise damaged(path, ValueError(f"its metadata lack {error}")) from error
    except (ValueError, TypeError, BenchError) as error:
        raise damaged(path, error) from error
    return StoredCell(_with_later(row), records, made_with)


def _with_later(row: dict[str, Any]) -> dict[str, Any]:
    """Add columns to the row of an earlier version: `old`, where nothing can be said and nothing has to be.

    Gradients of an attack that has some must have been counted.
    """
    later = _LATER - _COUNTED if row.get("backward_passes") else _LATER
    return {column.name: column.old for column in SUMMARY if column.name in later} | row


def read_row(path: Path, cell: str) -> dict[str, Any] | None:
    """Read the row in the file of a cell, without its records; None if it is not the file of this cell."""
    row = _row_in(path)
    return row if row is not None and row.get("cell") == cell else None


def made_with_of(path: Path) -> dict[str, Any]:
    """Return what the cell of a file was made with, without reading its records; empty if nobody knows."""
    try:
        return dict(json.loads(pq.read_metadata(path).metadata[_MADE]))
    except Exception:  # the reader raises nearly anything on damaged files
        return {}


def version_problem_of(path: Path) -> str:
    """Return the `version_problem` of a file without reading its records; empty if it cannot be read."""
    row = _row_in(path)
    return "" if row is None else _version_problem(_with_later(row))


def _row_in(path: Path) -> dict[str, Any] | None:
    """Return the row in the metadata of a file; None if it cannot be read."""
    try:
        return dict(json.loads(pq.read_metadata(path).metadata[_KEY]))
    except Exception:  # the reader raises nearly anything on damaged files
        return None


def _version_problem(row: dict[str, Any]) -> str:
    known = [column.name for column in SUMMARY]
    if lacking := [name for name in known if name not in row]:
        return f"stored by an earlier version, which did not write {', '.join(lacking)}"
    if unknown := sorted(row.keys() - set(known)):
        return f"stored by a later version, which also wrote {', '.join(unknown)}"
    return ""


def read_table_file(path: Path, columns: tuple[Column, ...]) -> tuple[pd.DataFrame, pa.Schema]:
    """Read a Parquet file with these columns, and its schema, which lacks columns of later versions.

    Raises:
        BenchError: the file is damaged, or of a later version.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.metadata.num_rows > _MOST_ROWS:
                raise BenchError(f"{file.metadata.num_rows} rows are more than {_MOST_ROWS}")
            arrow = file.read(use_threads=False)  # small files: threads cost more than they save
        _check_version(path, set(arrow.schema.names), {column.name for column in columns})
        return table(arrow.to_pandas(use_threads=False), columns), arrow.schema
    except _LaterVersionError:
        raise
    except Exception as error:  # the reader raises nearly anything on damaged files
        raise damaged(path, error) from error


class _LaterVersionError(BenchError):
    """A file has columns that this version does not know."""


def _check_version(path: Path, found: set[str], known: set[str]) -> None:
    """Refuse a file that has all columns and more: it is whole, and a later version has use for it."""
    later = sorted(found - known)
    if later and known <= found:
        raise _LaterVersionError(
            f"{path} was written by a later version of sde-bench, with {', '.join(map(printable, later))}; "
            "use that version, or another folder"
        )


def read_columns(path: Path, content: bytes, names: Collection[str]) -> dict[str, Values]:
    """Read some columns (`RECORDS`) from the bytes of a cell's file, without a check of their values.

    Raises:
        BenchError: the file is damaged, or of a later version.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        rows = file.metadata.num_rows
        if rows > _MOST_ROWS:
            raise BenchError(f"{rows} rows are more than {_MOST_ROWS}")
        _check_version(path, set(file.schema.names), _KNOWN)
        arrow = file.read(columns=[*names], use_threads=False)
        found = dict(zip(arrow.column_names, arrow.columns, strict=True))
        return {
            column.name: found[column.name].to_numpy().astype(column.dtype, copy=False)
            if column.name in found or not column.later
            else np.full(rows, column.old, column.dtype)
            for column in RECORDS
            if column.name in names
        }
    except _LaterVersionError:
        raise
    except Exception as error:  # the reader raises nearly anything on damaged files
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> BenchError:
    """Make the error for a file that is not what a run has written."""
    return BenchError(f"{path} is damaged ({' '.join(str(error).split())}); delete it and run again")
