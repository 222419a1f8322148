"""Print an audit on the terminal: a line for every rule, the verdict last."""

import math

from rich import box
from rich.table import Table
from rich.text import Text

from robustbench_sde.errors import counted
from robustbench_sde.evaluation.audit.compare import FLOOR, images_for_floor, percent
from robustbench_sde.evaluation.audit.report import AuditReport, AuditVerdict
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.reporting.terminal import make_console, print_sentence

_STYLES = {
    AuditVerdict.PASS: "green",
    AuditVerdict.WARN: "yellow",
    AuditVerdict.INCONCLUSIVE: "magenta",
    AuditVerdict.FAIL: "bold red",
    AuditVerdict.SKIP: "dim",
}


def print_audit(report: AuditReport, *, path: str | None) -> None:
    """Print the rules as a table, the path of a report that is written, and the verdict in the last line."""
    images = counted(report.images, "image")
    table = Table(
        title=f"{report.checkpoint} · {report.dataset} · {images} · {report.setting} · seed {report.seed}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("rule", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what was found (95 %)", overflow="fold")
    for rule in report.rules:
        style = _STYLES[rule.verdict]
        words = Text(rule.message, style="dim" if rule.verdict == AuditVerdict.SKIP else "")
        table.add_row(Text(rule.name), Text(rule.verdict, style=style), words)
    console = make_console()
    console.print(table)
    if path is not None:
        console.print(f"report: {path}", style="dim", soft_wrap=True)
    print_sentence(console, verdict_line(report), _STYLES[report.verdict])


def verdict_line(report: AuditReport) -> str:
    """Return the last line: the verdict, the number that is judged, and what the audit could have seen.

    For example ``PASS digits-ode: 55.0 % (34.2-74.2) under pgd linf 0.03; a rival stronger by 18 points would
    have been seen``.
    """
    attack = report.setting.partition(",")[0] or "the attack"
    number = f"the number under {attack}"
    if report.accuracy is not None:
        number = f"{percent(Interval(*report.accuracy))} under {attack}"
    faults = [rule.name for rule in report.rules if rule.verdict == report.verdict]
    seen = "" if report.seen is None else f"a rival stronger by {math.ceil(100 * report.seen - 1e-6)} points"
    said = {
        AuditVerdict.PASS: f"; {seen} would have been seen" if seen else "; nothing speaks against it",
        AuditVerdict.WARN: f" may be used with the warnings beside it ({', '.join(faults)})"
        + (f"; {seen} would have been seen" if seen else ""),
        AuditVerdict.INCONCLUSIVE: f" is not judged: only {seen} would have been seen, and "
        f"{100 * FLOOR:.0f} points are asked for; take {images_for_floor(report.images)} images",
        AuditVerdict.FAIL: f" must not be used ({', '.join(faults)})",
    }[report.verdict]
    return f"{report.verdict.upper()} {report.checkpoint}: {number}{said}"
