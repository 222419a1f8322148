"""Prepare the example images of the page: clean, perturbed and their difference, as data URIs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustbench_sde.runs.words import name_lines, perturbation_text
from robustbench_sde.shown import data_uri
from robustbench_sde.storage.examples import Examples
from robustbench_sde.storage.run_folder import RunFolder

#: limits on cells with examples and on images of each, which keep the page at a few MB
MOST_CELLS = 24
_IMAGES = 4


@dataclass(frozen=True)
class Example:
    """One image before and after the perturbation; the three pictures are data URIs."""

    image_id: int
    label: str
    prediction: str
    correct: bool
    clean: str
    perturbed: str
    difference: str


@dataclass(frozen=True)
class ExampleCell:
    """Examples of one cell."""

    checkpoint: str
    perturbation: str
    #: factor by which the difference is amplified
    gain: float
    examples: list[Example]


def examples(run: RunFolder, summary: pd.DataFrame, class_names: Sequence[str]) -> list[ExampleCell]:
    """Return examples of each attack and corruption at its highest level, for at most `MOST_CELLS` cells.

    A corruption makes equal images for every checkpoint, so it is shown for the first one.

    Raises:
        BenchError: stored examples or records are damaged.
    """
    shown = summary[(summary["status"] == "ok") & ~summary["perturbation"].isin(["clean", "control"])]
    shown = shown.assign(
        series=name_lines(summary)[shown.index], level=shown["eps"].fillna(shown["severity"])
    )
    highest = shown.sort_values("level", kind="stable").groupby(["series", "perturbation", "norm"]).tail(1)
    chosen = highest.sort_index()
    chosen = chosen[chosen["severity"].isna() | ~chosen["perturbation"].duplicated()]
    found: list[ExampleCell] = []
    for row in chosen.to_dict("records"):
        stored = run.read_examples(row["cell"]) if len(found) < MOST_CELLS else None
        if stored is not None and len(stored.ids):
            records = run.read_records(row["cell"]).set_index("image_id")
            found.append(_cell(row["series"], perturbation_text(row), stored, records, class_names))
    return found


def _cell(
    checkpoint: str, text: str, stored: Examples, records: pd.DataFrame, class_names: Sequence[str]
) -> ExampleCell:
    def name(label: int) -> str:
        return class_names[label] if 0 <= label < len(class_names) else str(label)

    change = stored.perturbed - stored.clean
    largest = float(np.abs(change).max())
    gain = 0.5 / largest if largest > 0 else 1.0
    made = []
    for place, image_id in enumerate(stored.ids[:_IMAGES].tolist()):
        record = records.loc[image_id]
        made.append(
            Example(
                image_id,
                name(int(stored.labels[place])),
                name(int(record["prediction"])),
                bool(record["correct"]),
                data_uri(stored.clean[place]),
                data_uri(stored.perturbed[place]),
                data_uri(0.5 + gain * change[place]),
            )
        )
    return ExampleCell(checkpoint, text, gain, made)
