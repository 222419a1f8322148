"""Certificates of images in files: Parquet with checksums, and what they are about in the metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robustbench_sde.errors import BenchError
from robustbench_sde.storage.cell_file import damaged, read_table_file
from robustbench_sde.storage.files import atomic_write
from robustbench_sde.storage.records import digest_of
from robustbench_sde.storage.run_folder import safe_name
from robustbench_sde.storage.schema import CERTIFICATES, CERTIFIED, table
from robustbench_sde.storage.spreadsheet import csv_text

#: metadata of a file: what the certificates are about (JSON), and the digest of all of them
_KEY, _DIGEST = b"sde-bench", b"sde-bench-records"


class StoredCertificates(NamedTuple):
    """Content of a file with certificates."""

    #: facts about the certificates
    about: dict[str, Any]
    #: one row per image (`CERTIFICATES`)
    records: pd.DataFrame


def file_of(folder: Path, label: str, key: str) -> Path:
    """Return the file of a classifier's certificates in a run folder.

    One that is there keeps its name; a new one is called after `label`.
    """
    place = folder / "certificates"
    return next(place.glob(f"*-{key}.parquet"), place / f"{safe_name(label)}-{key}.parquet")


def file_of_part(folder: Path, key: str) -> Path:
    """Return the file of the certificates of a few images."""
    return folder / "certificates" / "parts" / f"{key}.parquet"


def write_certificates(path: Path, records: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Write certificates atomically.

    Args:
        path: file to write.
        records: one row per image (`CERTIFICATES`).
        about: facts about them, plain values.

    Raises:
        BenchError: the file cannot be written.
    """
    records = table(records, CERTIFICATES)
    arrow = pa.Table.from_pandas(records, preserve_index=False)
    own = {_KEY: json.dumps(about), _DIGEST: digest_of(records)}
    with atomic_write(path) as temporary:
        pq.write_table(
            arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **own}),
            temporary,
            write_page_checksum=True,
        )


def read_certificates(path: Path) -> StoredCertificates:
    """Read certificates and check them.

    Raises:
        BenchError: the file is damaged, or its certificates contradict themselves.
    """
    records, schema = read_table_file(path, CERTIFICATES)
    metadata = schema.metadata or {}
    try:
        about = dict(json.loads(metadata[_KEY]))
        if metadata[_DIGEST].decode() != digest_of(records):
            raise ValueError("its records were changed")
        _check(records)
    except KeyError as error:
        raise damaged(path, ValueError(f"its metadata lack {error}")) from error
    except (ValueError, TypeError) as error:
        raise damaged(path, error) from error
    return StoredCertificates(about, records)


def write_certified(folder: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Write `certificates.parquet` and `certificates.csv` into a run folder, and return the table."""
    certified = table(rows, CERTIFIED)
    with atomic_write(folder / "certificates.parquet") as temporary:
        certified.to_parquet(temporary, index=False)
    with atomic_write(folder / "certificates.csv") as temporary:
        temporary.write_text(csv_text(certified), encoding="utf-8")
    return certified


def read_certified(folder: Path) -> pd.DataFrame | None:
    """Read `certificates.parquet` of a run folder (`CERTIFIED`); None where nothing was certified.

    Raises:
        BenchError: it is damaged.
    """
    path = folder / "certificates.parquet"
    return read_table_file(path, CERTIFIED)[0] if path.exists() else None


def _check(records: pd.DataFrame) -> None:
    right = (records["prediction"] == records["label"]) & ~records["abstained"]
    faults = {
        "is there twice": records["image_id"].duplicated(),
        "is correct, or not, against its prediction": records["correct"] != right,
        "has abstained, or not, against its bound": records["abstained"] != (records["p_low"] <= 0.5),
        "has a radius where it has abstained": records["abstained"] & (records["radius"] != 0),
        "has a bound outside of 0 to 1": ~records["p_low"].between(0, 1),
    }
    for fault, where in faults.items():
        if where.any():
            raise BenchError(f"image {records['image_id'][where].iloc[0]} {fault}")
