"""Disks that are full, cannot be written, or give back something else than was written."""

import functools
import re
import shutil

import pandas as pd
import pytest
from builders import save_digits_model
from forked import finished, read_only, small_disk

from robustbench_sde.storage.run_folder import RunFolder

SUITE = """
checkpoints: [tiny.safetensors]
images: 10
score_draws: 2
perturbations:
  - {attack: noise, eps: [0.05, 0.1]}
  - {corruption: fog, severity: [1, 3]}
"""
RUN = ("run", "tiny.yaml", "--quiet", "--no-cache", "--json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A place with a checkpoint, a suite, a finished run and its report and baseline; only to be copied."""
    place = tmp_path_factory.mktemp("made")
    save_digits_model(place / "tiny.safetensors", "additive")
    (place / "tiny.yaml").write_text(SUITE)
    for arguments in (
        RUN,
        ("report", "reports/tiny"),
        ("baseline", "save", "reports/tiny", "baseline.json"),
    ):
        ended = finished(*arguments, cwd=place)
        assert ended.code == 0, ended.stderr
    return place


@pytest.fixture
def place(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "place")


@pytest.fixture(scope="module")
def may_mount(made):
    """Mounts need a privilege, or user namespaces, which not every machine gives."""
    ended = finished("--version", cwd=made, before=functools.partial(small_disk, made / "reports", "64k"))
    if ended.code != 0:
        pytest.skip(f"this machine allows no mounts: {ended.stderr.splitlines()[-1]}")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_line(ended, message):
    assert ended.code == 2, (ended.stdout, ended.stderr)
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("sde-bench: ")
    assert re.search(message, ended.stderr), ended.stderr


@pytest.mark.usefixtures("may_mount")
@pytest.mark.parametrize("size", ["4k", "64k", "128k"])
def test_a_full_disk_is_one_line(place, size):
    """At the first file or a later one; nothing else on the machine is touched."""
    before = contents(place / "reports")
    ended = finished(*RUN, cwd=place, before=functools.partial(small_disk, place / "reports", size))
    assert_one_line(ended, r"cannot write reports/tiny.*: No space left on device")
    assert contents(place / "reports") == before


@pytest.mark.usefixtures("may_mount")
@pytest.mark.parametrize(
    "arguments",
    [
        RUN,
        ("report", "reports/tiny"),
        ("baseline", "save", "reports/tiny", "reports/baseline.json"),
        ("compare", "baseline.json", "reports/tiny", "--junit-xml", "reports/gate.xml"),
        ("attack", "tiny.safetensors", "--attack", "noise", "--images", 4, "--out", "reports/other", "-q"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_folder_that_is_read_only_is_one_line(place, arguments):
    """Also for root, whom permissions would not stop."""
    before = contents(place / "reports")
    ended = finished(*arguments, cwd=place, before=functools.partial(read_only, place / "reports"))
    assert_one_line(ended, r"cannot write reports/.*: Read-only file system")
    assert contents(place / "reports") == before


def shortened(path):
    path.write_bytes(path.read_bytes()[:-30])


def flipped(path):
    """Flip bytes where the values of the first columns are: elsewhere are statistics that nobody reads."""
    content = bytearray(path.read_bytes())
    content[200:264] = bytes(byte ^ 0xFF for byte in content[200:264])
    path.write_bytes(content)


def lying(path):
    """Write the records beside a better accuracy than theirs."""
    folder = RunFolder(path.parents[1])
    key = path.stem.rpartition("-")[2]
    row, records, _ = folder.read_cell(key)
    path.unlink()
    folder.write_cell(key, path.stem.removesuffix(f"-{key}"), row | {"accuracy": 1.5}, records)


def emptied(path):
    path.write_bytes(b"")


def other_columns(path):
    pd.DataFrame({"image_id": [1, 2], "lies": ["x", "y"]}).to_parquet(path)


def edited(old, new):
    def edit(path):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return edit


SUMMARY, MANIFEST, CELL, EXAMPLES = "summary.parquet", "manifest.yaml", "records/*fog_1-*", "examples/*"
#: file, what happens to it, the commands that read it
DAMAGE = [
    (CELL, shortened, "run compare baseline"),
    (CELL, flipped, "run compare baseline"),
    (CELL, emptied, "run compare baseline"),
    (CELL, lying, "run"),
    (CELL, other_columns, "run compare baseline"),
    (SUMMARY, shortened, "show report compare baseline"),
    (SUMMARY, other_columns, "show report compare baseline"),
    (MANIFEST, edited("complete:", "whole:"), "show report compare baseline"),
    (MANIFEST, edited("cells:", "cells: 3\nrest:"), "show report compare baseline"),
    (MANIFEST, edited('- {"cell":', '- {"sell":'), "show report compare baseline"),
    (MANIFEST, edited("class_names:\n", "class_names:\n  - [0]\n"), "show report compare baseline"),
    (MANIFEST, edited("format: 1", "format: [1"), "show report compare baseline"),
    (MANIFEST, edited("format: 1", "format: &a 1\nmore: *a"), "show report compare baseline"),
    (MANIFEST, emptied, "show report compare baseline"),
    ("corruptions.csv", edited("accuracy", "acuracy"), "report"),
    ("corruptions.csv", edited("fog", "fog,fog"), "report"),
    (EXAMPLES, shortened, "report"),
    ("../../baseline.json", shortened, "compare"),
]
COMMANDS = {
    "run": RUN,
    "show": ("show", "reports/tiny"),
    "report": ("report", "reports/tiny", "--out", "new"),
    "compare": ("compare", "baseline.json", "reports/tiny"),
    "baseline": ("baseline", "save", "reports/tiny", "new.json"),
}


@pytest.mark.parametrize(
    ("name", "damage", "commands"),
    DAMAGE,
    ids=[f"{name}-{damage.__name__}-{row}" for row, (name, damage, _) in enumerate(DAMAGE)],
)
def test_damage_is_one_line_that_names_the_file(place, name, damage, commands):
    """Every command that reads a damaged file names it in one line and changes no file."""
    folder = place / "reports" / "tiny"
    victims = [path.resolve() for path in folder.glob(name)]
    for victim in victims:
        damage(victim)
    before = contents(folder)
    for command in commands.split():
        ended = finished(*COMMANDS[command], cwd=place)
        assert_one_line(ended, "|".join(re.escape(victim.name) for victim in victims))
        assert contents(folder) == before, command
        assert not (place / "new").exists() or not list((place / "new").rglob("index.html"))
        assert not (place / "new.json").exists()


def test_the_other_cells_are_not_run_again(place):
    """The damaged file deleted, as the line says, the same command ends in the tables that were there."""
    folder = RunFolder(place / "reports" / "tiny")
    whole = folder.read_summary()
    victim = next(folder.path.glob(CELL))
    others = {path: path.stat().st_mtime_ns for path in folder.path.glob("records/*") if path != victim}
    victim.unlink()
    ended = finished(*RUN, cwd=place)
    assert ended.code == 0, ended.stderr
    assert {path: path.stat().st_mtime_ns for path in others} == others
    pd.testing.assert_frame_equal(
        folder.read_summary().drop(columns="seconds"), whole.drop(columns="seconds")
    )


def test_a_half_written_cell_is_none(place):
    """The half-written file of a killed process is removed, and its cell is run."""
    folder = place / "reports" / "tiny"
    whole = next(folder.glob(CELL))
    half = whole.with_name(f".{whole.name}.4194305.tmp")  # Linux gives no process so high a number
    half.write_bytes(whole.read_bytes()[:500])
    whole.unlink()
    assert finished(*RUN, cwd=place).code == 0
    assert whole.exists()
    assert not half.exists()
