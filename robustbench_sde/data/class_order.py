"""The order of class folders as labels."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from robustbench_sde.errors import BenchError, BenchWarning

#: orders by name; anything else is a file
ORDERS = ("numeric", "text")


def class_folders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, by name as text."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def ordered_names(names: Sequence[str], order: str | None, where: str) -> list[str]:
    """Return the classes in the order of their labels.

    Args:
        names: of the class folders.
        order: ``numeric``, ``text``, or a text file with a name in each line, which may name more classes
            than there are folders; None: numeric where all are numbers, else text. A `BenchWarning` says so
            where the two differ.
        where: what they are the classes of, for messages.

    Raises:
        BenchError: names are not numbers, or the file is missing, repeats a class or lacks one.
    """
    text, numeric = sorted(names), _by_number(names)
    if order == "text" or (order is None and numeric is None):
        return text
    if order is None:
        assert numeric is not None
        if numeric != text:
            warnings.warn(
                f"{where}: the class folders are numbers and give the labels in that order: {numeric[0]}, "
                f"{numeric[1]}, {numeric[2]}, ...; torchvision's ImageFolder takes them as text, where "
                f"{text[2]!r} is third (`class_order` text)",
                BenchWarning,
                4,
            )
        return numeric
    if order == "numeric":
        if numeric is None:
            other = next(name for name in text if not name.isdecimal())
            raise BenchError(f"{where}: class {other!r} is not a number, which `class_order` numeric needs")
        return numeric
    return _of_file(Path(order).expanduser(), text, where)


def _by_number(names: Sequence[str]) -> list[str] | None:
    """Return the names by their numbers; None unless all are different whole numbers."""
    if not all(name.isascii() and name.isdecimal() for name in names):
        return None
    ordered = sorted(names, key=int)
    return ordered if len({int(name) for name in names}) == len(names) else None


def _of_file(path: Path, present: list[str], where: str) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise BenchError(
            f"cannot read {path}: {reason}; "
            f"`class_order` is numeric, text or a file with one class on each line"
        ) from error
    names = [line for line in lines if line]
    for number, line in enumerate(lines, start=1):
        if line and line in lines[: number - 1]:
            raise BenchError(f"{path}, line {number}: class {line[:40]!r} is there already")
    for name in present:
        if name not in names:
            raise BenchError(f"{path} has no class {name!r}, which is a folder of {where}")
    return names
