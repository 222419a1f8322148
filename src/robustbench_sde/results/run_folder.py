"""The run folder: one Parquet file per cell, and the tables made from them.

A cell file holds the records and, in its metadata, the summary row: it is whole or absent, and a run that
was stopped at any moment goes on from the cells that are there.
"""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from robustbench_sde.errors import BenchError
from robustbench_sde.results.files import atomic_write
from robustbench_sde.results.schema import RECORDS, SUMMARY, Column, table

_KEY = b"sde-bench"


class RunFolder:
    """`reports/<name>/`; made on the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the folder now, so that a wrong place is known before any work.

        Raises:
            BenchError: it cannot be made or written.
        """
        with atomic_write(self.path / "records" / ".probe") as probe:
            probe.touch()
        (self.path / "records" / ".probe").unlink()

    def read_cell(self, cell: str, label: str) -> dict[str, Any] | None:
        """The summary row of a stored cell; None where it is not stored.

        Raises:
            BenchError: the file is damaged.
        """
        path = self._cell_path(cell, label)
        if not path.exists():
            return None
        try:
            metadata = pq.read_schema(path).metadata or {}
            row = json.loads(metadata[_KEY])
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise BenchError(f"{path} is damaged ({error}); delete it and run again") from error
        return {str(name): value for name, value in row.items()}

    def read_records(self, cell: str, label: str) -> pd.DataFrame:
        """The records of a stored cell.

        Raises:
            BenchError: the file is missing or damaged.
        """
        return _read_table(self._cell_path(cell, label), RECORDS)

    def write_cell(self, cell: str, label: str, row: dict[str, Any], records: pd.DataFrame) -> None:
        """Store a cell atomically."""
        arrow = pa.Table.from_pandas(table(records, RECORDS), preserve_index=False)
        arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _KEY: json.dumps(row)})
        with atomic_write(self._cell_path(cell, label)) as temporary:
            pq.write_table(arrow, temporary)

    def read_summary(self) -> pd.DataFrame:
        """The summary of a run.

        Raises:
            BenchError: there is none, or it is damaged.
        """
        path = self.path / "summary.parquet"
        if not path.exists():
            raise BenchError(f"{self.path} is not the folder of a run: it has no summary.parquet")
        return _read_table(path, SUMMARY)

    def write_summary(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Write `summary.parquet`, `.csv` and `.md`, and return the table."""
        summary = table(rows, SUMMARY)
        with atomic_write(self.path / "summary.parquet") as temporary:
            summary.to_parquet(temporary, index=False)
        self.write_text("summary.csv", summary.to_csv(index=False))
        self.write_text("summary.md", markdown(summary))
        return summary

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write `manifest.yaml`: where the numbers come from."""
        self.write_text("manifest.yaml", yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file into the folder."""
        with atomic_write(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _cell_path(self, cell: str, label: str) -> Path:
        safe = re.sub(r"[^A-Za-z0-9.=-]+", "_", label)[:80].strip("._")
        return self.path / "records" / f"{safe}-{cell}.parquet"


def _read_table(path: Path, columns: tuple[Column, ...]) -> pd.DataFrame:
    try:
        return table(pq.read_table(path).to_pandas(), columns)
    except (pa.ArrowException, OSError) as error:
        raise BenchError(f"{path} is damaged ({error}); delete it and run again") from error


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
