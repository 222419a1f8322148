"""Options on every command: what is given twice adds up or is refused; tables are printed in any format."""

import csv
import json

import pytest
import typer
from builders import save_digits_model

from robustbench_sde.cli.app import app
from robustbench_sde.errors import BenchError


def commands(command=None, path=()):
    """Yield the words of each command, and the command."""
    command = command or typer.main.get_command(app)
    for name, part in getattr(command, "commands", {}).items():
        yield from commands(part, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


def options(command):
    """The options of a command that take a value."""
    return [
        option
        for option in command.params
        if option.param_type_name == "option" and not getattr(option, "is_flag", False)
    ]


#: words after the command, the function that gets them, the keyword (or place) of the value, and the value
ADDED_UP = [
    ("attack --attack pgd --attack fmn,noise", "attack", 2, {"pgd": {}, "fmn": {}, "noise": {}}),
    ("attack --eps 0.03 --eps 4/255,0.1", "attack", "eps", [0.03, 4 / 255, 0.1]),
    ("attack --set pgd.steps=2 --set pgd.restarts=3", "attack", 2, {"pgd": {"steps": 2, "restarts": 3}}),
    ("attack --smoothing 0.1 --smoothing 1/4,0.5", "attack", "smoothing", [0.1, 0.25, 0.5]),
    ("audit one --smoothing 0.1 --smoothing 0.2", "audit", "smoothing", [0.1, 0.2]),
    ("certify one --smoothing 0.1 --smoothing 0.2,0.3", "certify", "smoothing", [0.1, 0.2, 0.3]),
    ("certify one --radius 0 --radius 0.1,0.2", "certify", "radius", [0.0, 0.1, 0.2]),
    ("corrupt --corruptions fog --corruptions snow,frost", "score", "corruptions", "fog,snow,frost"),
    ("corrupt --severity 1 --severity 3-4", "score", "severities", [1, 3, 4]),
    ("corrupt --smoothing 0.1 --smoothing 0.2", "score", "smoothing", [0.1, 0.2]),
    ("gate init --attack pgd --attack fmn", "init_gate", "attack", ["pgd", "fmn"]),
    ("gate init --eps 0.03 --eps 0.1", "init_gate", "eps", [0.03, 0.1]),
    ("preview digits --attack pgd --checkpoint one --eps 0.03 --eps 0.1", "attack", "eps", [0.03, 0.1]),
    ("run smoke --smoothing 0.1 --smoothing 0.2", "run", "smoothing", [0.1, 0.2]),
    ("score x.npz --checkpoint one --checkpoint two", "score", 0, ["one", "two"]),
    ("score x.npz --smoothing 0.1 --smoothing 0.2", "score", "smoothing", [0.1, 0.2]),
    ("stability --corruptions fog --corruptions snow", "stability", "corruptions", "fog,snow"),
    ("stability --severity 1 --severity 3", "stability", "severities", [1, 3]),
    ("stability --smoothing 0.1 --smoothing 0.2", "stability", "smoothing", [0.1, 0.2]),
    ("study clean --smoothing 0.1 --smoothing 0.2", "run", "smoothing", [0.1, 0.2]),
    ("versus one --attack pgd --attack fmn", "versus", 3, {"pgd": {}, "fmn": {}}),
    ("versus one --set pgd.steps=2 --set pgd.restarts=3", "versus", 3, {"pgd": {"steps": 2, "restarts": 3}}),
    ("versus one --eps 0.03 --eps 0.1", "versus", "eps", [0.03, 0.1]),
    ("versus one --kind a=o* --kind b=t*", "versus", "kinds", "a=o*,b=t*"),
    ("versus one --smoothing 0.1 --smoothing 0.2", "versus", "smoothing", [0.1, 0.2]),
]
#: tested elsewhere: the trackers of `train`; a preview takes corruptions as `corrupt` does, and one smoothing
ELSEWHERE = {"train --log", "preview --corruptions", "preview --severity", "preview --smoothing"}


def test_every_option_that_collects_values_is_in_the_table():
    """No command has an option with several values that the table below does not test."""
    found = {
        " ".join([*path, option.opts[0]])
        for path, command in commands()
        for option in options(command)
        if getattr(option, "multiple", False)
    }
    tested = set()
    for text, *_ in ADDED_UP:
        words = text.split()
        path = " ".join(words[: 2 if words[0] == "gate" else 1])
        repeated = next(word for word in words if word.startswith("--") and words.count(word) > 1)
        tested.add(f"{path} {repeated}")
    assert found == tested | ELSEWHERE


@pytest.mark.parametrize(("text", "function", "place", "value"), ADDED_UP, ids=lambda v: str(v)[:50])
def test_repeated_options_add_up(program, tmp_path, monkeypatch, text, function, place, value):
    """The function of the API gets the values of all repetitions."""
    given = []

    def called(*arguments, **keywords):
        given.append(arguments[place] if isinstance(place, int) else keywords[place])
        raise BenchError("called")

    monkeypatch.setattr(f"robustbench_sde.{function}", called, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        save_digits_model(tmp_path / "checkpoints" / f"{name}.safetensors", "none", steps=1)
    (tmp_path / "x.npz").touch()
    monkeypatch.setattr("robustbench_sde.cli.score._dataset", lambda files: "digits")
    code, _, error = program(*text.split())
    assert (code, error) == (2, "sde-bench: called\n")
    found = given[0]
    assert (list(map(str, found)) if function == "score" and place == 0 else found) == value


def test_other_options_are_refused_if_given_twice(program):
    """An option with one value is given once on every command: nothing is dropped in silence."""
    count = 0
    for path, command in commands():
        for option in options(command):
            if getattr(option, "multiple", False):
                continue
            words = [option.opts[0], "1", option.opts[0], "2"]
            code, _, error = program(*path, *words)
            assert code == 2
            assert "it is given 2 times and takes one value" in error, (path, option.opts, error)
            count += 1
    assert count > 150


def test_tables_are_printed_in_every_format(program, tmp_path, monkeypatch):
    """`-o csv` and `-o md` write whole tables alone to stdout, and `-o json` is `--json`."""
    monkeypatch.chdir(tmp_path)
    for name, kind in (("one", "none"), ("two", "additive")):
        save_digits_model(tmp_path / "checkpoints" / f"{name}.safetensors", kind, steps=1)
    few = ("--images", 4, "--score-draws", 2, "--steps", 1, "--eot-draws", 1, "-q", "--out", "run")
    code, out, error = program("attack", *few, "-o", "csv")
    assert code == 0
    rows = list(csv.reader(out.splitlines()))
    assert rows[0][:3] == ["checkpoint", "perturbation", "accuracy (95 %)"]
    assert [row[0] for row in rows[1:]] == ["one"] * 3 + ["two"] * 3, "names stand in each line"
    assert len({len(row) for row in rows}) == 1
    assert "tables: run; for a page with figures: sde-bench report run" in error
    _, out, _ = program("show", "run", "-o", "md")
    assert out.startswith("digits · 4 images")
    assert "| two | pgd linf 0.03 (7.65/255) |" in out
    assert program("show", "run", "-o", "json")[1] == program("show", "run", "--json")[1]
    assert json.loads(program("show", "run", "-o", "JSON")[1])[0]["checkpoint"] == "one"
    assert "┃" not in program("show", "run")[1]
    assert "checkpoint,perturbation" not in program("show", "run")[1], "the next command prints for people"
    code, _, error = program("show", "run", "--json", "-o", "csv")
    assert code == 2
    assert "two formats; give one" in error


def test_every_command_that_prints_a_table_has_the_option():
    """Every command has `--json`; they have `-o`, but for those that print no table."""
    without = {"train", "import", "preview", "report", "gate init", "baseline save"}
    for path, command in commands():
        names = {name for option in command.params for name in option.opts}
        assert "--json" in names, path
        assert ("-o" in names) == (" ".join(path) not in without), path
