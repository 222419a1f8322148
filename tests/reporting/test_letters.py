"""Names in other scripts in figures and LaTeX, and the words that the page explains."""

import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from builders import make_data, make_model

import robustbench_sde as rb
from robustbench_sde.reporting import letters
from robustbench_sde.reporting.figures import save, styled
from robustbench_sde.reporting.html.glossary import GLOSSARY, explained
from robustbench_sde.reporting.html.page import write_report
from robustbench_sde.reporting.pictures import NotebookFigure
from robustbench_sde.reporting.tex import escape, escape_cell, fitted_table
from robustbench_sde.storage.run_folder import RunFolder

NAME = "模型-ode-测试名称很长"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no font but the usual one."""
    monkeypatch.setattr(letters, "_installed", list)


@pytest.mark.usefixtures("bare")
def test_a_figure_with_names_in_any_script_has_no_complaint(tmp_path: Path):
    """The SVG keeps the name for the browser; the PNG has it by number in legends and on axes."""
    with warnings.catch_warnings(), styled() as figure:
        warnings.simplefilter("error")
        axes = figure.add_subplot(title=NAME)
        axes.plot([1, 2], label=NAME)
        axes.set_xticks([0, 1], [NAME, "plain"])
        axes.legend()
        save(figure, RunFolder(tmp_path), "names")
        assert axes.get_title(loc="left") == "U+6A21 U+578B -ode-U+6D4B U+8BD5 U+540D U+79F0 U+5F88 U+957F"
        assert [label.get_text() for label in axes.get_xticklabels()][1] == "plain"
        assert axes.get_xticklabels()[0].get_text().startswith("U+6A21")
    assert NAME in (tmp_path / "figures" / "names.svg").read_text()


def test_a_font_that_has_the_letters_is_used(monkeypatch: pytest.MonkeyPatch):
    """If one of the known fonts is installed, the name stays as it is."""
    known = {letters._FONT: letters._letters(letters._FONT), "Han": frozenset(map(ord, NAME))}
    monkeypatch.setattr(letters, "_installed", lambda: ["Other", "Han"])
    monkeypatch.setattr(letters, "_letters", lambda font: known.get(font, frozenset()))
    figure = NotebookFigure()
    text = figure.text(0, 0, NAME)
    letters.make_drawable(figure)
    assert text.get_text() == NAME
    assert text.get_fontfamily() == [letters._FONT, "Han"]


def test_long_names_by_number_are_stacked():
    """Four letters by number stand in a line of a cell; other names stay one line."""
    assert escape_cell("digits-ode_1") == escape("digits-ode_1")
    assert escape_cell("模型") == escape("模型")
    stacked = escape_cell(NAME)
    assert stacked.count(r"\\") == 1
    assert [line.count("U+") for line in stacked.split(r"\\")] == [4, 4]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_a_table_with_such_a_name_is_hardly_smaller(tmp_path: Path):
    """The natural width of the table is at most a third above that with a Latin name."""

    def width(name: str) -> float:
        rows = [[[name, *["100.0 (67.6--100.0)"] * 2]]]
        text = fitted_table("T", "lrr", ["name", "a", "b"], rows)
        said = text.replace(r"\end{table}", r"\typeout{WIDTH \the\wd0}\end{table}")
        (tmp_path / "t.tex").write_text(said)
        (tmp_path / "p.tex").write_text(
            r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{t}\end{document}"
        )
        ended = subprocess.run(
            ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "p.tex"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout[-1500:]
        found = re.search(r"WIDTH ([\d.]+)pt", ended.stdout)
        assert found is not None
        return float(found[1])

    latin = width(escape_cell("digits-multiplicative"))
    assert width(escape_cell(NAME)) < 4 / 3 * latin < width(escape(NAME))


@pytest.mark.usefixtures("bare")
def test_the_report_of_such_a_name_is_silent_and_its_words_are_explained(tmp_path: Path):
    """No warning reaches the screen; headings and the control have a text for the mouse."""
    model = make_model()
    model.name = NAME
    run = RunFolder(tmp_path / "run")
    rb.attack(
        model, make_data(6), norm="linf", eps=["4/255", "8/255"], steps=1, eot_draws=1, score_draws=2,
        out=run.path,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(run, run)
    page = (run.path / "index.html").read_text()
    for word in ("undecided", "over noise", "control eps 0"):
        assert f'title="{GLOSSARY[word]}"' in page
    assert "interval over images, under pgd" in page


@pytest.mark.parametrize(
    ("heading", "begins"),
    [
        ("accuracy (95 %)", "Share of images that the decision rule"),
        ("survives 10 (95 %)", "Accuracy of single draws"),
        ("reaches .95 (95 %)", "Share of images whose accuracy"),
        ("checkpoint", ""),
        ("clean", ""),
    ],
)
def test_headings_are_explained_without_their_interval(heading: str, begins: str):
    """Names that explain themselves have no text."""
    assert explained(heading).startswith(begins)
    assert bool(explained(heading)) == bool(begins)
