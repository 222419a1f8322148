"""Folders of the Hugging Face `datasets` library on this disk, read by pyarrow, without that library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from robustbench_sde.data.dataset import ImageDataset
from robustbench_sde.data.decode import Decoder, Encoded, Reading
from robustbench_sde.data.framing import AS_IS, Framing
from robustbench_sde.data.huggingface_files import Columns, reading, split_files
from robustbench_sde.errors import BenchError

#: rows of a Parquet file that are read at a time
_ROWS = 1024


def load_huggingface(root: Path, split: str, framing: Framing = AS_IS) -> ImageDataset:
    """Load one split of what ``save_to_disk`` wrote, or of a repository's Parquet files; ids count its rows.

    Images are the one column with the bytes of image files, turned and converted as `datasets` does when it
    decodes them (EXIF orientation, the mode of its `Image` feature); labels are the one class label, else
    whole numbers in ``label``.

    Args:
        root: the folder of all splits, or of one that was saved alone (the test split, if it does not say).
        framing: how images get one size.

    Raises:
        BenchError: the split, a file of it or a column is missing or ambiguous, a file is damaged, or as
            `Decoder`.
    """
    files = split_files(root, split)
    columns = Columns.of(files[0])
    as_decoded = Reading(framing, turned=True, mode=columns.mode)
    count = sum(_rows(file) for file in files)
    labels: list[npt.NDArray[np.int64]] = []
    decoder = None
    for file in files:
        for images, own in _batches(file, columns):
            decoder = decoder or Decoder(count, images[0], as_decoded)
            decoder.add(images)
            labels.append(own)
    if decoder is None:
        raise BenchError(f"the {split} split of {root} has no rows")
    y = np.concatenate(labels)
    names = columns.class_names or _numbered(root, split, columns, y)
    name = f"huggingface:{root.resolve().name}"
    return ImageDataset.whole(name, split, decoder.images(), torch.from_numpy(y), names)


def _numbered(root: Path, split: str, columns: Columns, y: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """Return names of classes that are numbers: as many as the largest label of all splits says."""
    most = int(y.max())
    try:
        others = split_files(root, "train" if split == "test" else "test")
        for file in others:
            most = max([most, *(int(own.max()) for own in _labels(file, columns))])
    except BenchError:  # no other split, or one that is damaged and not asked for
        pass
    return tuple(map(str, range(most + 1)))


def _rows(file: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    with reading(file):
        if file.suffix == ".parquet":
            return int(parquet.ParquetFile(file).metadata.num_rows)
        with pa.memory_map(str(file)) as source:  # of which only the descriptions of batches are looked at
            return sum(batch.num_rows for batch in pa.ipc.open_stream(source))


def _tables(file: Path, columns: list[str]) -> Iterator[Any]:
    """Yield validated record batches: a damaged Arrow file may point outside of its memory."""
    import pyarrow as pa
    from pyarrow import parquet

    with reading(file):
        if file.suffix == ".parquet":
            yield from parquet.ParquetFile(file).iter_batches(_ROWS, columns=columns)
            return
        with pa.OSFile(str(file)) as source:
            for batch in pa.ipc.open_stream(source):
                chosen = batch.select(columns)
                chosen.validate(full=True)
                yield chosen


def _labels(file: Path, columns: Columns) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the labels of a file, some rows at a time and never none."""
    for table in _tables(file, [columns.label]):
        if table.num_rows:
            yield _whole_numbers(table.column(columns.label), columns.label, file, 0)


def _batches(file: Path, columns: Columns) -> Iterator[tuple[list[Encoded], npt.NDArray[np.int64]]]:
    """Yield images and labels of a file, some rows at a time and never none."""
    start = 0
    for table in _tables(file, [columns.image, columns.label]):
        for rows in (table.slice(first, _ROWS) for first in range(0, table.num_rows, _ROWS)):
            y = _whole_numbers(rows.column(columns.label), columns.label, file, start)
            with reading(file):
                column = rows.column(columns.image)
                absent = np.asarray(column.is_null())
                data = column.field("bytes").to_pylist()
            place = f"{file}, column {columns.image!r}, row"
            if absent.any():
                raise BenchError(f"{place} {start + int(absent.argmax())}: there is no image; drop such rows")
            for row, bytes_ in enumerate(data):
                if not bytes_:
                    raise BenchError(
                        f"{place} {start + row}: there are no bytes of an image, at most its path; "
                        "save_to_disk writes them into the files"
                    )
            yield [Encoded(f"{file}, row {start + row}", own) for row, own in enumerate(data)], y
            start += len(data)


def _whole_numbers(labels: Any, name: str, file: Path, start: int) -> npt.NDArray[np.int64]:
    """Return a column of labels as int64. Raises BenchError that names the column and the row."""
    import pyarrow as pa

    place = f"{file}, column {name!r}"
    if not pa.types.is_integer(labels.type) and len(labels):
        kind, first = str(labels.type), labels[0].as_py()
        if pa.types.is_list(labels.type) or pa.types.is_large_list(labels.type):
            cure = "a classifier needs one class for each image"
        else:
            cure = f"labels are whole numbers; in datasets, class_encode_column({name!r}) makes them"
        raise BenchError(f"{place}, row {start}: {str(first)[:40]!r} is {kind}; {cure}")
    if labels.null_count:
        row = start + int(np.asarray(labels.is_null()).argmax())
        raise BenchError(f"{place}, row {row}: there is no label; drop such rows")
    with reading(file):
        return np.asarray(labels.to_numpy(zero_copy_only=False)).astype(np.int64, casting="safe")
