"""Find checkpoints by name: in `checkpoints/` of the current folder, then among those of the package."""

from pathlib import Path

from robustbench_sde.errors import unknown_name
from robustbench_sde.shipped import CHECKPOINTS

#: folder of the user's checkpoints
HERE = Path("checkpoints")


def checkpoints_here() -> list[Path]:
    """Return the checkpoints in `checkpoints/`; states of unfinished trainings are not among them."""
    return _checkpoints(HERE)


def shipped_checkpoints() -> list[Path]:
    """Return the checkpoints that are installed with the package and have no namesake in `checkpoints/`."""
    own = {path.name for path in checkpoints_here()}
    return [path for path in _checkpoints(CHECKPOINTS) if path.name not in own]


def known_checkpoints() -> dict[str, Path]:
    """Return the checkpoints that can be named without a path, by name."""
    return {path.stem: path for path in [*checkpoints_here(), *shipped_checkpoints()]}


def locate(path: Path) -> Path:
    """Return the path itself if it exists, or the checkpoint of this name, or else the path."""
    return path if path.exists() else known_checkpoints().get(str(path), path)


def locate_existing(path: Path) -> Path:
    """Return what `locate` does.

    Raises:
        BenchError: there is no such checkpoint (with the most similar name).
    """
    found = locate(path)
    if not found.exists():
        raise unknown_name("checkpoint", str(path), [*known_checkpoints(), *map(str, checkpoints_here())])
    return found


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.safetensors")) if ".state." not in path.name]
