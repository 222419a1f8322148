"""Write the summary of a run as a table for documents in LaTeX."""

import pandas as pd

from robustbench_sde.runs.words import summary_title, written_columns

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "·": r"\textperiodcentered{}",
        "[": "{[}",  # after \\ it would begin an option
        "\n": " ",
    }
    | {letter: f"\\{letter}" for letter in "&%$#_{}"}
)


def latex(summary: pd.DataFrame) -> str:
    """Return a floating table for the LaTeX package booktabs, with a rule between checkpoints."""
    columns = written_columns(summary)
    lines = []
    previous = None
    for row in summary.to_dict("records"):
        if previous not in (None, row["checkpoint"]):
            lines.append(r"\midrule")
        name, *others = (_tex_number(column.text(row)) if column.numeric else escape(column.text(row))
                         for column in columns)  # fmt: skip
        lines.append(f"{' & '.join(['' if row['checkpoint'] == previous else name, *others])} \\\\")
        previous = row["checkpoint"]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{escape(summary_title(summary))}.}}",
            f"\\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in columns)}}}",
            r"\toprule",
            f"{' & '.join(escape(column.heading) for column in columns)} \\\\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Escape text so that LaTeX prints it as it is."""
    return text.translate(_ESCAPES)


def _tex_number(text: str) -> str:
    return escape(text).replace("-", "--")
