"""Where numbers come from: versions, hashes, revision, command."""

import hashlib
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from robustbench_sde.version import __version__

_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "safetensors")


def file_sha256(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that compute the numbers."""
    found = {"robustbench-sde": __version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def git_revision() -> str | None:
    """Commit of the working directory, with ``-dirty`` where files have changed; None outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def command_line() -> str:
    """The command as typed, however the program was started; of somebody's script its name."""
    program = Path(sys.argv[0]).name
    ours = program in ("sde-bench", "__main__.py")
    return " ".join(["sde-bench" if ours else f"python {program}", *sys.argv[1:]])
