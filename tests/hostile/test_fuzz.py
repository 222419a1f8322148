"""Whatever stands in a file or on the command line: a value or a sentence, never a traceback, never a hang.

`make fuzz` tries thousands of new cases of each.
"""

import contextlib
import copy
import io
import json
import shutil
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from builders import save_digits_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regression.worlds import changed, make_cell, make_side, write_run

from robustbench_sde.cli.app import main
from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.weights import read_weights
from robustbench_sde.regression.baseline import read_baseline, save_baseline
from robustbench_sde.regression.compare import compare
from robustbench_sde.regression.measured import read_run
from robustbench_sde.regression.policy import Policy, load_policy
from robustbench_sde.reporting.html.page import write_report
from robustbench_sde.runs.suite.spec import AttackEntry, CorruptionEntry, SuiteSpec
from robustbench_sde.runs.suite.suite import Suite
from robustbench_sde.storage.run_folder import RunFolder

#: a case that takes longer hangs
SECONDS = 60
fuzzed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([
        "8/255", "1..5", "0..9999", "trained", "none", "pgd", "fog", "linf", "nan", "1e400", "*.x",
        "mean-prob", "digits", "../x", "/", "a\nb", "\x1b[2J", "[/red]", "<script>", -1, 0, 10**30,
    ]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | scalars, inner, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@contextlib.contextmanager
def a_sentence_at_most() -> Iterator[None]:
    """A `BenchError` of one line may be raised inside, nothing else, and it must end."""

    def hangs(*_: object) -> None:
        raise AssertionError(f"it takes more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    try:
        yield
    except BenchError as error:
        one_line(str(error))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def one_line(message: str) -> None:
    """The program joins lines; a message is written as one."""
    assert "\n" not in message
    assert len(message) < 5000


@st.composite
def altered(draw: st.DrawFn, document: object, strange: st.SearchStrategy[object]) -> object:
    """A copy of plain values of which a few have been replaced, removed or doubled."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        place = document
        while True:
            if not isinstance(place, dict | list) or not place:
                return draw(strange)
            key = draw(
                st.sampled_from(sorted(place, key=repr) if isinstance(place, dict) else range(len(place)))
            )
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            what = draw(st.sampled_from(["replace", "remove", "add"]))
            if what == "replace":
                place[key] = draw(strange)
            elif what == "remove":
                del place[key]
            elif isinstance(place, dict):
                place[draw(st.text(max_size=8))] = draw(strange)
            else:
                place.append(draw(strange))
            break
    return document


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which a few have changed, or the end is missing."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)))] if draw(st.booleans()) else changed)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkpoint, a run without attacks (its report has no figure to draw), and its baseline."""
    folder = tmp_path_factory.mktemp("fuzz")
    save_digits_model(folder / "tiny.safetensors", "none")
    cells = [
        make_cell(changed(40, 30)[0], perturbation="clean", norm="", eps=None, checkpoint=name)
        for name in ("one", "two")
    ]
    write_run(folder / "run", make_side(*cells))
    save_baseline(read_run(folder / "run"), folder / "baseline.json")
    return folder


def keys(*specs):
    return st.sampled_from(sorted({name for spec in specs for name in spec.model_fields} | {"steps", "x"}))


entries = st.dictionaries(keys(AttackEntry, CorruptionEntry), values, max_size=4) | st.builds(
    lambda kind, rest: kind | rest,
    st.sampled_from([{"attack": "pgd", "eps": 0.1}, {"corruption": "fog"}, {"attack": ["cw", "noise"]}]),
    st.dictionaries(keys(AttackEntry, CorruptionEntry), values, max_size=2),
)
suites = st.builds(
    lambda spec, own: spec | {"perturbations": own} if own else spec,
    st.dictionaries(keys(SuiteSpec), values, max_size=3),
    st.lists(entries, max_size=3),
)


@fuzzed
@given(suite=suites)
def test_suites(place, digits, suite):
    """Read and expanded to cells."""
    path = place / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, allow_unicode=True), encoding="utf-8", errors="replace")
    with a_sentence_at_most():
        chosen = Suite.read(str(path))
        chosen.checkpoints()
        chosen.cells([place / "tiny.safetensors"], digits.subset(2))


