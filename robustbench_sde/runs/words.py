"""Define the words of all tables: columns, intervals and perturbations, wherever they are printed."""

import html
import math
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from robustbench_sde.errors import counted

#: letters that are markup in Markdown; an underscore within a word is none
_MARKUP = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")
_MENTION = re.compile(r"@(?=\w)")
#: settings that tell lines of one checkpoint apart, with their text in a legend
_SETTINGS = {
    "sigma": "sigma {:g}",
    "solver": "{}",
    "solver_steps": "{} steps",
    "rule": "{}",
    "seed": "seed {}",
}


@dataclass(frozen=True)
class TableColumn:
    """Heading of a column, and what happens to the column in a narrow terminal."""

    heading: str
    #: whether it holds numbers, which are aligned right and never broken
    numeric: bool = field(default=True, kw_only=True)
    #: order of leaving it out in a narrow terminal, the highest first; 0: never
    spare: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class SummaryColumn(TableColumn):
    """Column of the summary for people: on the terminal, in Markdown, LaTeX and on the page."""

    #: function from a row to the text of its cell
    text: Callable[[dict[Hashable, Any]], str]
    #: column of the summary by which it sorts
    key: str


def summary_columns(summary: pd.DataFrame, *, tries: int | None = None) -> list[SummaryColumn]:
    """Return the columns that this summary needs; a setting only if a checkpoint has several.

    Args:
        summary: rows of a run.
        tries: number of submissions of a column `survives_K`, if a classifier is random; None: no column.
    """
    named = [
        SummaryColumn("checkpoint", lambda row: str(row["checkpoint"]), "checkpoint", numeric=False),
        SummaryColumn("perturbation", perturbation_text, "perturbation", numeric=False),
    ]
    settings = [
        SummaryColumn("sigma", lambda row: f"{row['sigma']:g}", "sigma"),
        SummaryColumn("solver", lambda row: str(row["solver"]), "solver", numeric=False),
        SummaryColumn("solver steps", lambda row: str(row["solver_steps"]), "solver_steps"),
        SummaryColumn("score draws", lambda row: str(row["score_draws"]), "score_draws"),
        SummaryColumn("rule", lambda row: str(row["rule"]), "rule", numeric=False),
        SummaryColumn("seed", lambda row: str(row["seed"]), "seed"),
    ]
    plain = summary[summary["samples"] == 0]  # a row of random points has as many draws as points
    several = [column for column in settings if plain.groupby("checkpoint")[column.key].nunique().max() > 1]
    numbers = [
        SummaryColumn("accuracy (95 %)", _interval_of("accuracy", "accuracy"), "accuracy"),
        SummaryColumn(
            "over noise", lambda row: span(row["noise_low"], row["noise_high"]), "noise_low", spare=4
        ),
        SummaryColumn(
            "single draw (95 %)",
            _interval_of("single_draw_accuracy", "single_draw"),
            "single_draw_accuracy",
            spare=1,
        ),
        SummaryColumn("undecided", _number("undecided", ".0%"), "undecided", spare=2),
        SummaryColumn("passes/image", _number("forward_passes", ".0f"), "forward_passes", spare=3),
    ]
    if tries is not None and (~summary["noise"].isin(["none", ""])).any():
        key = f"survives_{tries}"
        numbers.insert(3, SummaryColumn(f"survives {tries} (95 %)", _interval_of(key, key), key))
    if (summary["samples"] > 0).any():
        # of the others, all but the accuracies are left out before these
        numbers = [replace(column, spare=column.spare + 3 * (column.spare > 1)) for column in numbers]
        key = "random_accuracy"
        numbers.append(SummaryColumn("random point (95 %)", _interval_of(key, "random"), key))
        for percent, spare in ((90, 2), (95, 3), (99, 4)):
            key = f"reaches_{percent}"
            heading = f"reaches .{percent} (95 %)".replace(".90", ".9")
            numbers.append(SummaryColumn(heading, _interval_of(key, key), key, spare=spare))
    if summary["distance_median"].notna().any():
        numbers.append(SummaryColumn("distance (quartiles)", _distance, "distance_median"))
    if summary["target_images"].notna().any():
        numbers.append(
            SummaryColumn("in target (95 %)", _interval_of("target_success", "target"), "target_success")
        )
        numbers.append(SummaryColumn("left out", _left_out, "target_images", spare=1))
    if any((summary[name] > 0).any() for name in _GRADIENT_SIGNS):
        numbers.append(SummaryColumn("bad gradients", _gradients, "gradients_zero", spare=1))
    if summary["batch_dependence"].notna().any():
        numbers.append(
            SummaryColumn("batch-dependent", _number("batch_dependence", ".1e"), "batch_dependence")
        )
    return [*named, *several, *numbers]


