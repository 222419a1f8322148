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
    """A column of a table: its name, its pandas dtype and its meaning."""

    name: str
    dtype: str
    meaning: str
    #: whether earlier versions did not write it: `old` in their files
    later: bool = False
    #: value in files of versions that did not write it
    old: float = math.nan


#: Numbers of submissions k of the columns `survives_k`.
TRIES = (2, 10, 100)


def _survival_columns() -> list[Column]:
    """Make the columns of accuracy against somebody who may submit an image again."""
    columns = []
    for tries in TRIES:
        meaning = f"share of images that are right in all of {tries} submissions; NaN: too few draws"
        columns += [
            Column(f"survives_{tries}", "float64", meaning, True),
            Column(
                f"survives_{tries}_low",
                "float64",
                f"95 % interval of survives_{tries} (clustered by image), lower end",
                True,
            ),
            Column(
                f"survives_{tries}_high", "float64", f"95 % interval of survives_{tries}, upper end", True
            ),
        ]
    return columns


#: Probabilities, in percent, of the columns `reaches_P`.
REACHED = (90, 95, 99)


def _reach_columns() -> list[Column]:
    """Make the columns of the share of images whose probability at random points is high enough."""
    columns = []
    for percent in REACHED:
        name = f"reaches_{percent}"
        meaning = f"share of images with at least {percent} % of their points right; NaN without `samples`"
        columns += [
            Column(name, "float64", meaning, True),
            Column(
                f"{name}_low",
                "float64",
                f"95 % interval of the share with probability {percent} %, over images and points, lower end",
                True,
            ),
            Column(f"{name}_high", "float64", "95 % interval of that share, upper end", True),
        ]
    return columns


#: One row per image of a cell.
RECORDS = (
    Column("image_id", "int64", "index of the image in its split; the key of its noise"),
    Column("label", "int64", "true class"),
    Column("prediction", "int64", "class by the decision rule over the score draws"),
    Column("correct", "bool", "prediction == label"),
    Column("share_correct", "float64", "share of the score draws that, alone, give the label"),
    Column(
        "share_low",
        "float64",
        "95 % interval of share_correct over draws (Clopper & Pearson 1934, a trial is a pair), lower end",
        True,
    ),
    Column("share_high", "float64", "upper end of that interval; approximate with `auto` score draws", True),
    Column(
        "tries",
        "float64",
        "number of answers: blocks of `try_draws` score draws; blocks of several begin at even draws",
        True,
    ),
    Column("tries_right", "float64", "number of answers that are right by the decision rule", True),
    Column(
        "tries_split",
        "float64",
        "number of pairs of answers of which exactly one is right; NaN: answers are independent",
        True,
    ),
    Column("label_probability", "float64", "mean over draws of the probability of the label"),
    Column(
        "margin",
        "float64",
        "statistic of the rule for the label less the largest of another class; above 0 if right",
    ),
    Column(
        "margin_error",
        "float64",
        "standard error of `margin` over pairs of draws; NaN with fewer than 4 draws",
    ),
    Column("score_draws", "int64", "number of draws that decided the class of the image"),
    Column("confidence", "float64", "largest mean probability"),
    Column("brier", "float64", "squared distance of the mean probabilities to the one-hot label"),
    Column("linf", "float64", "largest absolute change of a value, images in [0, 1]"),
    Column("l2", "float64", "Euclidean length of the change, images in [0, 1]"),
    Column(
        "forward_passes", "int64", "number of forward passes, each with one draw, that the perturbation used"
    ),
    Column(
        "backward_passes",
        "int64",
        "number of backward passes, each with one draw, that the perturbation used",
    ),
    Column("eot_draws", "int64", "number of draws that the attack averaged in each evaluation; 0: no attack"),
    Column(
        "gradients_zero",
        "float64",
        "share of the attack's gradients that are 0 everywhere; NaN: no gradients",
        True,
    ),
    Column(
        "gradients_not_finite",
        "float64",
        "share of the gradients with an entry that is NaN or infinite",
        True,
    ),
    Column(
        "gradients_saturated",
        "float64",
        "share of the gradients at which the cross-entropy has saturated",
        True,
    ),
    Column(
        "gradients_misleading",
        "float64",
        "share of the gradients compared with the module along which the loss falls; NaN: none was compared",
        True,
    ),
    Column("target", "float64", "target class of a targeted attack; NaN: no target", True),
    Column(
        "chosen",
        "str",
        "name of the attack that made the image, for an ensemble its strongest member; empty if clean",
    ),
)

