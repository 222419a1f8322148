"""The summary on the terminal, `summary.md` and `summary.tex`."""

import io
import re

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reporting.conftest import HOSTILE
from rich.console import Console

from robustbench_sde.reporting.documents import latex
from robustbench_sde.reporting.terminal import flat, summary_table
from robustbench_sde.reporting.tex import escape
from robustbench_sde.runs.tables import summary_markdown
from robustbench_sde.runs.words import budget_text, markdown, span, summary_title


def test_markdown_has_a_line_per_cell_and_shows_markup(sample, tmp_path):
    """Every line has the same number of cells, whatever names hold."""
    summary = sample.write(tmp_path).read_summary()
    title, empty, heading, rule, *lines = summary_markdown(summary).splitlines()
    assert title == "digits · 40 images · 1 to 16 score draws (mean-prob) · seed 0"
    assert (empty, len(lines)) == ("", len(summary))
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in (heading, rule, *lines)}
    assert len(cells) == 1
    assert "&lt;script&gt;" in lines[0]
    assert "<" not in summary_markdown(summary)
    assert "| 75.0 (59.8-85.8) |" in lines[2]


@given(st.text(st.sampled_from("ab_*`[]()!~|\\\\<>&@#= "), max_size=12))
@example("![](http://example.com/x.png)")
@example("[a](b) ~~c~~ **d** _e_ `f` <b>g</b> &lt; h_i")
@example("@somebody")
def test_names_have_no_markup_in_markdown(name):
    """An independent parser shows what stands in the table, and finds no markup in it."""
    page = markdown(pd.DataFrame([[f"x{name}x"]], columns=["n"]))
    tokens = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(page)
    inline = [token for token in tokens if token.type == "inline"][-1]
    kinds = {child.type for child in inline.children or []}
    assert kinds <= {"text", "text_special"}
    shown = "".join(child.content for child in inline.children or [])
    assert shown.replace("\u200b", "") == f"x{name}x"
    assert not re.search("@[a-z]", shown)


def test_latex_escapes_what_latex_obeys():
    """Names are printed, not run."""
    assert escape(r"a_b\c{50%}$x^2~#&") == (
        r"a\_b\textbackslash{}c\{50\%\}\$x\textasciicircum{}2\textasciitilde{}\#\&"
    )
    assert escape("[1]") == "{[}1]"


def test_latex_is_a_booktabs_table(sample, tmp_path):
    """Every row has as many columns as the head; checkpoints are named once and set apart by rules."""
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
    """A status that is not ok is in both files; if all are ok there is no such column."""
    assert "status" not in summary_markdown(sample.write(tmp_path / "ok").read_summary())
    sample.rows[0]["status"] = "invalid: the control is off by 3 images"
    summary = sample.write(tmp_path / "bad").read_summary()
    assert "| invalid: the control is off by 3 images |" in summary_markdown(summary)
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


def test_budgets_are_in_grey_levels_where_a_pixel_has_one():
    """The bound of a pixel is a number of levels, the length of a difference is none."""
    assert budget_text("linf", 8 / 255) == "linf 0.03137 (8/255)"
    assert budget_text("l2", 0.5) == "l2 0.5"


def test_an_interval_below_zero_has_one_minus():
    """No dash that reads as another."""
    assert (span(0.8, 0.9), span(-0.031, 0.02)) == ("(80.0-90.0)", "(-3.1 to 2.0)")


def test_nested_values_are_shown_as_people_write_them():
    """Six digits, a dash for nothing, groups of a list by number."""
    entries = {
        "a": {"none": None, "empty": [], "yes": True, "eps": 8 / 255},
        "b": [{"x": 1}, {"x": [2, 0.5]}],
    }
    assert dict(flat(entries)) == {
        "a.none": "-", "a.empty": "-", "a.yes": "yes", "a.eps": "0.0313725", "b.1.x": "1", "b.2.x": "2, 0.5",
    }  # fmt: skip


def test_one_image_and_one_draw_are_no_plural(sample, tmp_path):
    """One image and one draw are singular in the line above a table."""
    for row in sample.rows:
        row.update(images=1, score_draws=1, mean_score_draws=1.0)
    title = summary_title(sample.write(tmp_path).read_summary())
    assert title == "digits · 1 image · 1 score draw (mean-prob) · seed 0"


def test_a_grid_of_draws_is_written_as_a_range(sample, tmp_path):
    """Rows of random networks with 4 and 64 draws: both ends; a network without noise is not counted."""
    for row, draws in zip(sample.rows, [1, 4, 64, *[64] * len(sample.rows)], strict=False):
        noise = "none" if draws == 1 else "additive:0.1"
        row.update(noise=noise, perturbation="clean", score_draws=draws, mean_score_draws=float(draws))
    title = summary_title(sample.write(tmp_path).read_summary())
    assert " · 4 to 64 score draws (mean-prob) · " in title
