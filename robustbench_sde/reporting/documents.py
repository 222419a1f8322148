"""Write the tables of a run for documents in LaTeX: the one at a glance, and all cells."""

from itertools import groupby

import pandas as pd

from robustbench_sde.reporting.html.tables import Table
from robustbench_sde.reporting.tex import escape, escape_cell, fitted_table
from robustbench_sde.runs.words import summary_title, written_columns


def latex(summary: pd.DataFrame) -> str:
    """Return floating tables for the LaTeX packages booktabs and graphicx, checkpoints set apart."""
    columns = written_columns(summary)
    groups = []
    for _, rows in groupby(summary.to_dict("records"), key=lambda row: row["checkpoint"]):
        cells = [
            [
                escape(column.text(row).replace("-", "–"))
                if column.numeric
                else escape_cell(column.text(row))
                for column in columns
            ]
            for row in rows
        ]
        groups.append([cells[0], *(["", *others] for _, *others in cells[1:])])
    return fitted_table(
        escape(summary_title(summary)),
        "".join("r" if column.numeric else "l" for column in columns),
        [escape(column.heading) for column in columns],
        groups,
    )


def latex_at_a_glance(table: Table) -> str:
    """Return the first table of the page as a floating table: one row for each checkpoint."""
    rows = [
        [
            " ".join(
                filter(
                    None, (escape_cell(cell.text), escape(cell.aside.replace("-", "–")), escape(cell.note))
                )
            )
            for cell in row
        ]
        for row in table.rows
    ]
    return fitted_table(
        escape(table.caption),
        "".join("r" if kind == "number" else "l" for _, kind in table.headings),
        [escape(heading) for heading, _ in table.headings],
        [rows],
    )