#: One row per cell.
SUMMARY = (
    Column("checkpoint", "str", "name of the checkpoint file, without its ending"),
    Column("dataset", "str", "name of the data set"),
    Column("noise", "str", "noise terms joined by +, or none; for other modules none, keyed or opaque"),
    Column("sigma", "float64", "noise scale at test time"),
    Column("solver", "str", "solver at test time; empty for networks without a solver of this package"),
    Column("solver_steps", "int64", "number of solver steps N at test time; 0 without a solver"),
    Column("perturbation", "str", "clean, control, or the name of an attack or corruption"),
    Column("norm", "str", "linf, l2, or empty"),
    Column("eps", "float64", "budget, for images in [0, 1]; NaN without a budget"),
    Column("severity", "float64", "severity of a corruption, 1 to 5; NaN without a severity"),
    Column("attack_steps", "float64", "number of steps or queries of an attack; NaN without steps", True),
    Column("images", "int64", "number of images"),
    Column(
        "score_draws", "int64", "largest number of draws that decide a class; 1 for a deterministic model"
    ),
    Column(
        "mean_score_draws",
        "float64",
        "mean over images of the number of draws that decided; fewer with `auto`",
    ),
    Column("rule", "str", "mean-prob, vote or single"),
    Column("seed", "int64", "seed of the evaluation"),
    Column("accuracy", "float64", "share of images whose prediction by the rule is right"),
    Column("accuracy_low", "float64", "95 % interval over images (Wilson), lower end"),
    Column("accuracy_high", "float64", "95 % interval over images (Wilson), upper end"),
    Column(
        "noise_low",
        "float64",
        "95 % interval of the accuracy over fresh score draws on these images, lower end",
    ),
    Column("noise_high", "float64", "95 % interval over fresh score draws, upper end"),
    Column("single_draw_accuracy", "float64", "mean over images of `share_correct`"),
    Column(
        "single_draw_low", "float64", "95 % interval of single_draw_accuracy (clustered by image), lower end"
    ),
    Column("single_draw_high", "float64", "95 % interval of single_draw_accuracy, upper end"),
    Column(
        "try_draws", "int64", "number of draws, averaged by the rule, that answer one submission", True, 1
    ),
    *_survival_columns(),
    Column(
        "samples", "int64", "number of random points of each image that were scored; 0: one point", True, 0
    ),
    Column(
        "random_accuracy",
        "float64",
        "mean over images of the probability that a random point is right; NaN without `samples`",
        True,
    ),
    Column(
        "random_low", "float64", "95 % interval of random_accuracy over images and points, lower end", True
    ),
    Column("random_high", "float64", "95 % interval of random_accuracy, upper end", True),
    *_reach_columns(),
    Column("undecided", "float64", "share of images with share_correct strictly between .05 and .95"),
    Column("ece", "float64", "expected calibration error of `confidence`: 15 equal bins (Guo et al. 2017)"),
    Column("brier", "float64", "mean over images of `brier`"),
    Column(
        "distance_q25", "float64", "lower quartile of the distance of a minimal-norm attack; NaN for others"
    ),
    Column(
        "distance_median", "float64", "median of the distance; an image that is not fooled counts as infinity"
    ),
    Column("distance_q75", "float64", "upper quartile of the distance"),
    Column("forward_passes", "float64", "mean number of forward passes per image, each with one draw"),
    Column("backward_passes", "float64", "mean number of backward passes per image, each with one draw"),
    Column(
        "eot_draws",
        "float64",
        "mean over images of the number of draws that the attack averaged; 0: no attack",
    ),
    Column(
        "gradients_zero",
        "float64",
        "share of images with a gradient of 0 everywhere; NaN: no gradients",
        True,
    ),
    Column("gradients_not_finite", "float64", "share of images with a gradient that is not finite", True),
    Column("gradients_saturated", "float64", "share of images with a saturated cross-entropy", True),
    Column(
        "gradients_misleading",
        "float64",
        "share of images with a gradient along which the loss falls; NaN: not compared",
        True,
    ),
    Column(
        "target_images",
        "float64",
        "number of images whose class is not the target of a targeted attack; NaN for other rows",
        True,
    ),
    Column("target_success", "float64", "share of `target_images` whose prediction is the target", True),
    Column("target_low", "float64", "95 % interval of target_success over images (Wilson), lower end", True),
    Column("target_high", "float64", "95 % interval of target_success, upper end", True),
    Column(
        "batch_dependence",
        "float64",
        "change that other images of a pass would make to logits (or gradients), relative to the largest: "
        "each image had a pass of its own; NaN: none",
        True,
    ),
    Column("seconds", "float64", "wall time of the cell in seconds, for perturbing and scoring"),
    Column(
        "status",
        "str",
        "ok; or `invalid: reason`, `failed: reason` or `suspect: reason`, and the row must not be used",
    ),
    Column("fingerprint", "str", "sha256 over pixels and labels of the whole split"),
    Column("cell", "str", "hash of everything that determines the numbers of the row"),
)

