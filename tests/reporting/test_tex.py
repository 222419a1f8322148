"""LaTeX tables are compiled by pdflatex where it is installed, and looked at in any case."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from robustbench_sde.reporting.documents import latex_at_a_glance
from robustbench_sde.reporting.html.tables import PageCell, Table
from robustbench_sde.reporting.tex import ROWS, escape, fitted_table

NAMES = ["σ 中文 é_1", 'naïve|"50%" [x]', "Łódź Ω×3 ≤ 8", "модель", "a\\b^c~d<e>#&$"]


def table(rows: int) -> str:
    """Two groups of wide rows."""
    cells = [[escape(NAMES[row % len(NAMES)]), *["100.0 (67.6--100.0)"] * 8] for row in range(rows)]
    return fitted_table("Wide", "l" + "r" * 8, ["name", *["accuracy"] * 8], [cells[:3], cells[3:]])


def test_letters_that_pdflatex_lacks_are_written_by_number():
    """Greek and accents are commands, other scripts their code points; nothing is left that is not ASCII."""
    assert escape("σ Ω é") == "$\\sigma$ $\\Omega$ \\'{e}"
    assert escape("e\u0301") == "\\'{e}"
    assert escape("中") == r"\texttt{U+4E2D}"
    assert all(escape(name).isascii() for name in NAMES)


def test_long_tables_go_on_in_another_float():
    """No float has more than `ROWS` rows, all rows are there, and a group that goes on has its name again."""
    text = table(2 * ROWS + 5)
    floats = text.split(r"\begin{table}")[1:]
    rows = [re.findall(r"^.*100\.0.*\\\\$", one, re.MULTILINE) for one in floats]
    assert [len(one) for one in rows] == [ROWS, ROWS, 5]
    assert all(not one[0].startswith(" &") for one in rows)
    assert [one.count("(continued)") for one in floats] == [0, 1, 1]
    assert text.count(r"\addtocounter{table}{-1}") == 2


def glance() -> Table:
    """Two checkpoints with clean accuracy and one budget."""
    headings = [("checkpoint", "name"), ("clean", "number"), ("linf 8/255", "number")]
    rows = [
        [PageCell(name), PageCell("97.5", "(93.0-99.1)"), PageCell("1.5", "(0.5-4.3)", "apgd-ce")]
        for name in NAMES[:2]
    ]
    return Table("glance", "Accuracy in percent with its 95 % interval", headings, rows)  # type: ignore[arg-type]


def test_the_table_at_a_glance_has_a_row_for_each_checkpoint():
    """Numbers stand with interval and attack in one cell, and headings above them."""
    text = latex_at_a_glance(glance())
    assert r"\begin{tabular}{lrr}" in text
    assert "checkpoint & clean & linf 8/255 \\\\" in text
    lines = [line for line in text.splitlines() if "97.5" in line]
    assert len(lines) == 2
    assert all(line.endswith(" & 97.5 (93.0--99.1) & 1.5 (0.5--4.3) apgd-ce \\\\") for line in lines)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_it_compiles_and_fits_the_page(tmp_path: Path):
    """pdflatex reports no error, no overfull line and no float that is too large."""
    (tmp_path / "summary.tex").write_text(table(76), encoding="utf-8")
    (tmp_path / "glance.tex").write_text(latex_at_a_glance(glance()), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        r"\input{glance}\input{summary}\end{document}"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert "Overfull" not in ended.stdout
    assert "too large" not in ended.stdout
