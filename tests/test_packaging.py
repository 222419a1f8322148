"""What is handed out: the wheel and the source distribution, the workflows, the pages about suites."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import yaml
from forked import PRELOADED

from robustbench_sde.runs.suite.spec import AttackEntry, CorruptionEntry, SuiteSpec
from robustbench_sde.runs.suite.suite import Suite

BUILD = """
import sys
from setuptools import build_meta
place = sys.argv[1]  # which setuptools takes for its own
print(build_meta.build_wheel(place), build_meta.build_sdist(place))
"""
#: what is no part of the project, or is made by it
ELSEWHERE = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "reports"
)


@pytest.fixture(scope="module")
def archives(request, tmp_path_factory):
    """The names in the wheel and in the source distribution, built from a copy of the project.

    The wheel is unpacked as pip installs it.
    """
    place = tmp_path_factory.mktemp("dist")
    shutil.copytree(request.config.rootpath, place / "project", ignore=ELSEWHERE)
    command = [sys.executable, "-c", BUILD, str(place)]
    built = subprocess.run(command, cwd=place / "project", capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    wheel, source = built.stdout.split()[-2:]
    with zipfile.ZipFile(place / wheel) as archive:
        in_wheel = set(archive.namelist())
        archive.extractall(place / "installed")
    with tarfile.open(place / source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    return in_wheel, in_source, place / "installed"


def test_the_wheel_holds_the_whole_package_and_nothing_else(request, archives):
    """Every file of the package folder, suites and page included, the licence, and the program."""
    wheel, _, _ = archives
    package = request.config.rootpath / "robustbench_sde"
    files = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and not {"__pycache__"} & set(path.parts) and ".egg-info" not in str(path)
    }
    assert {name for name in wheel if ".dist-info/" not in name} == files
    assert any(name.endswith("/entry_points.txt") for name in wheel)
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_source_distribution_can_be_tested_and_built(archives):
    """Tests, checkpoints, documents, and what builds them."""
    _, source, _ = archives
    assert {
        "pyproject.toml", "Makefile", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md",
        "docs/protocol.md", "tests/conftest.py", "tests/data/corruptions.npz", "benchmarks/gate.py",
        "docs/tables.md", "checkpoints/digits-ode.safetensors",
        "robustbench_sde/runs/suite/shipped/smoke.yaml",
    } <= source  # fmt: skip
    assert not [name for name in source if "__pycache__" in name or name.startswith("reports/smoke")]


FEW = ("--images", "2", "--quiet")
#: `python -m robustbench_sde` by name: a command, and what it is given
COMMANDS = {
    "attack": ("--eps", "0.03", "--steps", "1", "--eot-draws", "1", *FEW),
    "run": ("smoke", *FEW),
    "stability": ("--paths", "2", "--steps", "1", *FEW),
    "certify": ("--draws", "50", *FEW),
    "versus": ("digits-ode", "--eps", "0.03", "--steps", "1", "--eot-draws", "1", *FEW),
}
#: Says where the installed package is, then runs every command in a fork of its own, in an empty folder.
RUN_ALL = """
import importlib, json, os, runpy, sys
preloaded, commands = json.loads(sys.argv[1])
for module in preloaded:
    importlib.import_module(module)
print(importlib.import_module("robustbench_sde").__file__, flush=True)
for name, arguments in commands.items():
    child = os.fork()
    if not child:
        os.dup2(os.open(name + ".stdout", os.O_CREAT | os.O_WRONLY), 1)
        os.dup2(os.open(name + ".stderr", os.O_CREAT | os.O_WRONLY), 2)
        os.mkdir(name)
        os.chdir(name)
        sys.argv = ["sde-bench", name, *arguments]
        runpy.run_module("robustbench_sde", run_name="__main__", alter_sys=True)
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory):
    """Exit code and stderr of each command of `COMMANDS`, by the package that was unpacked from the wheel."""
    *_, package = archives
    place = tmp_path_factory.mktemp("empty")
    ended = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps([PRELOADED, COMMANDS])],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    where, *codes = ended.stdout.splitlines()
    assert where.startswith(str(package))
    return {
        name: (int(code), (place / f"{name}.stderr").read_text())
        for name, code in (line.split() for line in codes)
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_installed_wheel_works_in_an_empty_folder(installed, command):
    """The shipped checkpoints come with the wheel, are found, and are named in one line on stderr."""
    code, stderr = installed[command]
    assert code == 0, stderr
    (line,) = [line for line in stderr.splitlines() if "shipped" in line]
    assert "taking the shipped ones, digits-" in line


def test_actions_are_pinned_by_commit(request):
    """A tag can be moved; every `uses:` is a commit with its version beside it, and jobs may only read."""
    for path in (request.config.rootpath / ".github" / "workflows").glob("*.yml"):
        text = path.read_text()
        used = re.findall(r"uses: *(.*)", text)
        assert used
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", use) for use in used), path
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


def test_every_key_of_a_suite_is_documented(request):
    """Every key of a suite is in docs/suites.md, whose example is a suite."""
    page = (request.config.rootpath / "docs" / "suites.md").read_text()
    keys = {*SuiteSpec.model_fields, *AttackEntry.model_fields, *CorruptionEntry.model_fields}
    assert not {key for key in keys if f"`{key}`" not in page}


def test_the_example_of_a_suite_is_one(request, tmp_path):
    """It is read as it stands."""
    page = (request.config.rootpath / "docs" / "suites.md").read_text()
    (tmp_path / "mine.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    assert len(Suite.read(str(tmp_path / "mine.yaml")).entries) == 3