#: Signs that a gradient cannot be followed; the columns of `Perturbed.gradients` and of tables.
GRADIENT_SIGNS = (
    "gradients_zero",
    "gradients_not_finite",
    "gradients_saturated",
    "gradients_misleading",
)
#: columns of the summary that targeted attacks have
TARGETED = ("target_images", "target_success", "target_low", "target_high")

#: One row per checkpoint, corruption and severity, and their means: `corruptions.csv`.
CORRUPTIONS = (
    Column(
        "checkpoint", "str", "name of the checkpoint, with noise and scoring if the run has several of them"
    ),
    Column(
        "corruption",
        "str",
        "name; `clean`; or `mean` over corruptions with severities (over all if none has any)",
    ),
    Column("severity", "float64", "severity 1 to 5; NaN for a mean over severities and without severities"),
    Column("images", "int64", "number of images"),
    Column("cells", "int64", "number of cells in the row: corruptions times severities"),
    Column("accuracy", "float64", "mean over cells and images of `correct`; the error is 1 - accuracy"),
    Column(
        "accuracy_low", "float64", "95 % interval, clustered by image over all cells of the row; lower end"
    ),
    Column("accuracy_high", "float64", "95 % interval of accuracy, upper end"),
    Column("relative_error", "float64", "error of the row less the error on clean images"),
    Column("relative_low", "float64", "95 % interval, with corrupted and clean images paired; lower end"),
    Column("relative_high", "float64", "95 % interval of relative_error, upper end"),
    Column(
        "ce", "float64", "error divided by that of the reference, summed over severities; mCE in rows `mean`"
    ),
    Column(
        "ce_low",
        "float64",
        "95 % interval, paired with the images of the reference (delta method); lower end",
    ),
    Column("ce_high", "float64", "95 % interval of ce, upper end"),
    Column("single_draw_accuracy", "float64", "mean over cells and images of `share_correct`"),
    Column("single_draw_low", "float64", "95 % interval, clustered by image; lower end"),
    Column("single_draw_high", "float64", "95 % interval of single_draw_accuracy, upper end"),
    Column("undecided", "float64", "mean over cells of `undecided` of the summary"),
    Column("ece", "float64", "mean over cells of `ece` of the summary"),
    Column("brier", "float64", "mean over cells of `brier` of the summary"),
    Column("status", "str", "ok; or the reason why a cell is invalid or failed, and the row has no numbers"),
)

