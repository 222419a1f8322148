"""Make the tables of the page, as plain values that the template writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from robustbench_sde.evaluation.certificate_report import CertificateReport
from robustbench_sde.evaluation.corruption_summary import CLEAN, MEAN
from robustbench_sde.reporting.certificates import (
    certificate_columns,
    certificate_rows,
    certificate_title,
)
from robustbench_sde.reporting.corruptions import graded_corruptions
from robustbench_sde.runs.words import budget_text, interval, most_draws, name_lines, written_columns
from robustbench_sde.storage.schema import TableRow

#: Largest number of budgets beside each other in the first table; the last table has all.
_MOST_BUDGETS = 5
#: strength of the colour in the darkest cell of a heat map, in percent
_DARKEST = 70


#: kinds of a column; only prose wraps
Kind = Literal["number", "name", "prose"]
Headings = list[tuple[str, Kind]]


@dataclass(frozen=True)
class PageCell:
    """Text of a cell, and how it is shown."""

    text: str
    #: interval, in a fainter colour
    aside: str = ""
    #: note on a line of its own
    note: str = ""
    #: value by which the column sorts; None: the text
    order: float | None = None
    #: `good`, `warn`, `bad` or empty
    tone: str = ""
    #: strength of the heat map's colour, in percent
    heat: float | None = None


@dataclass(frozen=True)
class Table:
    """Table of the page; the first cell of each row is the row's name."""

    #: id of the element on the page
    name: str
    caption: str
    #: pairs of text and kind, one a column
    headings: Headings
    rows: Sequence[Sequence[PageCell]]
    #: whether it is folded until the reader opens it
    folded: bool = False


def table_at_a_glance(
    summary: pd.DataFrame, corruptions: pd.DataFrame | None, verdicts: dict[str, str]
) -> Table:
    """Return noise, clean accuracy, lowest accuracy by budget, and mean over corruptions by checkpoint.

    Args:
        summary: rows of the run.
        corruptions: accuracies by corruption, by the schema `CORRUPTIONS`.
        verdicts: verdicts of the audits by checkpoint.
    """
    rows = most_draws(summary[summary["status"] == "ok"])
    names = name_lines(summary)[rows.index]
    budgets = [(str(norm), float(eps)) for norm, eps in _budgets(rows)]
    attacks = rows.loc[rows["eps"] > 0, "perturbation"].unique()
    means = {} if corruptions is None else _means(corruptions, set(rows["checkpoint"]))
    headings: Headings = [("checkpoint", "name"), ("noise", "name"), ("clean", "number")]
    headings += [(budget_text(norm, eps), "number") for norm, eps in budgets]
    if means:
        headings.append(("mean of corruptions", "number"))
    if verdicts:
        headings.append(("audit", "name"))
    lines = []
    for name, own in _grouped(rows.assign(line=names).to_dict("records"), "line").items():
        first = own[0]
        line = [PageCell(str(name)), PageCell(_noise(first["noise"], first["sigma"]))]
        line.append(_lowest([row for row in own if row["perturbation"] == CLEAN]))
        for norm, eps in budgets:
            at = [row for row in own if row["norm"] == norm and row["eps"] == eps]
            line.append(_lowest(at, named=len(attacks) > 1))
        if means:
            line.append(means.get(first["checkpoint"], PageCell("")))
        if verdicts:
            verdict = verdicts.get(first["checkpoint"], "")
            line.append(PageCell(verdict, tone=TONES.get(verdict, "")))
        lines.append(line)
    under = "the strongest attack at each budget" if len(attacks) > 1 else "".join(attacks)
    return Table(
        "glance",
        "Accuracy in percent with its 95 % interval over images" + (f", under {under}" if under else ""),
        headings,
        lines,
    )


#: tone of each verdict
TONES = {"pass": "good", "warn": "warn", "inconclusive": "warn", "fail": "bad"}


def cells(summary: pd.DataFrame) -> Table:
    """Return every cell with the columns of the terminal."""
    columns = written_columns(summary)
    rows = [
        [
            _split(column.text(row), row[column.key] if column.numeric else None, row["status"])
            for column in columns
        ]
        for row in summary.to_dict("records")
    ]
    headings: Headings = [(column.heading, "number" if column.numeric else "name") for column in columns]
    return Table("cells", "Every cell: one checkpoint under one perturbation setting", headings, rows)


def certificate_table(reports: Sequence[CertificateReport]) -> Table:
    """Return certified and attacked accuracy by classifier and radius; contradicted radii are marked."""
    columns = certificate_columns(reports)
    headings: Headings = [(column.heading, "number" if column.numeric else "name") for column in columns]
    rows = []
    for report, lines in zip(reports, certificate_rows(reports), strict=True):
        for bracket, texts in zip(report.brackets, lines, strict=True):
            fault = "" if report.ok and not bracket.contradictions else "bad"
            rows.append([PageCell(text, tone=fault if not place else "") for place, text in enumerate(texts)])
    return Table("certified", certificate_title(reports), headings, rows)


