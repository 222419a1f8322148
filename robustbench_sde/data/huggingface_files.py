"""Find the files and columns of a split in a folder of the `datasets` library."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_sde.errors import BenchError

#: words for a split that `datasets` looks for in the names of files and folders
_WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "dev", "val"),
}
_SPLIT_OF_WORD = {word: split for split, words in _WORDS.items() for word in words}
_SHARD = re.compile(r"-(\d+)-of-(\d+)$")


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold images and labels."""

    image: str
    label: str
    #: empty where labels are plain numbers
    class_names: tuple[str, ...]
    #: Pillow's mode that `datasets` converts images to; None keeps their own
    mode: str | None = None

    @classmethod
    def of(cls, file: Path) -> "Columns":
        """Find them by types and by what `datasets` notes in the schema. Raises BenchError."""
        import pyarrow as pa

        schema = _schema(file)
        with reading(file):
            present = schema.names
            described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            features = described.get("info", {}).get("features", {})
            names = {
                name: tuple(feature["names"])
                for name, feature in features.items()
                if feature.get("_type") == "ClassLabel"
            }
            images = [
                field.name
                for field in schema
                if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
            ]
        labels = ["label"] if "label" in names or ("label" in present and not names) else list(names)
        if "label" in present and pa.types.is_integer(schema.field("label").type):
            labels = ["label"]
        for what, found in (("images", images), ("class labels", labels)):
            if len(found) != 1:
                held = f"several columns of {what}: {', '.join(found)}" if found else f"no column of {what}"
                raise BenchError(f"{file} has {held}; its columns are {', '.join(present)}")
        mode = features.get(images[0], {}).get("mode")
        return cls(images[0], labels[0], names.get(labels[0], ()), mode if isinstance(mode, str) else None)


def split_files(root: Path, split: str) -> list[Path]:
    """Return the files of a split, in order; at least one.

    Raises:
        BenchError: there is none, one of its numbered files is missing, or they are in several folders.
    """
    if not root.is_dir():
        raise BenchError(f"no folder {root}; huggingface:PATH is a folder of the datasets library")
    for folder in (root / split, root):
        state = folder / "state.json"
        if state.is_file():
            with reading(state):
                content = json.loads(state.read_text())
                files = [folder / Path(entry["filename"]).name for entry in content["_data_files"]]
                own = split if folder != root else content.get("_split") or "test"
            if own == split and files:
                return files
    parquet = sorted(path for path in root.rglob("*.parquet") if _split_of(path, root) == split)
    folders = sorted({str(path.parent) for path in parquet})
    if len(folders) > 1:
        raise BenchError(f"{root} has {split} files in {' and '.join(folders)}; name one of these folders")
    if not parquet:
        saved = {path.parent.name for path in root.glob("*/state.json")}
        held = sorted(saved | {_split_of(path, root) for path in root.rglob("*.parquet")})
        raise BenchError(f"{root} has no {split} split; it holds {', '.join(held) or 'no data set'}")
    _check_shards(parquet)
    return parquet


def _check_shards(files: Sequence[Path]) -> None:
    """Raise BenchError if a file called 00000-of-00002 lacks its siblings."""
    names = {path.name for path in files}
    for path in files:
        shard = _SHARD.search(path.stem)
        if shard is None:
            continue
        number, total = shard.groups()
        for index in range(int(total)):
            sibling = f"{path.stem[: shard.start()]}-{index:0{len(number)}}-of-{total}{path.suffix}"
            if sibling not in names:
                raise BenchError(
                    f"{path.parent / sibling} is missing: {path.name} is one of {int(total)} files; download "
                    "the others, or rename it if it is whole"
                )


def _split_of(path: Path, root: Path) -> str:
    """Return the split that a file belongs to, as `datasets` tells it from names.

    ``test`` stands in ``test-00000-of-00001.parquet``, ``mnist_test.parquet`` and ``test/0000.parquet``. A
    name without any such word is returned up to its first hyphen.
    """
    inside = path.relative_to(root).parts[:-1]
    for name in (path.stem, *reversed(inside), root.name if not inside else ""):
        words = [word for word in re.split(r"[^a-z]+", name.lower()) if word in _SPLIT_OF_WORD]
        if words:
            return _SPLIT_OF_WORD[words[0]]
    return path.stem.partition("-")[0]


def _schema(file: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    with reading(file):
        if file.suffix == ".parquet":
            return parquet.ParquetFile(file).schema_arrow
        with pa.memory_map(str(file)) as source:
            return pa.ipc.open_stream(source).schema


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn whatever fails meanwhile into an error of the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise BenchError(f"cannot read {file}: {reason}") from error
