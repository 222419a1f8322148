"""--help fits two screens: common options in full, rare ones in a line each, nothing lost in --help-all."""

import pytest
import typer

from robustbench_sde.cli.app import app
from robustbench_sde.cli.brief_help import first_clause

COMMANDS = [name for name, part in typer.main.get_command(app).commands.items() if part.params]


def _shown(program, *words):
    code, out, err = program(*words)
    assert code == 0, err
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_short_and_names_every_option(command, program, monkeypatch):
    """At 80 columns --help has at most 120 lines, and every option of the command is in it."""
    monkeypatch.setenv("COLUMNS", "80")
    out = _shown(program, command, "--help")
    assert len(out.splitlines()) <= 120
    assert max(map(len, out.splitlines())) <= 80
    for option in typer.main.get_command(app).commands[command].params:
        for name in (*option.opts, *option.secondary_opts):
            assert not name.startswith("--") or name in out, name


@pytest.mark.parametrize("command", ["attack", "train", "versus", "certify"])
def test_help_all_has_every_text_in_full(command, program, monkeypatch):
    """--help-all has the whole text of every option, however long it is."""
    monkeypatch.setenv("COLUMNS", "400")
    words = " ".join(_shown(program, command, "--help-all").split())
    for option in typer.main.get_command(app).commands[command].params:
        assert " ".join((option.help or "").split()) in words, option.name


def test_a_command_with_few_rare_options_has_one_help(program):
    """`compare` names all its options in full, does not name --help-all, and takes it like every command."""
    brief = _shown(program, "compare", "--help")
    assert "--help-all" not in brief
    whole = _shown(program, "compare", "--help-all")
    assert [line for line in brief if line not in whole] == []


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("Target class: an index, random or least-likely.", "Target class."),
        ("Which file. Another sentence.", "Which file."),
        ("Resize to this side (image folders).", "Resize to this side."),
        ("Up to 0.03, say", "Up to 0.03, say."),
        ("A number of things that are counted one by one for each, the rest left out.",
         "A number of things that are counted one by one for each."),
        ("", ""),
    ],
)  # fmt: skip
def test_a_rare_option_is_told_as_far_as_its_first_clause(text, begins):
    """A help text is cut where a sentence or a clause ends, and at a comma only if it is long."""
    assert first_clause(text) == begins