def costs(summary: pd.DataFrame) -> Table | None:
    """Return the passes and seconds that each attack used, mean over its budgets; None without attacks."""
    attacks = summary[(summary["norm"] != "") & (summary["perturbation"] != "control")]
    attacks = attacks[attacks["status"] == "ok"].assign(series=name_lines(summary))
    rows = []
    for (name, attack, norm), own in attacks.groupby(["series", "perturbation", "norm"], sort=False):
        forward, backward = own["forward_passes"].mean(), own["backward_passes"].mean()
        each, total = 1000 * (own["seconds"] / own["images"]).mean(), own["seconds"].sum()
        numbers = [(f"{len(own)}", len(own)), (f"{forward:.0f}", forward), (f"{backward:.0f}", backward)]
        numbers += [(f"{each:.3g}", each), (f"{total:.3g}", total)]
        rows.append(
            [
                PageCell(str(name)),
                PageCell(f"{attack} {norm}"),
                *(PageCell(text, order=n) for text, n in numbers),
            ]
        )
    headings: Headings = [
        ("checkpoint", "name"),
        ("attack", "name"),
        ("budgets", "number"),
        ("forward passes/image", "number"),
    ]
    headings += [("backward passes/image", "number"), ("ms/image", "number"), ("total seconds", "number")]
    caption = "Means over the budgets of each attack; a pass has one draw of one image; times include scoring"
    return Table("costs", caption, headings, rows) if rows else None


def heatmaps(corruptions: pd.DataFrame) -> list[Table]:
    """Return accuracy by corruption and checkpoint, then by severity, coloured by the errors."""
    sound = corruptions[(corruptions["status"] == "ok") & (corruptions["corruption"] != CLEAN)]
    whole = sound[sound["severity"].isna()]
    if whole.empty:
        return []
    title = "Accuracy (95 %), mean over severities; darker cells have more errors"
    overview = _heatmap("heat", title, whole.to_dict("records"), "checkpoint")
    graded = _grouped(graded_corruptions(corruptions).to_dict("records"), "checkpoint")
    details = [
        _heatmap(f"heat-{index}", f"{checkpoint} by severity", graded[checkpoint], "severity", folded=True)
        for index, checkpoint in enumerate(corruptions["checkpoint"].unique())
        if checkpoint in graded
    ]
    return [overview, *details]


def _heatmap(
    name: str, caption: str, rows: Sequence[TableRow], across: str, *, folded: bool = False
) -> Table:
    columns = list(dict.fromkeys(row[across] for row in rows))
    columns = sorted(columns) if across == "severity" else columns
    lines = []
    for corruption, own in _grouped(rows, "corruption").items():
        found = {row[across]: accuracy(row, heat=True) for row in own}
        lines.append([PageCell(str(corruption)), *(found.get(column, PageCell("")) for column in columns)])
    headings: Headings = [("corruption", "name")]
    headings += [(f"severity {each:g}" if across == "severity" else str(each), "number") for each in columns]
    return Table(name, caption, headings, lines, folded)


def _grouped(rows: Sequence[TableRow], name: str) -> dict[Any, list[TableRow]]:
    """Return rows by their value of a column, in their order; pandas takes a millisecond a group."""
    groups: dict[Any, list[TableRow]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    return groups


def accuracy(row: TableRow, *, heat: bool = False, note: str = "") -> PageCell:
    """Return the cell of an accuracy with its interval."""
    text, _, aside = interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"]).partition(" ")
    warmth = round(_DARKEST * (1 - row["accuracy"]), 1) if heat else None
    return PageCell(text, aside, note, order=row["accuracy"], heat=warmth)


def _split(text: str, order: float | None = None, status: str = "ok") -> PageCell:
    """Separate the brackets at the end of a text, so that they can be shown fainter."""
    start, bracket, end = text.partition(" (")
    return PageCell(start, bracket.strip() + end, order=order, tone="" if status == "ok" else "bad")


def _lowest(rows: Sequence[TableRow], *, named: bool = False) -> PageCell:
    if not rows:
        return PageCell("")
    row = min(rows, key=lambda row: float(row["accuracy"]))
    return accuracy(row, note=str(row["perturbation"]) if named else "")


def _budgets(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return norms and budgets in order; of too many, some evenly spaced with the first and the last."""
    attacks = rows[rows["eps"] > 0].sort_values(["norm", "eps"], ascending=[False, True])
    found = list(attacks[["norm", "eps"]].drop_duplicates().itertuples(index=False, name=None))
    if len(found) <= _MOST_BUDGETS:
        return found
    return [found[round(place * (len(found) - 1) / (_MOST_BUDGETS - 1))] for place in range(_MOST_BUDGETS)]


def _means(corruptions: pd.DataFrame, checkpoints: set[str]) -> dict[str, PageCell]:
    whole = corruptions[(corruptions["corruption"] == MEAN) & corruptions["severity"].isna()]
    whole = whole[whole["checkpoint"].isin(checkpoints)]
    return {row["checkpoint"]: accuracy(row) for row in whole.to_dict("records") if row["status"] == "ok"}


def _noise(kind: str, sigma: float) -> str:
    return str(kind) if kind == "none" else f"{kind} {sigma:g}"