@fuzzed
@given(text=st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t0.\x00é", max_size=60) | st.binary(max_size=60))
def test_text_that_may_be_yaml(place, text):
    """Any text is read or refused in a sentence as a suite and as a policy."""
    path = place / "text.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with a_sentence_at_most():
        Suite.read(str(path))
    with a_sentence_at_most():
        load_policy(path)


@fuzzed
@given(content=values)
def test_policies(place, content):
    """Whatever `--policy` holds."""
    path = place / "policy.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8", errors="replace")
    with a_sentence_at_most():
        load_policy(path)


@fuzzed
@given(data=st.data())
def test_checkpoint_headers(place, data):
    """The model that they describe is built only if the weights are its own."""
    whole = (place / "tiny.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    ours = json.loads(header["__metadata__"]["sde-bench"])
    changed = data.draw(altered(ours, json_values))
    header["__metadata__"]["sde-bench"] = json.dumps(changed)
    if data.draw(st.integers(0, 3)) == 0:
        header = data.draw(altered(header, json_values))
    text = json.dumps(header).encode()
    path = place / "header.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    with a_sentence_at_most():
        load_checkpoint(path)


@fuzzed
@given(data=st.data())
def test_checkpoint_bytes(place, data):
    """Anywhere in the file."""
    path = place / "bytes.safetensors"
    path.write_bytes(data.draw(damaged((place / "tiny.safetensors").read_bytes())))
    with a_sentence_at_most():
        load_checkpoint(path)


@fuzzed
@given(data=st.data())
def test_bytes_of_foreign_weights(place, data):
    """A state dict that torch has saved, zipped and as before 2020."""
    name = data.draw(st.sampled_from(["zipped.pt", "old.pt"]))
    if not (place / name).exists():
        content = {"weight": torch.zeros(3, 2), "bias": torch.ones(3, dtype=torch.float16)}
        torch.save(content, place / name, _use_new_zipfile_serialization=name == "zipped.pt")
    path = place / "foreign.pt"
    path.write_bytes(data.draw(damaged((place / name).read_bytes())))
    with a_sentence_at_most():
        read_weights(path)


@fuzzed
@given(data=st.data())
def test_manifests(place, data):
    """Read for a comparison and a report."""
    run = RunFolder(place / "run")
    path = run.path / "manifest.yaml"
    whole = path.read_text()
    try:
        changed = data.draw(altered(yaml.safe_load(whole), values))
        path.write_text(yaml.safe_dump(changed), encoding="utf-8", errors="replace")
        with a_sentence_at_most():
            compare(read_run(run.path), read_run(run.path), Policy())
        with a_sentence_at_most():
            write_report(run, RunFolder(place / "report"))
    finally:
        path.write_text(whole)


@fuzzed
@given(data=st.data())
def test_tables(place, data):
    """Bytes of the summary and of a cell."""
    run = RunFolder(place / "run")
    path = data.draw(st.sampled_from(sorted(run.path.rglob("*.parquet"))))
    whole = path.read_bytes()
    try:
        path.write_bytes(data.draw(damaged(whole)))
        for read in (run.read_summary, lambda: run.read_cell("cell0"), lambda: read_run(run.path)):
            with a_sentence_at_most():
                read()
    finally:
        path.write_bytes(whole)


@fuzzed
@given(data=st.data())
def test_baselines(place, data):
    """Baselines with other values or other bytes are refused in a sentence."""
    whole = (place / "baseline.json").read_bytes()
    if data.draw(st.booleans()):
        content = json.dumps(data.draw(altered(json.loads(whole), json_values))).encode()
    else:
        content = data.draw(damaged(whole))
    path = place / "altered.json"
    path.write_bytes(content)
    with a_sentence_at_most():
        side = read_baseline(path)
        compare(side, side, Policy())
        compare(read_run(place / "run"), side, Policy())


words = st.sampled_from([
    "--eps", "--norm", "--attack", "--images", "--seed", "--sigma", "--set", "--name", "--json", "--quiet",
    "--checkpoints", "--severity", "--policy", "--max-drop", "--alpha", "--help", "--dry-run", "--out",
    "--dataset", "--rule", "--score-draws", "--steps", "--device", "--noise", "--config", "--markdown", "--",
    "pgd", "8/255", "0.1,", "nan", "1-5", "tiny", "run", "baseline.json", "save", "pgd.steps=x", "=",
])  # fmt: skip
arguments = st.lists(words | st.text(st.characters(exclude_characters="\x00"), max_size=6), max_size=6)


#: commands that take a data set: there is none of that name, so that no work is done
WITH_DATA = (
    *(
        "attack",
        "corrupt",
        "train",
        "import",
        "audit",
        "certify",
        "stability",
        "study",
        "versus",
        "gate init",
    ),
    *("score",),
)
WITHOUT_DATA = ("show", "list", "compare", "baseline", "baseline save", "run --dry-run", "report", "gate", "")


@fuzzed
@given(command=st.sampled_from([*WITHOUT_DATA, *WITH_DATA, "preview nowhere"]), rest=arguments)
def test_command_lines(place, command, rest):
    """No work is done, for there is no such data set, and what is wrong is one line on stderr."""
    ends_in_a_line(
        place, *command.split(), *rest, *(("--dataset", "nowhere") if command in WITH_DATA else ())
    )
    assert {path.name for path in place.iterdir() if path.is_dir()} <= {"run", "report", "changed", "page"}


#: command lines that read the file of each kind
READ_BY = {
    "suite": [("run", "suite.yaml", "--dry-run"), ("show", "suite.yaml")],
    "policy": [("compare", "run", "run", "--policy", "policy.yaml")],
    "baseline": [
        ("compare", "altered.json", "run"),
        ("compare", "run", "altered.json"),
        ("show", "altered.json"),
    ],
    "manifest": [
        ("show", "changed"),
        ("compare", "changed", "run"),
        ("compare", "run", "changed", "--markdown"),
        ("report", "changed", "--out", "page"),
        ("baseline", "save", "changed", "altered.json", "--force"),
        ("list", "runs", "--json"),
    ],
}


@fuzzed
@given(data=st.data(), kind=st.sampled_from(sorted(READ_BY)))
def test_files_on_command_lines(place, data, kind):
    """Each command that reads a file refuses a wrong one in one line, and prints what it says otherwise."""
    if kind == "suite":
        # a data set of its own would be loaded, however large
        content = data.draw(suites) | {"dataset": data.draw(st.sampled_from(["nowhere", None, "npz:x", 3]))}
        (place / "suite.yaml").write_text(yaml.safe_dump(content), encoding="utf-8", errors="replace")
    elif kind == "policy":
        sound = {
            "max_drop": 0.02,
            "alpha": 0.05,
            "cells": [{"match": "one*", "min_images": 9, "required": True}],
            "versus": [{"reference": "one", "match": "two*", "max_below": 0.1}],
        }
        content = data.draw(values | altered(sound, values))
        (place / "policy.yaml").write_text(yaml.safe_dump(content), encoding="utf-8", errors="replace")
    elif kind == "baseline":
        sound = json.loads((place / "baseline.json").read_text())
        (place / "altered.json").write_text(json.dumps(data.draw(altered(sound, json_values))))
    else:
        shutil.copytree(place / "run", place / "changed", dirs_exist_ok=True)
        sound = yaml.safe_load((place / "run" / "manifest.yaml").read_text())
        text = yaml.safe_dump(data.draw(altered(sound, values)))
        (place / "changed" / "manifest.yaml").write_text(text, encoding="utf-8", errors="replace")
    ends_in_a_line(place, *data.draw(st.sampled_from(READ_BY[kind])))


def ends_in_a_line(place: Path, *arguments: str) -> None:
    """Run `sde-bench` in this process: its exit code is documented, and an error is one line on stderr."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["sde-bench", *arguments]
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with (
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(place),
            a_sentence_at_most(), pytest.raises(SystemExit) as ended,
        ):  # fmt: skip
            main()
    finally:
        sys.argv = argv
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code in (0, 1, 2, 3, 4), err.getvalue()
    if ended.value.code == 2 and not out.getvalue():
        assert err.getvalue().startswith("sde-bench: ")
        assert err.getvalue().count("\n") == 1, err.getvalue()
    assert "Traceback" not in err.getvalue(), err.getvalue()


def test_the_sound_files_are_sound(place):
    """The files that the other tests alter are accepted unaltered."""
    load_checkpoint(place / "tiny.safetensors")
    side = read_run(place / "run")
    assert len(compare(read_baseline(place / "baseline.json"), side, Policy()).cells) == 2
    assert write_report(RunFolder(place / "run"), RunFolder(Path(place / "report")))
