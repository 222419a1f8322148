"""The file of locked dependencies (`make lock`) and the script that writes it."""

import re
import runpy
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCKED = ROOT / ".ci" / "requirements.txt"


def locked():
    """Return the requirements of the file by name, with the number of their hashes."""
    entries = LOCKED.read_text().replace(" \\\n", " ").splitlines()
    found: dict[str, list[tuple[Requirement, int]]] = {}
    for entry in entries:
        if not entry.startswith("#"):
            text, *hashes = entry.split(" --hash=sha256:")
            requirement = Requirement(re.sub(r"\s+$", "", text))
            assert all(re.fullmatch("[0-9a-f]{64}", each.strip()) for each in hashes)
            found.setdefault(requirement.name, []).append((requirement, len(hashes)))
    return found


def test_every_dependency_is_locked_to_an_allowed_version():
    """Each dependency of pyproject.toml has a pinned version within its limits, and a hash."""
    found = locked()
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        wanted = Requirement(text)
        assert wanted.name in found
        for requirement, hashes in found[wanted.name]:
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            assert wanted.specifier.contains(pin.version), (text, pin)
            assert hashes > 0


def test_the_file_names_no_index():
    """Nobody is made to download from where the file was made."""
    assert "://" not in LOCKED.read_text()
    assert "--index" not in LOCKED.read_text()


def test_the_script_merges_pythons():
    """Equal versions are one entry with all hashes, others have a marker; the project itself is left out."""

    def report(python, *entries):
        install = [
            {
                "metadata": {"name": name, "version": version},
                "download_info": {"url": "x", "archive_info": {"hashes": {"sha256": digest}}},
            }
            for name, version, digest in entries
        ]
        own = {"metadata": {"name": "robustbench-sde", "version": "1"}, "download_info": {"dir_info": {}}}
        return {"environment": {"python_version": python}, "install": [*install, own]}

    lines = runpy.run_path(str(ROOT / ".ci" / "lock.py"))["lines"]
    found = lines(
        [
            report("3.11", ("Num_Py", "2.0", "aa"), ("old", "1", "bb"), ("t", "3+cpu", "dd")),
            report("3.12", ("numpy.x", "2.0", "cc"), ("num.py", "2.0", "ee"), ("t", "3", "ff")),
        ]
    )
    assert found == [
        "num-py==2.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:ee",
        'numpy-x==2.0 ; python_version == "3.12" \\\n    --hash=sha256:cc',
        'old==1 ; python_version == "3.11" \\\n    --hash=sha256:bb',
        "t==3 \\\n    --hash=sha256:dd \\\n    --hash=sha256:ff",
    ]
