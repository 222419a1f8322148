"""The summary as a Markdown table for people; the table with every column is `summary.csv`."""

import html

import pandas as pd

from robustbench_sde.reporting.terminal import summary_title, written_columns
from robustbench_sde.storage.run_folder import markdown as table


def markdown(summary: pd.DataFrame) -> str:
    """What was measured, and a line per cell; markup in names is shown, not obeyed."""
    columns = written_columns(summary)
    texts = [[html.escape(column.text(row)) for column in columns] for row in summary.to_dict("records")]
    title = html.escape(summary_title(summary))
    return f"{title}\n\n{table(pd.DataFrame(texts, columns=[column.heading for column in columns]))}"