def written_columns(summary: pd.DataFrame) -> list[SummaryColumn]:
    """Return the columns for files; they have a status column, since no line below the table says it."""
    status = SummaryColumn("status", lambda row: str(row["status"]), "status", numeric=False)
    return [*summary_columns(summary), *([status] if (summary["status"] != "ok").any() else [])]


def summary_title(summary: pd.DataFrame) -> str:
    """Say in one line what was measured, on how many images, by which rule and from which seed."""

    def all_of(name: str) -> str:
        return ", ".join(map(str, summary[name].unique()))

    plain = summary[summary["samples"] == 0]
    shown = summary if plain.empty else plain  # a row of random points has as many draws as points
    asked = shown[(shown["noise"] != "none") & (shown["perturbation"] == "clean")]  # no other has fewer
    fewest, most = asked["score_draws"].min(), shown["score_draws"].max()
    mean = shown["mean_score_draws"].max()
    if fewest < most and (shown["mean_score_draws"] == shown["score_draws"]).all():
        draws = f"{fewest} to {most} score draws"
    elif 1 < mean < most:
        draws = f"at most {most} score draws, {mean:.0f} on average"
    else:
        draws = counted(most, "score draw")
    images = counted(all_of("images"), "image")
    return f"{all_of('dataset')} · {images} · {draws} ({all_of('rule')}) · seed {all_of('seed')}"


def result_line(summary: pd.DataFrame) -> str:
    """Say in one line what a table holds, and its lowest accuracy."""
    if summary.empty:
        return "no rows"
    models, rows = counted(summary["checkpoint"].nunique(), "model"), counted(len(summary), "row")
    said = f"{models}, {rows}, {', '.join(summary['dataset'].unique())}, "
    said += counted(", ".join(map(str, summary["images"].unique())), "image")
    sound = summary[summary["status"] == "ok"].reset_index(drop=True)
    if len(sound) < len(summary):
        said += f", {len(summary) - len(sound)} must not be used"
    if sound.empty:
        return said
    row = sound.iloc[int(sound["accuracy"].to_numpy().argmin())].to_dict()
    lowest = interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"])
    return f"{said}, lowest accuracy {lowest} % ({row['checkpoint']}, {perturbation_text(row)})"


def _interval_of(estimate: str, ends: str) -> Callable[[dict[Hashable, Any]], str]:
    return lambda row: interval(row[estimate], row[f"{ends}_low"], row[f"{ends}_high"])


def _number(name: str, form: str) -> Callable[[dict[Hashable, Any]], str]:
    return lambda row: "" if math.isnan(row[name]) else format(row[name], form)


def perturbation_text(row: dict[Hashable, Any]) -> str:
    """Format a perturbation: ``pgd linf 0.03 (7.65/255)`` with grey levels, or ``pgd l2 0.5``.

    Attacks of foolbox, whose defaults are not ours, say their steps.
    """
    if not row["norm"]:
        level = "" if math.isnan(row["severity"]) else f" {row['severity']:g}"
        return f"{row['perturbation']}{level}"
    if row["perturbation"] == "control":
        return "control eps 0"
    steps = float(row.get("attack_steps", math.nan))
    told = row["perturbation"].startswith("foolbox:") and not math.isnan(steps)
    taken = f", {counted(int(steps), 'step')}" if told else ""
    if math.isnan(row["eps"]):
        return f"{row['perturbation']} {row['norm']} smallest{taken}"
    return f"{row['perturbation']} {budget_text(row['norm'], row['eps'])}{taken}"


