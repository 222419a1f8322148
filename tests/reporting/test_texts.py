"""The summary on the terminal, `summary.md` and `summary.tex`."""

import io
import re

import pytest
from reporting.conftest import HOSTILE
from rich.console import Console

from robustbench_sde.reporting.latex import escape, latex
from robustbench_sde.reporting.markdown import markdown
from robustbench_sde.reporting.terminal import summary_table


def test_markdown_has_a_line_per_cell_and_shows_markup(sample, tmp_path):
    """Every line has the same number of cells, whatever names hold."""
    summary = sample.write(tmp_path).read_summary()
    title, empty, heading, rule, *lines = markdown(summary).splitlines()
    assert title == "digits · 40 images · 16 score draws (mean-prob) · seed 0"
    assert (empty, len(lines)) == ("", len(summary))
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in (heading, rule, *lines)}
    assert len(cells) == 1
    assert "&lt;script&gt;" in lines[0]
    assert "<" not in markdown(summary)
    assert "| 75.0 (59.8-85.8) |" in lines[2]


def test_latex_escapes_what_latex_obeys():
    """Names are printed, not run."""
    assert escape(r"a_b\c{50%}$x^2~#&") == (
        r"a\_b\textbackslash{}c\{50\%\}\$x\textasciicircum{}2\textasciitilde{}\#\&"
    )
    assert escape("[1]") == "{[}1]"


def test_latex_is_a_booktabs_table(sample, tmp_path):
    """As many columns in every row as in the head; checkpoints are named once and set apart by rules."""
    text = latex(sample.write(tmp_path).read_summary())
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns.group(1))}
    assert text.count(escape(HOSTILE)) == 1
    assert text.count(r"\midrule") == 3
    assert "75.0 (59.8--85.8)" in text
    assert HOSTILE not in text


def test_a_status_that_is_not_ok_is_written(sample, tmp_path):
    """In both files; where all are ok there is no such column."""
    assert "status" not in markdown(sample.write(tmp_path / "ok").read_summary())
    sample.rows[0]["status"] = "invalid: the control is off by 3 images"
    summary = sample.write(tmp_path / "bad").read_summary()
    assert "| invalid: the control is off by 3 images |" in markdown(summary)
    assert "invalid: the control is off by 3 images" in latex(summary)


@pytest.mark.parametrize(("width", "fits"), [(80, False), (100, False), (200, True)])
def test_no_terminal_cuts_a_number(sample, tmp_path, width, fits):
    """A narrow one leaves columns out and says which; accuracy with its interval is always there."""
    summary = sample.write(tmp_path).read_summary()
    text = io.StringIO()
    console = Console(file=text, width=width, markup=False)
    console.print(summary_table(summary, console))
    assert "75.0 (59.8-85.8)" in text.getvalue()
    assert "…" not in text.getvalue()
    assert max(map(len, text.getvalue().splitlines())) <= width
    assert ("no room for: over noise" in text.getvalue()) != fits