#: One row per image of a smoothed classifier whose images were certified.
CERTIFICATES = (
    Column("image_id", "int64", "index of the image in its split; the key of its noise"),
    Column("label", "int64", "true class"),
    Column("prediction", "int64", "class that was picked on draws of the `select` stream"),
    Column("abstained", "bool", "whether the lower bound is 1/2 or less, so that nothing is proven"),
    Column("p_low", "float64", "lower bound of the prediction's share of votes, or mean probability"),
    Column("radius", "float64", "L2 radius within which the prediction is proven; 0 if abstained"),
    Column("correct", "bool", "prediction == label, and not abstained"),
    Column("draws", "int64", "draws of the `certify` stream that were used"),
)

#: One row per smoothed classifier, decision rule and radius: `certificates.parquet`.
CERTIFIED = (
    Column("checkpoint", "str", "name of the smoothed classifier, with its smoothing"),
    Column("dataset", "str", "name of the data set"),
    Column("noise", "str", "noise of the classifier inside; keyed if that has none"),
    Column("sigma", "float64", "noise scale of the classifier inside"),
    Column("smoothing", "float64", "deviation of the noise on the image, for images in [0, 1]"),
    Column("rule", "str", "decision that is proven: vote or mean-prob"),
    Column("radius", "float64", "L2 radius, for images in [0, 1]"),
    Column("images", "int64", "number of images"),
    Column("certified_accuracy", "float64", "share of images that are right and certified beyond the radius"),
    Column("certified_low", "float64", "95 % interval over images (Wilson), lower end"),
    Column("certified_high", "float64", "upper end"),
    Column("attack", "str", "L2 attack with this budget that leaves the lowest accuracy; empty: none"),
    Column("attacked_accuracy", "float64", "accuracy under it; clean accuracy at radius 0; NaN: none"),
    Column("attacked_low", "float64", "95 % interval over images (Wilson), lower end"),
    Column("attacked_high", "float64", "upper end"),
    Column("contradictions", "int64", "certificates that the attack contradicts"),
    Column("average_radius", "float64", "mean over images of the radius, 0 where wrong; same in all rows"),
    Column("abstained", "float64", "share of images about which nothing is proven"),
    Column("mean_draws", "float64", "mean over images of the draws used"),
    Column("draws", "int64", "largest number of draws of an image"),
    Column("select_draws", "int64", "draws that pick the class"),
    Column("alpha", "float64", "error probability of each certificate"),
    Column("early", "bool", "whether images stop when further draws would change no answer"),
    Column("seed", "int64", "seed of the evaluation"),
    Column("seconds", "float64", "time of certifying all images, summed over machines"),
    Column("status", "str", "ok, or `invalid: reason`, `failed: reason`: the row must not be used"),
    Column("fingerprint", "str", "sha256 over pixels and labels of the whole split"),
    Column("certificate", "str", "hash of all that decides the certificates"),
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
    ("planned.json", "the manifest that the finished run will have, written before its first cell"),
    ("suite.yaml", "the suite of the run (`run`, `study`)"),
    ("examples/CELL.safetensors", "up to eight images of a cell, clean and perturbed, for the report"),
    ("images/*-CELL.npz", "all perturbed images of a cell; also as `.safetensors` (`save_images`)"),
    ("corruptions.csv", "the table of corruptions"),
    ("trainings.csv", "loss, accuracy, learning rate and sigma by epoch, of checkpoints that hold them"),
    ("distances.csv", "the curves of minimal-norm attacks"),
    ("certificates.parquet", "certified accuracy by radius; also `certificates.csv`"),
    ("certificates/*-HASH.parquet", "the certificate of each image of a smoothed classifier"),
    ("certificates/parts/HASH.parquet", "certificates of a few images, while an interrupted run waits"),
    ("study.csv", "the numbers of a study; `study.md` is its table"),
    ("audits/CHECKPOINT.json", "the report of `audit`"),
    ("stability/CHECKPOINT.json", "the report of `stability`"),
    ("figures/", "the figures, each as `.svg` and `.png`"),
    ("versus.json", "the comparison of `versus`; also `versus.md` and `versus.tex`"),
    ("index.html", "the HTML page of `report`, which also writes `glance.tex` and `summary.tex`"),
)

