"""Say what is certified: a table of certified and attacked accuracy by radius, and sentences."""

import math
from collections.abc import Sequence

from rich.text import Text

from robustbench_sde.errors import counted
from robustbench_sde.evaluation.certificate_report import CertificateReport
from robustbench_sde.reporting.table import CellText, fit_to_width
from robustbench_sde.reporting.terminal import make_console, print_sentence
from robustbench_sde.runs.words import TableColumn, interval

#: largest number of classifiers about which there is a sentence on the page
_MOST_SENTENCES = 4


def certificate_title(reports: Sequence[CertificateReport]) -> str:
    """Say in one line what was certified, by which rule, with how many draws, and from which seed."""

    def all_of(name: str) -> str:
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in _each(name))

    def _each(name: str) -> list[object]:
        return list(dict.fromkeys(getattr(report, name) for report in reports))

    return (
        f"{all_of('dataset')} · {counted(reports[0].images, 'image')} · {all_of('rule')} · "
        f"at most {all_of('draws')} draws · alpha {all_of('alpha')} · seed {all_of('seed')}"
    )


def certificate_columns(reports: Sequence[CertificateReport]) -> list[TableColumn]:
    """Return the columns of the table; the attack's only if there is one, the rule only if there are two."""
    attacked = any(bracket.attacked for report in reports for bracket in report.brackets if bracket.radius)
    rules = len({report.rule for report in reports}) > 1
    return [
        TableColumn("checkpoint", numeric=False),
        *([TableColumn("rule", numeric=False)] if rules else []),
        TableColumn("L2 radius"),
        TableColumn("certified (95 %)"),
        *([TableColumn("attacked (95 %)"), TableColumn("gap")] if attacked else []),
        TableColumn("mean radius", spare=2),
        TableColumn("abstained", spare=3),
        TableColumn("draws/image", spare=1),
    ]


def certificate_rows(reports: Sequence[CertificateReport]) -> list[list[list[str]]]:
    """Return the texts of the table: for each report a list of rows, one for each radius."""
    headings = [column.heading for column in certificate_columns(reports)]
    blocks = []
    for report in reports:
        lines = []
        for bracket in report.brackets:
            attacked = bracket.attacked
            texts = {
                "checkpoint": report.checkpoint,
                "rule": report.rule,
                "L2 radius": f"{bracket.radius:g}",
                "certified (95 %)": interval(*bracket.certified),
                "attacked (95 %)": interval(*attacked) if attacked else "",
                "gap": f"{100 * (attacked[0] - bracket.certified[0]):.1f}" if attacked else "",
                "mean radius": _number(report.average_radius, "{:.3f}"),
                "abstained": _number(100 * report.abstained, "{:.1f} %"),
                "draws/image": _number(report.mean_draws, "{:.0f}"),
            }
            lines.append([texts[heading] for heading in headings])
        blocks.append(lines)
    return blocks


def certificate_sentences(reports: Sequence[CertificateReport]) -> list[tuple[str, str]]:
    """Return pairs of tone and sentence: what must not be used, then the bracket at the largest radius."""
    bad = [("bad", f"Certificates of {one.checkpoint}: {one.status}.") for one in reports if not one.ok]
    said = []
    for report in reports:
        proven = [bracket for bracket in report.brackets if bracket.radius and bracket.certified[0] > 0]
        if report.ok and proven:
            last = proven[-1]
            above = f", {interval(*last.attacked)} % withstand the attack" if last.attacked else ""
            within = f"within L2 {last.radius:g} by {report.rule}"
            said.append(f"{report.checkpoint}: {interval(*last.certified)} % certified {within}{above}.")
    return [*bad, *(("", sentence) for sentence in said[:_MOST_SENTENCES])]


def print_certificates(reports: Sequence[CertificateReport], *, folder: str | None, reused: int = 0) -> None:
    """Print one line for each radius of each checkpoint, what was spent, and every contradiction."""
    console = make_console()
    columns = certificate_columns(reports)
    once = [column.heading in ("checkpoint", "rule", *_OF_A_REPORT) for column in columns]
    blocks: list[list[list[CellText]]] = []
    for report, lines in zip(reports, certificate_rows(reports), strict=True):
        blocks.append([])
        for place, (bracket, texts) in enumerate(zip(report.brackets, lines, strict=True)):
            style = "" if report.ok and not bracket.contradictions else "red"
            shown = ["" if place and said else text for text, said in zip(texts, once, strict=True)]
            blocks[-1].append([Text(text, style) for text in shown])
    console.print(fit_to_width(console, certificate_title(reports), columns, blocks))
    if reused:
        console.print(f"{reused} of {counted(len(reports), 'report')} stored already", style="dim")
    for report in reports:
        if not report.ok:
            print_sentence(console, f"{report.checkpoint}: {report.status}", "bold red")
    if folder is not None:
        console.print(f"reports and figure: {folder}", style="dim", soft_wrap=True)


#: headings of columns that are about all radii
_OF_A_REPORT = ("mean radius", "abstained", "draws/image")


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)
