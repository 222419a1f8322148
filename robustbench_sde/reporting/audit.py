"""Print an audit on the terminal: a line for every rule, the verdict last."""

from rich import box
from rich.table import Table
from rich.text import Text

from robustbench_sde.errors import counted
from robustbench_sde.evaluation.audit.report import AuditReport, AuditVerdict
from robustbench_sde.reporting.terminal import make_console

_STYLES = {
    AuditVerdict.PASS: "green",
    AuditVerdict.WARN: "yellow",
    AuditVerdict.FAIL: "bold red",
    AuditVerdict.SKIP: "dim",
}

_SENTENCES = {
    AuditVerdict.PASS: "nothing speaks against the number",
    AuditVerdict.WARN: "the number may be used, with these warnings beside it",
    AuditVerdict.FAIL: "the number must not be used",
}


def print_audit(report: AuditReport, *, path: str) -> None:
    """Print the rules as a table, the path of the report, and the verdict in the last line."""
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
    console.print(f"report: {path}", style="dim", soft_wrap=True)
    console.print(verdict_line(report), style=_STYLES[report.verdict], soft_wrap=True)


def verdict_line(report: AuditReport) -> str:
    """Return the last line, like ``FAIL digits-ode: the number must not be used (black-box)``."""
    named = [rule.name for rule in report.rules if rule.verdict in (AuditVerdict.WARN, AuditVerdict.FAIL)]
    reasons = f" ({', '.join(named)})" if named else ""
    return f"{report.verdict.upper()} {report.checkpoint}: {_SENTENCES[report.verdict]}{reasons}"