#: Minimal-norm attacks, one row per point of a curve: `distances.csv`.
DISTANCES = (
    Column(
        "checkpoint", "str", "name of the checkpoint, with noise and scoring if the run has several of them"
    ),
    Column("perturbation", "str", "name of the attack"),
    Column("norm", "str", "linf or l2"),
    Column("images", "int64", "number of images"),
    Column(
        "distance", "float64", "largest allowed distance of an image from the clean image; 0: clean images"
    ),
    Column(
        "accuracy", "float64", "share of images that are right at this distance; constant up to the next row"
    ),
    Column("accuracy_low", "float64", "95 % interval over images (Wilson), lower end"),
    Column("accuracy_high", "float64", "95 % interval over images (Wilson), upper end"),
)


def table(rows: list[dict[str, object]] | pd.DataFrame, columns: tuple[Column, ...]) -> pd.DataFrame:
    """Return a frame with exactly these columns, in this order, with these types.

    Raises:
        BenchError: a column is missing, unknown, or not of its type.
    """
    frame = pd.DataFrame(rows)
    if len(frame.columns):
        later = {column.name: column.old for column in columns if column.later and column.name not in frame}
        frame = frame.assign(**later)
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
        raise BenchError(f"a table lacks text in {empty}; see docs/tables.md")
    found = dict(zip(frame.columns, frame.dtypes, strict=True))  # pandas makes them anew each time
    wrong = {column.name: column.dtype for column in columns if found[column.name] != column.dtype}
    try:
        return frame.astype(wrong) if wrong else frame
    except (ValueError, TypeError) as error:
        raise BenchError(f"a table has a column of the wrong type ({error}); see docs/tables.md") from error


def empty_table(columns: tuple[Column, ...]) -> pd.DataFrame:
    """Make a frame with these columns and no rows."""
    return pd.DataFrame({column.name: pd.Series(dtype=column.dtype) for column in columns})


def documentation() -> str:
    """Write the page docs/tables.md about every file, table and column of a run; `make tables` calls this."""
    files = [f"| `{name}` | {meaning} |" for name, meaning in FILES]
    parts = [
        "# Tables\n\nMade from `storage/schema.py` by `make tables`; do not edit.\n",
        "Load the Parquet files with `pandas.read_parquet`.\n",
        "## The folder of a run\n",
        "CELL is the hash in the column `cell`. A file is written only if its content was requested.\n",
        "\n".join(["| file | what it is |", "|---|---|", *files, ""]),
    ]
    for title, columns in (
        ("Summary: one row per cell", SUMMARY),
        ("Records: one row per image of a cell", RECORDS),
        ("Corruptions: one row per checkpoint, corruption and severity (`corruptions.csv`)", CORRUPTIONS),
        ("Certified accuracy: one row per classifier, rule and radius (`certificates.parquet`)", CERTIFIED),
        ("Certificates: one row per image (`certificates/*-HASH.parquet`)", CERTIFICATES),
        ("Distances: the curves of minimal-norm attacks (`distances.csv`)", DISTANCES),
    ):
        rows = [f"| `{column.name}` | {column.dtype} | {column.meaning} |" for column in columns]
        parts.append("\n".join([f"## {title}\n", "| column | type | meaning |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)
