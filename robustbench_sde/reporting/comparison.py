"""Show a comparison to people and to CI: terminal, Markdown, GitHub annotations, JUnit XML."""

import html
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from rich.text import Text

from robustbench_sde.errors import BenchError, counted
from robustbench_sde.regression.verdict import CellVerdict, Change, Comparison, Verdict, points
from robustbench_sde.reporting.table import CellText, fit_to_width
from robustbench_sde.reporting.terminal import make_console, print_sentence
from robustbench_sde.runs.words import TableColumn, markdown_text
from robustbench_sde.runs.words import markdown as markdown_table
from robustbench_sde.storage.files import atomic_write, check_replaceable

_STYLES = {
    Verdict.OK: "green",
    Verdict.IMPROVED: "bold green",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.INCOMPARABLE: "bold magenta",
    Verdict.REGRESSION: "bold red",
}
#: colours of badges
_COLOURS = {
    Verdict.OK: "brightgreen",
    Verdict.IMPROVED: "brightgreen",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.INCOMPARABLE: "orange",
    Verdict.REGRESSION: "red",
}
#: first line of a comment on a pull request
COMMENT_MARK = "<!-- sde-bench gate -->"
_MEASURES = {"accuracy": "accuracy", "single_draw_accuracy": "single draw"}


def print_comparison(comparison: Comparison, *, show_all: bool = False) -> None:
    """Print the verdict, the counts, the changed cells with a sentence each, and notes.

    Args:
        comparison: what is printed.
        show_all: whether the table has the other cells as well; without it a line counts them.
    """
    console = make_console()
    overall = (comparison.verdict, _STYLES[comparison.verdict])
    console.print(Text.assemble("verdict: ", overall, f" · {comparison.counts}"))
    if comparison.fewer is not None:
        print_sentence(console, Text(str(comparison.fewer), _STYLES[Verdict.INCONCLUSIVE]))
    rest = _rest(comparison)
    measures = _measured(comparison)
    blocks = [
        [_styled(cell, measures) for cell in cells]
        for cells in (comparison.changed, rest if show_all else ())
        if len(cells)
    ]
    if blocks:
        console.print(fit_to_width(console, _title(comparison), _columns(comparison, measures), blocks))
    else:
        print_sentence(console, Text(_title(comparison), "dim"))
    said: dict[tuple[Verdict, str], list[str]] = {}
    for cell in comparison.changed:
        said.setdefault((cell.verdict, cell.reason), []).append(cell.name)
    for (verdict, reason), (first, *others) in said.items():
        more = f" and {len(others)} more" if others else ""
        line = Text.assemble((verdict, _STYLES[verdict]), f" {first}{more}: {reason}")
        print_sentence(console, line)
    for note in comparison.notes:
        print_sentence(console, Text(note, "dim"))
    if rest and not show_all:
        console.print(Text(f"{_rest_in_words(rest)}: --all shows them", "dim"))


def print_comparison_json(comparison: Comparison) -> None:
    """Print the whole comparison as one JSON object."""
    print(json.dumps(comparison.to_dict(), indent=2))


def comparison_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown for a pull request: changed cells first, the others folded.

    Markup in names is escaped.
    """
    parts = [f"### Robustness: {comparison.verdict}", f"**{comparison.counts}**"]
    if comparison.fewer is not None:
        parts.append(html.escape(str(comparison.fewer), quote=False))
    parts.append(markdown_text(_title(comparison)))
    if comparison.changed:
        parts.append(_markdown_cells(comparison, comparison.changed))
    parts += [markdown_text(note) for note in comparison.notes]
    if rest := _rest(comparison):
        summary = f"<summary>{_rest_in_words(rest)}</summary>"
        parts.append(f"<details>\n{summary}\n\n{_markdown_cells(comparison, rest)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def check_files(
    *, comment: Path | None, badge: Path | None, junit_xml: Path | None, force: bool = False
) -> None:
    """Check that the files which are asked for replace only earlier ones of their kind.

    Args:
        comment: file of `write_comment`.
        badge: file of `write_badge`.
        junit_xml: file of `write_junit`.
        force: whether anything may be replaced.

    Raises:
        BenchError: one of them is something else.
    """
    for path, mark, what in (
        (comment, COMMENT_MARK, "a comment of `compare`"),
        (badge, '"schemaVersion"', "a badge"),
        (junit_xml, "<testsuite", "a JUnit XML file"),
    ):
        if path is not None:
            check_replaceable(path, mark, what, force=force)


def write_comment(comparison: Comparison, path: Path) -> None:
    """Write the Markdown for a comment on a pull request; its first line lets a bot find it again.

    Raises:
        BenchError: it cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(f"{COMMENT_MARK}\n{comparison_markdown(comparison)}", encoding="utf-8")


def write_badge(comparison: Comparison, path: Path) -> None:
    """Write the JSON of a badge, which https://img.shields.io/endpoint?url=... draws.

    Raises:
        BenchError: it cannot be written.
    """
    badge = {
        "schemaVersion": 1,
        "label": "robustness",
        "message": comparison.counts,
        "color": _COLOURS[comparison.verdict],
        "isError": comparison.verdict is Verdict.REGRESSION,
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(badge, indent=2) + "\n", encoding="utf-8")


