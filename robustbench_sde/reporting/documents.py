"""Write the summary of a run as tables for documents: LaTeX and Markdown."""

import html

import pandas as pd

from robustbench_sde.reporting.words import summary_title, written_columns
from robustbench_sde.storage.run_folder import markdown as table

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


def markdown(summary: pd.DataFrame) -> str:
    """Return the title and a Markdown table with a line per cell; markup in names is escaped."""
    columns = written_columns(summary)
    texts = [[html.escape(column.text(row)) for column in columns] for row in summary.to_dict("records")]
    title = html.escape(summary_title(summary))
    return f"{title}\n\n{table(pd.DataFrame(texts, columns=[column.heading for column in columns]))}"
