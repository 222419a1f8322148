"""Where numbers come from: versions, hashes, revision, command."""

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from robustbench_sde.version import __version__

#: libraries whose functions the numbers are made with
_COMPUTING = ("torch", "torchvision", "numpy")
_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "safetensors")


def file_sha256(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def bytes_sha256(content: bytes) -> str:
    """``sha256:<hex>`` of bytes, as of a file that holds them."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that compute the numbers."""
    found = {"robustbench-sde": __version__, "python": platform.python_version()}
    return found | {name: _version(name) for name in _PACKAGES}


@cache
def _version(package: str) -> str:
    return metadata.version(package)


def different(made_with: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the different ones of what cells were made with, in their order, without empty ones."""
    found: list[dict[str, Any]] = []
    for each in made_with:
        if each and each not in found:
            found.append(dict(each))
    return found


def joined(made_with: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a whole was made with, from its parts: `pieces` if they differ, empty if nobody knows."""
    parts = [piece for each in made_with for piece in each.get("pieces", [each])]
    found = different(parts)
    return found[0] if len(found) == 1 else {"pieces": found} if found else {}


def of_other_versions(made_with: Mapping[str, Any]) -> str:
    """Say why `strict_versions` makes something again; empty if it was made with the versions of today."""
    if not made_with:
        return "stored by an earlier version, which did not write what it was made with"
    others = other_versions(made_with)
    return f"made with {others}" if others else ""


def may_be_used(made_with: Mapping[str, Any], *, strict: bool) -> tuple[bool, str]:
    """Decide whether something stored may be used, by the versions that it was made with.

    Args:
        made_with: what it was made with.
        strict: whether it must have been made with the versions of today (`strict_versions`).

    Returns:
        The decision, and what has to be said about the versions; empty if there is nothing to say.
    """
    if strict:
        problem = of_other_versions(made_with)
        return not problem, f"{problem}: made again" if problem else ""
    others = other_versions(made_with)
    return True, f"made with {others}: used without `strict_versions`" if others else ""


def other_versions(made_with: Mapping[str, Any]) -> str:
    """Say which libraries that compute numbers had other versions when a cell was made; empty if none had.

    Args:
        made_with: what the cell was made with (`storage.cell_file.StoredCell`).
    """
    now = versions()
    then = [piece.get("versions", {}) for piece in made_with.get("pieces", [made_with])]
    found = {
        f"{name} {each[name]} (now {now[name]})"
        for each in then
        for name in _COMPUTING
        if name in each and each[name] != now[name]
    }
    return ", ".join(sorted(found))


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


def requirement() -> str:
    """Return what `pip install` takes to install this package as it is installed here.

    From a repository it names the commit; from an index, the version. A checkout whose repository is not
    known gives an address with OWNER, which somebody has to fill in.
    """
    found = metadata.distribution("robustbench-sde")
    try:
        origin = json.loads(found.read_text("direct_url.json") or "null")
    except ValueError:
        origin = None
    if not isinstance(origin, dict):
        return f"robustbench-sde=={found.version}"
    url, commit = str(origin.get("url", "")), origin.get("vcs_info", {}).get("commit_id", "")
    if not commit:
        place = url.removeprefix("file://")
        url, commit = _git(place, "remote", "get-url", "origin"), _git(place, "rev-parse", "HEAD")
    if not url.startswith(("https://", "ssh://")):
        url = "https://github.com/OWNER/robustbench-sde"
    return f"git+{url}@{commit or 'REVISION'}"


def _git(place: str, *words: str) -> str:
    """Return what git says in a folder; nothing outside git."""
    try:
        asked = subprocess.run(
            ["git", "-C", place, *words], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip()


def ignored_by_git(paths: Sequence[str]) -> list[str]:
    """Return those of these paths that git would not commit; none outside git."""
    return _git(".", "check-ignore", *paths).splitlines() if paths else []


def command_line() -> str:
    """The command as typed, however the program was started; of other programs their name."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        module = started.parent.name
        program = "sde-bench" if module == "robustbench_sde" else f"python -m {module}"
    else:
        program = "sde-bench" if started.name == "sde-bench" else f"python {started.name}"
    return " ".join([program, *sys.argv[1:]])
