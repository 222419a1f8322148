"""Write the summary of a run as a table for documents in LaTeX."""

from itertools import groupby

import pandas as pd

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
