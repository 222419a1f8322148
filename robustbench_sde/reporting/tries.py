"""Draw accuracy against tries: what stands if the same image may be submitted again and again."""

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.tries import is_deterministic, most_tries, survival
from robustbench_sde.reporting.figures import (
    ACCURACY,
    MOST_FIGURES,
    MOST_LINES,
    Drawn,
    draw_lines,
    file_name,
    left_out,
    save,
    styled,
)
from robustbench_sde.runs.words import most_draws, name_lines, perturbation_text
from robustbench_sde.storage.run_folder import RunFolder

#: numbers of tries that are marked, as far as the score draws go
_MARKED = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
#: columns of records from which these curves follow
_COLUMNS = ("score_draws", "share_correct", "margin_error", "tries", "tries_right", "tries_split")


def accuracy_against_tries(summary: pd.DataFrame, run: RunFolder, out: RunFolder) -> list[Drawn]:
    """Draw accuracy against the number of submissions: `figures/accuracy-tries-<perturbation>`.

    There is a figure for the clean images and for each attack and budget, up to `MOST_FIGURES`, if a
    classifier is random; those without noise are level lines. Bands are over images.

    Args:
        summary: rows of a run.
        run: folder with its records.
        out: folder to write into.

    Raises:
        BenchError: records are damaged.
    """
    sound = most_draws(summary[(summary["status"] == "ok") & summary["severity"].isna()])
    sound = sound[(sound["perturbation"] != "control") & ~((sound["norm"] != "") & sound["eps"].isna())]
    names = name_lines(summary)
    texts = np.array([perturbation_text(row) for row in sound.to_dict("records")], dtype=object)
    drawn: list[Drawn] = []
    for text, rows in sound.groupby(texts, sort=False):
        if len(drawn) == MOST_FIGURES:
            break
        cells = dict(zip(names[rows.index], rows["cell"], strict=True))
        shown = list(cells.items())[:MOST_LINES]
        records = {name: pd.DataFrame(run.read_columns(str(cell), _COLUMNS)) for name, cell in shown}
        most = max(most_tries(own) for own in records.values())
        if most < 2:
            continue
        marks = [k for k in _MARKED if k < most] + [most]
        lines = [(name, curve(own, marks)) for name, own in records.items()]
        with styled() as figure:
            axes = figure.add_subplot(xlabel="submissions of each image", ylabel=ACCURACY, ylim=(-2, 102))
            draw_lines(axes, lines, "tries")
            axes.set_xscale("log")
            axes.set_xticks(marks, [f"{k:g}" for k in marks])
            axes.minorticks_off()
            name = file_name("accuracy-tries", str(text))
            save(figure, out, name)
        caption = (
            f"{text}: share of images that all of so many submissions get right. Bands: 95 % over images."
            f"{left_out(len(cells))}"
        )
        drawn.append(Drawn(name, caption))
    return drawn


def curve(records: pd.DataFrame, marks: list[int]) -> pd.DataFrame:
    """Return accuracy at several numbers of tries, as far as the records can tell.

    Args:
        records: one row per image (`RECORDS`).
        marks: numbers of tries, rising.
    """
    known = [k for k in marks if is_deterministic(records) or k <= most_tries(records)]
    found = [survival(records, k) for k in known]
    columns = {"accuracy": "estimate", "accuracy_low": "low", "accuracy_high": "high"}
    values = {column: [getattr(one, part) for one in found] for column, part in columns.items()}
    return pd.DataFrame({"tries": known, **values})
