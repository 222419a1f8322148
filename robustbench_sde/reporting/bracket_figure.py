"""Draw the bracket: certified accuracy and accuracy under attack, against the L2 radius."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustbench_sde.errors import counted
from robustbench_sde.evaluation.certificate_report import CertificateReport
from robustbench_sde.models.smoothed import name_inside
from robustbench_sde.reporting.figures import ACCURACY, Drawn, legend_text, line_style, save, styled
from robustbench_sde.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_PANELS = 4
_Floats = npt.NDArray[np.float64]


def bracket_figure(reports: Sequence[CertificateReport], folder: RunFolder) -> list[Drawn]:
    """Draw `figures/certified`, a panel for each smoothing and rule; nothing without certificates.

    Certified accuracy is exact at every radius. The accuracy under an attack is an upper bound at its budget
    and at every larger radius, up to the next budget. The bracket between them is shaded.
    """
    panels: dict[str, list[CertificateReport]] = {}
    for report in reports:
        if report.certificates:
            panels.setdefault(f"smoothing {report.smoothing:g}, {report.rule}", []).append(report)
    shown = dict(list(panels.items())[:_MOST_PANELS])
    if not shown:
        return []
    names = list(dict.fromkeys(name_inside(report.checkpoint) for report in reports))
    lines = max(len({report.checkpoint for report in own}) for own in shown.values())
    with styled(4.2 * len(shown), 3.0 + 0.3 * lines) as figure:
        axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        for place, (title, own) in enumerate(shown.items()):
            for report in own:
                name = name_inside(report.checkpoint)
                _draw(axes[place], report, name, line_style(names.index(name)))
            axes[place].set_title(title)
            axes[place].set_xlabel("L2 radius, images in [0, 1]")
            axes[place].set_ylim(0, 102)
            axes[place].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
        axes[0].set_ylabel(ACCURACY)
        save(figure, folder, "certified")
    left = len(panels) - len(shown)
    caption = (
        "Lines: certified accuracy. Dashed, with markers: accuracy under attack. Shaded: between what is "
    )
    caption += "proven and what is attacked." + f" {counted(left, 'panel')} left out." * bool(left)
    return [Drawn("certified", caption)]


def _draw(axes: "Axes", report: CertificateReport, name: str, style: Mapping[str, Any]) -> None:
    radii = np.sort([one.radius if one.correct else -1.0 for one in report.certificates])
    longest = max(bracket.radius for bracket in report.brackets) or float(radii.max(initial=0.1))
    ends = radii[(radii > 0) & (radii <= longest)]
    grid = np.unique([0.0, *np.nextafter(ends, 0), *ends, longest])  # both sides of every step
    colour = style["color"]
    axes.plot(grid, _certified(radii, grid), color=colour, label=legend_text(f"{name}, certified"))
    above = [(one.radius, 100 * one.attacked[0]) for one in report.brackets if one.attacked is not None]
    if len(above) < 2:
        return
    places, values = map(np.array, zip(*above, strict=True))
    attacked = {"color": colour, "marker": style["marker"], "linestyle": "--", "drawstyle": "steps-post"}
    axes.plot(places, values, **attacked, label=legend_text(f"{name}, {report.attack}"))
    inside = np.unique([*grid, *places, *np.nextafter(places[1:], 0)])
    inside = inside[inside <= places[-1]]
    low, high = _certified(radii, inside), values[np.searchsorted(places, inside, side="right") - 1]
    axes.fill_between(inside, low, high, where=list(high >= low), color=colour, alpha=0.15, linewidth=0)


def _certified(radii: _Floats, at: _Floats) -> _Floats:
    """Return the share of images, in percent, whose radius is beyond each place."""
    shares: _Floats = 100 * (1 - np.searchsorted(radii, at, side="right") / len(radii))
    return shares