def budget_text(norm: str, eps: float) -> str:
    """Format norm and budget: ``linf 0.03 (7.65/255)``, or ``l2 0.5``, which bounds no single pixel."""
    return f"{norm} {eps:.4g}{f' ({255 * eps:.4g}/255)' if norm == 'linf' else ''}"


def interval(estimate: float, low: float, high: float) -> str:
    """Format percent with its interval; empty if there is no number."""
    return "" if math.isnan(estimate) else f"{estimate:.1%}".rstrip("%") + f" {span(low, high)}"


def span(low: float, high: float) -> str:
    """Format an interval in percent as ``(80.5-90.1)``, or ``(-3.1 to 2.0)`` if it begins below 0."""
    return "" if math.isnan(low) else f"({100 * low:.1f}{' to ' if low < 0 else '-'}{100 * high:.1f})"


def _distance(row: dict[Hashable, Any]) -> str:
    if math.isnan(row["distance_median"]):
        return ""
    return f"{row['distance_median']:.3g} ({row['distance_q25']:.3g}-{row['distance_q75']:.3g})"


def name_lines(summary: pd.DataFrame, *, along: str = "") -> "pd.Series[str]":
    """Return the name of each row's line: the checkpoint, and the settings that differ between its rows.

    Settings are the noise, the solver, the rule and the seed, without the one `along` the axis. The number of
    draws is not a setting.
    """
    names = summary["checkpoint"].copy()
    for column, text in _SETTINGS.items():
        differs = summary.groupby("checkpoint")[column].transform("nunique") > 1
        if differs.any() and column != along:
            names[differs] += ", " + summary.loc[differs, column].map(text.format)
    return names


def most_draws(summary: pd.DataFrame) -> pd.DataFrame:
    """Keep the row with the most score draws among rows that differ in nothing else."""
    settings = ["perturbation", "norm", "eps", "severity"]
    groups = summary.groupby([name_lines(summary), *settings], dropna=False)["score_draws"]
    return summary[summary["score_draws"] == groups.transform("max")]


def _left_out(row: dict[Hashable, Any]) -> str:
    """Count the images of a targeted attack that are of the target class already."""
    return "" if math.isnan(row["target_images"]) else f"{row['images'] - row['target_images']:.0f}"


#: columns that count gradients an attack cannot follow, and their words
_GRADIENT_SIGNS = {
    "gradients_zero": "zero",
    "gradients_not_finite": "not finite",
    "gradients_saturated": "saturated",
    "gradients_misleading": "misleading",
}


def _gradients(row: dict[Hashable, Any]) -> str:
    """Say which shares of the images had gradients that cannot be followed: ``95% saturated``."""
    return ", ".join(f"{row[name]:.0%} {word}" for name, word in _GRADIENT_SIGNS.items() if row[name] > 0)


def markdown_text(text: str) -> str:
    """Write a text so that Markdown shows it as it is, without markup; GitHub calls nobody by @name."""
    text = _MARKUP.sub(r"\\\g<0>", html.escape(" ".join(text.split("\n")), quote=False))
    return _MENTION.sub("@&#8203;", text)


def markdown(frame: pd.DataFrame) -> str:
    """Write a frame as a Markdown table; floats have four digits, NaN is empty, and texts have no markup."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "" if pd.isna(value) else f"{value:.4g}"
        return markdown_text(str(value))

    header = [markdown_text(str(name)) for name in frame.columns]
    lines = [
        header,
        ["---"] * len(header),
        *([text(v) for v in row] for row in frame.itertuples(index=False)),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
