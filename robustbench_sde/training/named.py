"""Read configurations from files: the user's, and those that are installed with the package."""

from pathlib import Path

from robustbench_sde.errors import BenchError, nearest, unknown_name
from robustbench_sde.shipped import CONFIGS, shipped_files
from robustbench_sde.storage.files import read_yaml

#: largest number of files that may build on each other
_DEEPEST = 8


def read_config(name: str) -> dict[str, object]:
    """Read a configuration: options of `TrainConfig`, and perhaps `dataset` and `description`.

    A file with the key `base` changes another one, which is named in the same way.

    Args:
        name: a file, or the name of a shipped configuration, with or without ``.yaml``.

    Raises:
        BenchError: there is none, it is not readable, or files build on each other in a circle.
    """
    options: dict[str, object] = {}
    for _ in range(_DEEPEST):
        options = read_yaml(_find(name)) | options
        base = options.pop("base", None)
        if base is None:
            return options
        name = str(base)
    raise BenchError(f"configuration {name}: more than {_DEEPEST} files build on each other")


def _find(name: str) -> Path:
    shipped = shipped_files(CONFIGS)
    path = Path(name)
    if path.exists():
        return path
    known = name.removesuffix(".yaml")
    if known in shipped:
        return shipped[known]
    if path.suffix not in (".yaml", ".yml"):
        raise unknown_name("configuration", name, shipped)
    near = nearest(known, shipped)
    raise BenchError(f"{name} does not exist{f'; did you mean {near!r}?' if near else ''}")
