"""The table schemas: names, types and meanings of all columns, in one place.

Checked whenever a table is written or read; `docs/tables.md` is made from them.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustbench_sde.errors import BenchError

#: A row of any table as `DataFrame.to_dict("records")` gives it: values by column name.
TableRow = Mapping[Hashable, Any]


@dataclass(frozen=True)
class Column:
    """One column: its pandas dtype and what it means."""

    name: str
    dtype: str
    meaning: str
    #: whether earlier versions did not write it: NaN in their files
    later: bool = False


#: One row per image of a cell.
RECORDS = (
    Column("image_id", "int64", "index of the image in its split; the key of its noise"),
    Column("label", "int64", "true class"),
    Column("prediction", "int64", "class by the decision rule over the score draws"),
    Column("correct", "bool", "prediction == label"),
    Column("share_correct", "float64", "share of the score draws that, alone, give the label"),
    Column("label_probability", "float64", "mean over draws of the probability of the label"),
    Column(
        "margin", "float64", "statistic of the rule at the label less its largest elsewhere: > 0 is right"
    ),
    Column("margin_error", "float64", "standard error of `margin` over draws; NaN with one draw"),
    Column("score_draws", "int64", "draws that decided the image"),
    Column("confidence", "float64", "largest mean probability"),
    Column("brier", "float64", "squared distance of the mean probabilities to the one-hot label"),
    Column("linf", "float64", "largest absolute change of a value, images in [0, 1]"),
    Column("l2", "float64", "Euclidean length of the change, images in [0, 1]"),
    Column("forward_passes", "int64", "forward passes of one draw that the perturbation took"),
    Column("backward_passes", "int64", "backward passes of one draw that the perturbation took"),
    Column("eot_draws", "int64", "draws that the attack averaged in each look at the model; 0: no attack"),
    Column(
        "gradients_zero", "float64", "share of the attack's gradients that are 0 everywhere; NaN: none", True
    ),
    Column("gradients_not_finite", "float64", "share of them with an entry that is NaN or infinite", True),
    Column("gradients_saturated", "float64", "share of them at which the cross-entropy has saturated", True),
    Column("target", "float64", "class that a targeted attack wanted; NaN: there was none", True),
    Column(
        "chosen", "str", "what made the image: of an ensemble the attack that hurt it most; empty if clean"
    ),
)

#: One row per cell.
SUMMARY = (
    Column("checkpoint", "str", "name of the checkpoint file, without its ending"),
    Column("dataset", "str", "name of the data set"),
    Column("noise", "str", "its terms, joined by +; none; of a module that is not ours, keyed or opaque"),
    Column("sigma", "float64", "noise scale at test time"),
    Column("solver", "str", "solver at test time; empty for a network that has none of ours"),
    Column("solver_steps", "int64", "its steps N, at test time; 0 where there is no solver"),
    Column("perturbation", "str", "clean, control, or the name of an attack or corruption"),
    Column("norm", "str", "linf, l2, or empty"),
    Column("eps", "float64", "budget; NaN where there is none"),
    Column("severity", "float64", "of a corruption, 1 to 5; NaN where there is none"),
    Column("images", "int64", "number of images"),
    Column("score_draws", "int64", "draws that decide, at most; 1 for a deterministic model"),
    Column("mean_score_draws", "float64", "mean over images of the draws that decided: fewer with `auto`"),
    Column("rule", "str", "mean-prob, vote or single"),
    Column("seed", "int64", "seed of the evaluation"),
    Column("accuracy", "float64", "share of images whose prediction by the rule is right"),
    Column("accuracy_low", "float64", "95 % interval over images (Wilson), lower end"),
    Column("accuracy_high", "float64", "upper end"),
    Column("noise_low", "float64", "95 % interval of the accuracy over fresh score draws, same images"),
    Column("noise_high", "float64", "upper end"),
    Column("single_draw_accuracy", "float64", "mean over images of share_correct"),
    Column("single_draw_low", "float64", "95 % interval over images (clustered by image), lower end"),
    Column("single_draw_high", "float64", "upper end"),
    Column("undecided", "float64", "share of images with share_correct strictly between .05 and .95"),
    Column("ece", "float64", "expected calibration error of `confidence`: 15 equal bins (Guo et al. 2017)"),
    Column("brier", "float64", "mean over images of `brier`"),
    Column("distance_q25", "float64", "minimal-norm attacks: lower quartile of the distance; NaN otherwise"),
    Column("distance_median", "float64", "median; an image that still stands counts as infinitely far"),
    Column("distance_q75", "float64", "upper quartile"),
    Column("forward_passes", "float64", "mean forward passes per image, one draw each, of the perturbation"),
    Column("backward_passes", "float64", "mean backward passes per image, one draw each"),
    Column("eot_draws", "float64", "mean over images of the draws that the attack averaged; 0: no attack"),
    Column(
        "gradients_zero",
        "float64",
        "share of images with a gradient of 0 everywhere; NaN: no gradients",
        True,
    ),
    Column("gradients_not_finite", "float64", "share of images with a gradient that is not finite", True),
    Column("gradients_saturated", "float64", "share of images with a saturated cross-entropy", True),
    Column(
        "target_images",
        "float64",
        "targeted attacks: images of another class than the target, the only ones that count; NaN otherwise",
        True,
    ),
    Column("target_success", "float64", "share of them whose prediction is the target", True),
    Column("target_low", "float64", "95 % interval over these images (Wilson), lower end", True),
    Column("target_high", "float64", "upper end", True),
    Column("seconds", "float64", "wall time of the cell: perturbing and scoring"),
    Column(
        "status",
        "str",
        "ok, or `invalid: reason`, `failed: reason`, `suspect: reason`: the row must not be used",
    ),
    Column("fingerprint", "str", "sha256 over pixels and labels of the whole split"),
    Column("cell", "str", "hash of all that decides the row"),
)

#: columns of the summary that targeted attacks have
TARGETED = ("target_images", "target_success", "target_low", "target_high")

#: One row per checkpoint, corruption and severity, and their means: `corruptions.csv`.
CORRUPTIONS = (
    Column("checkpoint", "str", "its name; with its noise and scoring where a run has several of these"),
    Column("corruption", "str", "its name, `clean`, or `mean` over those with severities (all if none has)"),
    Column("severity", "float64", "1 to 5; NaN for a mean over severities, or where there are none"),
    Column("images", "int64", "number of images"),
    Column("cells", "int64", "corruptions times severities in the row"),
    Column("accuracy", "float64", "mean over cells and images of `correct`; its error is 1 less this"),
    Column(
        "accuracy_low", "float64", "95 % interval, clustered by image over all cells of the row; lower end"
    ),
    Column("accuracy_high", "float64", "upper end"),
    Column("relative_error", "float64", "error of the row less the error on clean images"),
    Column("relative_low", "float64", "95 % interval, images paired with their clean selves; lower end"),
    Column("relative_high", "float64", "upper end"),
    Column("ce", "float64", "error over the reference's, severities summed; mCE in rows `mean`"),
    Column(
        "ce_low", "float64", "95 % interval, images paired with the reference's (delta method); lower end"
    ),
    Column("ce_high", "float64", "upper end"),
    Column("single_draw_accuracy", "float64", "mean over cells and images of share_correct"),
    Column("single_draw_low", "float64", "95 % interval, clustered by image; lower end"),
    Column("single_draw_high", "float64", "upper end"),
    Column("undecided", "float64", "mean over cells of the summary's column"),
    Column("ece", "float64", "mean over cells of the summary's column"),
    Column("brier", "float64", "mean over cells of the summary's column"),
    Column("status", "str", "ok, or why a cell is invalid or has failed: the row has no numbers"),
)

#: What is in the folder of a run: (name, meaning).
FILES = (
    ("summary.parquet", "the summary; also `summary.csv` and `summary.md`"),
    ("records/*-CELL.parquet", "the records of a cell, with its row of the summary in the metadata"),
    (
        "manifest.yaml",
        "the command, versions, device and batches, hashes of data and checkpoints, every parameter of every "
        "cell, and whether the run is complete",
    ),
    ("suite.yaml", "the suite, as it was run (`run`, `study`)"),
    ("examples/CELL.safetensors", "up to eight images of a cell, before and after, for the report"),
    ("images/*-CELL.npz", "all perturbed images of a cell, or `.safetensors` (`save_images`)"),
    ("corruptions.csv", "the table of corruptions"),
    ("distances.csv", "the curves of minimal-norm attacks"),
    ("study.csv", "the numbers of a study; `study.md` is its table"),
    ("audits/CHECKPOINT.json", "what `audit` has found"),
    ("stability/CHECKPOINT.json", "what `stability` has measured"),
    ("figures/", "figures, each as `.svg` and `.png`"),
    ("versus.json", "the comparison of `versus`; also `versus.md` and `versus.tex`"),
    ("index.html", "the page of `report`, which also writes `summary.tex`"),
)

#: Minimal-norm attacks, one row per point of a curve: `distances.csv`.
DISTANCES = (
    Column("checkpoint", "str", "its name; with its noise and scoring where a run has several of these"),
    Column("perturbation", "str", "name of the attack"),
    Column("norm", "str", "linf or l2"),
    Column("images", "int64", "number of images"),
    Column("distance", "float64", "how far every image may be moved; 0: not at all"),
    Column("accuracy", "float64", "share of images that stand at this distance; constant up to the next row"),
    Column("accuracy_low", "float64", "95 % interval over images (Wilson), lower end"),
    Column("accuracy_high", "float64", "upper end"),
)


def table(rows: list[dict[str, object]] | pd.DataFrame, columns: tuple[Column, ...]) -> pd.DataFrame:
    """A frame with exactly these columns, in this order, with these types.

    Raises:
        BenchError: a column is missing, unknown, or not of its type.
    """
    frame = pd.DataFrame(rows)
    if len(frame.columns):
        later = [column.name for column in columns if column.later and column.name not in frame]
        frame = frame.assign(**dict.fromkeys(later, math.nan))
    names = [column.name for column in columns]
    missing, unknown = set(names) - set(frame.columns), set(frame.columns) - set(names)
    if missing or unknown:
        parts = [f"lacks {sorted(missing)}"] * bool(missing) + [f"has unknown {sorted(unknown)}"] * bool(
            unknown
        )
        raise BenchError(f"a table {' and '.join(parts)}; see docs/tables.md")
    frame = frame[names]
    empty = [column.name for column in columns if column.dtype == "str" and frame[column.name].hasnans]
    if empty:
        raise BenchError(f"a table has no text where there must be one, in {empty}; see docs/tables.md")
    wrong = {column.name: column.dtype for column in columns if frame.dtypes[column.name] != column.dtype}
    try:
        return frame.astype(wrong) if wrong else frame
    except (ValueError, TypeError) as error:
        raise BenchError(f"a table has a column of the wrong type ({error}); see docs/tables.md") from error


def empty_table(columns: tuple[Column, ...]) -> pd.DataFrame:
    """Make a frame with these columns and no rows."""
    return pd.DataFrame({column.name: pd.Series(dtype=column.dtype) for column in columns})


def documentation() -> str:
    """`docs/tables.md`: every file, table and column of a run. Written by `make tables`."""
    files = [f"| `{name}` | {meaning} |" for name, meaning in FILES]
    parts = [
        "# Tables\n\nMade from `storage/schema.py` by `make tables`; do not edit.\n",
        "Load them with `pandas.read_parquet`.\n",
        "## The folder of a run\n",
        "CELL is the hash in the column `cell`; what was not asked for is not there.\n",
        "\n".join(["| file | what it is |", "|---|---|", *files, ""]),
    ]
    for title, columns in (
        ("Summary: one row per cell", SUMMARY),
        ("Records: one row per image of a cell", RECORDS),
        ("Corruptions: one row per checkpoint, corruption and severity (`corruptions.csv`)", CORRUPTIONS),
        ("Distances: the curves of minimal-norm attacks (`distances.csv`)", DISTANCES),
    ):
        rows = [f"| `{column.name}` | {column.dtype} | {column.meaning} |" for column in columns]
        parts.append("\n".join([f"## {title}\n", "| column | type | meaning |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)
