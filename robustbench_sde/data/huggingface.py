"""Folders of the Hugging Face `datasets` library on this disk, read by pyarrow, without that library."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from robustbench_sde.data.dataset import ImageDataset
from robustbench_sde.data.decode import Decoder, Encoded
from robustbench_sde.errors import BenchError

#: rows of a Parquet file that are read at a time
_ROWS = 1024


def load_huggingface(root: Path, split: str, image_size: tuple[int, int] | None = None) -> ImageDataset:
    """One split of what ``save_to_disk`` wrote, or of a repository's Parquet files; ids count its rows.

    Images are the one column with the bytes of image files; labels are ``label``, else the one class label.

    Args:
        root: the folder of all splits, or of one that was saved alone (the test split, if it does not say).
        image_size: as in `Decoder`.

    Raises:
        BenchError: the split or a column is missing or ambiguous, a file is damaged, or as `Decoder`.
    """
    files = _files(root, split)
    columns = _Columns.of(files[0])
    count = sum(_rows(file) for file in files)
    labels: list[npt.NDArray[np.int64]] = []
    decoder = None
    for file in files:
        for images, own in _batches(file, columns):
            decoder = decoder or Decoder(count, images[0], image_size)
            decoder.add(images)
            labels.append(own)
    if decoder is None:
        raise BenchError(f"the {split} split of {root} has no rows")
    y = np.concatenate(labels)
    names = columns.class_names or tuple(map(str, range(int(y.max()) + 1)))
    name = f"huggingface:{root.resolve().name}"
    return ImageDataset.whole(name, split, decoder.images(), torch.from_numpy(y), names)


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table are used."""

    image: str
    label: str
    #: empty where labels are plain numbers
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, file: Path) -> "_Columns":
        """By types and by the description that `datasets` keeps in the schema. Raises BenchError."""
        import pyarrow as pa

        schema = _schema(file)
        with _reading(file):
            present = schema.names
            described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            features = described.get("info", {}).get("features", {})
            names = {
                name: tuple(f["names"]) for name, f in features.items() if f.get("_type") == "ClassLabel"
            }
            images = [
                field.name
                for field in schema
                if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
            ]
        labels = ["label"] if "label" in present else list(names)
        for what, found in (("images", images), ("class labels", labels)):
            if len(found) != 1:
                held = f"several columns of {what}: {', '.join(found)}" if found else f"no column of {what}"
                raise BenchError(f"{file} has {held}; its columns are {', '.join(present)}")
        return cls(images[0], labels[0], names.get(labels[0], ()))


def _files(root: Path, split: str) -> list[Path]:
    """The files of a split, in order; at least one."""
    if not root.is_dir():
        raise BenchError(f"no folder {root}; huggingface:PATH is a folder of the datasets library")
    for folder in (root / split, root):
        state = folder / "state.json"
        if state.is_file():
            with _reading(state):
                content = json.loads(state.read_text())
                files = [folder / Path(entry["filename"]).name for entry in content["_data_files"]]
                own = split if folder != root else content.get("_split") or "test"
            if own == split and files:
                return files
    parquet = sorted(path for path in root.rglob("*.parquet") if _split_of(path) == split)
    folders = sorted({str(path.parent) for path in parquet})
    if len(folders) > 1:
        raise BenchError(f"{root} has {split} files in {' and '.join(folders)}; name one of these folders")
    if not parquet:
        saved = {path.parent.name for path in root.glob("*/state.json")}
        held = sorted(saved | {_split_of(path) for path in root.rglob("*.parquet")})
        raise BenchError(f"{root} has no {split} split; it holds {', '.join(held) or 'no data set'}")
    return parquet


def _split_of(path: Path) -> str:
    """``test`` of ``test-00000-of-00001.parquet``, ``test.parquet`` and ``test/0000.parquet``."""
    first = path.stem.partition("-")[0]
    return path.parent.name if first.isdecimal() else first


def _schema(file: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    with _reading(file):
        if file.suffix == ".parquet":
            return parquet.ParquetFile(file).schema_arrow
        with pa.memory_map(str(file)) as source:
            return pa.ipc.open_stream(source).schema


def _rows(file: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    with _reading(file):
        if file.suffix == ".parquet":
            return int(parquet.ParquetFile(file).metadata.num_rows)
        with pa.memory_map(str(file)) as source:  # of which only the descriptions of batches are looked at
            return sum(batch.num_rows for batch in pa.ipc.open_stream(source))


def _tables(file: Path, columns: list[str]) -> Iterator[Any]:
    """Record batches of some columns, validated: a damaged Arrow file may point outside of its memory."""
    import pyarrow as pa
    from pyarrow import parquet

    with _reading(file):
        if file.suffix == ".parquet":
            yield from parquet.ParquetFile(file).iter_batches(_ROWS, columns=columns)
            return
        with pa.OSFile(str(file)) as source:
            for batch in pa.ipc.open_stream(source):
                chosen = batch.select(columns)
                chosen.validate(full=True)
                yield chosen


def _batches(file: Path, columns: _Columns) -> Iterator[tuple[list[Encoded], npt.NDArray[np.int64]]]:
    """Images and labels of a file, some rows at a time and never none."""
    start = 0
    for table in _tables(file, [columns.image, columns.label]):
        for rows in (table.slice(first, _ROWS) for first in range(0, table.num_rows, _ROWS)):
            with _reading(file):
                labels = rows.column(columns.label)
                if labels.null_count:
                    raise BenchError(f"{file} has rows without a label")
                y = labels.to_numpy(zero_copy_only=False).astype(np.int64, casting="safe")
                data = rows.column(columns.image).field("bytes").to_pylist()
            images = [
                Encoded(f"{file}, row {start + row}", bytes_) for row, bytes_ in enumerate(data) if bytes_
            ]
            if len(images) < len(data):
                raise BenchError(f"{file} has only the paths of some images; save it with their bytes")
            start += len(images)
            yield images, y


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Whatever fails meanwhile is an error of the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise BenchError(f"cannot read {file}: {reason}") from error