def write_step_summary(comparison: Comparison, path: Path) -> None:
    """Append the Markdown to the page of a GitHub job.

    Raises:
        BenchError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(comparison_markdown(comparison) + "\n")
    except OSError as error:
        raise BenchError(f"cannot write {path} ($GITHUB_STEP_SUMMARY): {error.strerror}") from error


def annotations(comparison: Comparison) -> Iterator[str]:
    """Return the lines that GitHub shows beside the job: errors, and a warning for each inconclusive cell.

    A run that lacks images has one warning for all its inconclusive cells.
    """
    if comparison.fewer is not None:
        yield f"::warning title=robustness inconclusive::{comparison.fewer}".replace("%", "%25")
    for cell in comparison.changed:
        if cell.decisive and cell.verdict is not Verdict.IMPROVED:
            kind = "warning" if cell.verdict is Verdict.INCONCLUSIVE else "error"
            message = f"{cell.name}: {cell.reason}".replace("%", "%25")  # no line breaks in either
            yield f"::{kind} title=robustness {cell.verdict}::{message}"


def write_junit(comparison: Comparison, path: Path) -> None:
    """Write one test case per cell: a regression is a failure, an incomparable cell an error.

    An inconclusive cell fails if the policy requires it, as in the exit code; otherwise it is skipped.

    Raises:
        BenchError: it cannot be written.
    """
    suite = ElementTree.Element("testsuite", name="sde-bench compare", tests=str(len(comparison.cells)))
    outcomes = []
    for cell in comparison.cells:
        case = ElementTree.SubElement(suite, "testcase", classname="robustness", name=cell.name, time="0")
        if cell.verdict in (Verdict.OK, Verdict.IMPROVED):
            ElementTree.SubElement(case, "system-out").text = f"{cell.verdict}: {cell.reason}"
            continue
        outcome = "error" if cell.verdict is Verdict.INCOMPARABLE else "failure"
        outcome = outcome if cell.decisive else "skipped"
        outcomes.append(outcome)
        ElementTree.SubElement(case, outcome, type=cell.verdict, message=cell.reason)
    for name, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(outcomes.count(outcome)))
    ElementTree.indent(suite)
    with atomic_write(path) as temporary:
        temporary.write_bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True) + b"\n")


def github_step_summary() -> Path | None:
    """Return the file that GitHub shows as the page of a job; None outside a GitHub job."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    return Path(path) if path else None


def _rest(comparison: Comparison) -> list[CellVerdict]:
    changed = {id(cell) for cell in comparison.changed}
    return [cell for cell in comparison.cells if id(cell) not in changed]


def _rest_in_words(rest: Sequence[CellVerdict]) -> str:
    """Count the cells that are folded, like ``48 cells ok`` or ``52 cells inconclusive``."""
    verdicts = dict.fromkeys(cell.verdict for cell in rest)
    return f"{counted(len(rest), 'cell')} {' or '.join(verdicts)}"


def _styled(cell: CellVerdict, measures: Sequence[str]) -> list[CellText]:
    *texts, verdict = _texts(cell, measures)
    return [*texts, Text(verdict, _STYLES[cell.verdict])]


def _markdown_cells(comparison: Comparison, cells: Sequence[CellVerdict]) -> str:
    measures = _measured(comparison)
    rows = [[*_texts(cell, measures), cell.reason] for cell in cells]
    headings = [column.heading for column in _columns(comparison, measures)]
    return markdown_table(pd.DataFrame(rows, columns=[*headings, "why"])).rstrip("\n")


def _title(comparison: Comparison) -> str:
    tests = sum(len(cell.changes) for cell in comparison.cells)
    over = f"alpha {comparison.alpha:g}, Holm over {counted(tests, 'test')}"
    return f"{comparison.baseline} -> {comparison.run} · {over}"


def _columns(comparison: Comparison, measures: Sequence[str]) -> list[TableColumn]:
    level = f"{100 * (1 - comparison.alpha):g} %"
    single = [
        TableColumn("single draw", spare=3),
        TableColumn(f"single draw lost ({level})", spare=4),
        TableColumn("single draw p", spare=5),
    ]
    others = [
        column
        for place, metric in enumerate(measure for measure in measures if measure not in _MEASURES)
        for column in (
            TableColumn(_metric_name(metric), spare=6 + 3 * place),
            TableColumn(f"{_metric_name(metric)} lost ({level})", spare=7 + 3 * place),
            TableColumn(f"{_metric_name(metric)} p", spare=8 + 3 * place),
        )
    ]
    return [
        TableColumn("cell", numeric=False),
        TableColumn("images", spare=1),
        TableColumn("accuracy"),
        TableColumn(f"lost ({level})"),
        TableColumn("p", spare=2),
        *(single if "single_draw_accuracy" in measures else []),
        *others,
        TableColumn("verdict", numeric=False),
    ]


def _measured(comparison: Comparison) -> list[str]:
    """Return the accuracies with columns: that of the decision, then the others that were tested."""
    tested = dict.fromkeys(change.measure for cell in comparison.cells for change in cell.changes)
    always = [name for name in _MEASURES if name == "accuracy" or name in tested]
    return [*always, *(name for name in tested if name not in _MEASURES)]


def _metric_name(metric: str) -> str:
    return metric.replace("_", " ")


def _texts(cell: CellVerdict, measures: Sequence[str]) -> list[str]:
    changes = {change.measure: change for change in cell.changes}
    numbers = [text for measure in measures for text in _change(changes.get(measure))]
    return [cell.name, str(cell.images or ""), *numbers, cell.verdict]


def _change(change: Change | None) -> tuple[str, str, str]:
    if change is None:
        return "", "", ""
    drop = change.drop
    return (
        f"{100 * change.baseline:.1f} -> {100 * change.run:.1f}",
        f"{points(drop.estimate)} ({points(drop.low)} to {points(drop.high)})",
        f"{change.p_holm:.2g}",
    )
