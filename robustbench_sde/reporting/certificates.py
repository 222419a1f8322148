"""Show certificates: a table of certified and attacked accuracy by radius, and a figure of the bracket."""

from collections.abc import Sequence

import numpy as np
from rich.text import Text

from robustbench_sde.errors import counted
from robustbench_sde.evaluation.certificate_report import CertificateReport
from robustbench_sde.reporting.figures import ACCURACY, COLOURS, Drawn, save, styled
from robustbench_sde.reporting.table import CellText, fit_to_width
from robustbench_sde.reporting.terminal import make_console
from robustbench_sde.runs.words import TableColumn
from robustbench_sde.storage.run_folder import RunFolder


def print_certificates(reports: Sequence[CertificateReport], *, folder: str, reused: int = 0) -> None:
    """Print one line for each radius of each checkpoint, what was spent, and every contradiction."""
    console = make_console()
    first = reports[0]
    title = (
        f"{first.dataset} · {counted(first.images, 'image')} · {first.rule} · at most {first.draws} draws "
        f"· alpha {first.alpha:g} · seed {first.seed}"
    )
    columns = [
        TableColumn("checkpoint", numeric=False),
        TableColumn("L2 radius"),
        TableColumn("certified (95 %)"),
        *([TableColumn("attacked (95 %)"), TableColumn("gap")] if first.attack else []),
        TableColumn("mean radius", spare=2),
        TableColumn("abstained", spare=3),
        TableColumn("draws/image", spare=1),
    ]
    blocks = []
    for report in reports:
        lines: list[list[CellText]] = []
        for bracket in report.brackets:
            style = "red" if bracket.contradictions else ""
            texts = [report.checkpoint if not lines else "", f"{bracket.radius:g}", _share(bracket.certified)]
            if bracket.attacked is not None:
                gap = 100 * (bracket.attacked[0] - bracket.certified[0])
                texts += [_share(bracket.attacked), f"{gap:.1f}"]
            texts += (
                ["", "", ""]
                if lines
                else [
                    f"{report.average_radius:.3f}",
                    f"{100 * report.abstained:.1f} %",
                    f"{report.mean_draws:.0f}",
                ]
            )
            lines.append([Text(text, style) for text in texts])
        blocks.append(lines)
    console.print(fit_to_width(console, title, columns, blocks))
    if reused:
        console.print(f"{reused} of {counted(len(reports), 'report')} stored already", style="dim")
    for report in reports:
        if not report.ok:
            console.print(f"{report.checkpoint}: {report.status}", style="bold red")
    console.print(f"reports and figure: {folder}", style="dim", soft_wrap=True)


def certificate_figure(reports: Sequence[CertificateReport], folder: RunFolder) -> Drawn:
    """Draw certified accuracy against the radius, attacked accuracy above it, the bracket shaded."""
    with styled() as figure:
        axes = figure.subplots()
        for report, colour in zip(reports, COLOURS * len(reports), strict=False):
            radii = np.array([one.radius if one.correct else -1.0 for one in report.certificates])
            longest = max(bracket.radius for bracket in report.brackets)
            grid = np.linspace(0, longest, 201)
            certified = np.array([100 * float((radii > r).mean()) for r in grid])
            axes.plot(grid, certified, color=colour, label=f"{report.checkpoint}, certified")
            above = [(b.radius, 100 * b.attacked[0]) for b in report.brackets if b.attacked is not None]
            if above:
                places, values = zip(*above, strict=True)
                axes.plot(places, values, "o--", color=colour, label=f"{report.checkpoint}, {report.attack}")
                upper = np.interp(grid, places, values)
                axes.fill_between(grid, certified, upper, color=colour, alpha=0.15)
        axes.set_xlabel("L2 radius")
        axes.set_ylabel(ACCURACY)
        axes.set_ylim(0, 102)
        axes.legend()
        save(figure, folder, "certified")
    return Drawn("certified", "Certified accuracy by L2 radius, and accuracy under attack above it.")


def _share(share: tuple[float, float, float]) -> str:
    estimate, low, high = (100 * value for value in share)
    return f"{estimate:.1f} ({low:.1f}-{high:.1f})"
