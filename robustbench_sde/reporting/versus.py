"""Show a comparison of networks with a reference: the answer in words, a table, documents and a figure."""

import json
import math
from collections.abc import Sequence
from itertools import groupby

import pandas as pd
from rich.text import Text

from robustbench_sde.errors import BenchError, counted
from robustbench_sde.regression.answer import Contrast, Versus, VersusRow
from robustbench_sde.regression.measured import read_run
from robustbench_sde.regression.smoothed import at_equal_smoothing
from robustbench_sde.regression.versus import LEFT_OUT, UNEQUAL
from robustbench_sde.regression.versus import versus as compare_networks
from robustbench_sde.reporting.figures import Drawn, legend_text, line_style, save, styled
from robustbench_sde.reporting.table import fit_to_width
from robustbench_sde.reporting.terminal import make_console, print_sentence
from robustbench_sde.reporting.tex import escape, fitted_table
from robustbench_sde.runs.words import TableColumn, markdown_text
from robustbench_sde.runs.words import markdown as markdown_table
from robustbench_sde.storage.run_folder import RunFolder

#: largest number of panels of the figure
_MOST_PANELS = 24
_PANELS_A_ROW = 3
#: largest number of networks in a panel of the figure
_MOST_SUBJECTS = 24
#: number of columns that hold names
_NAMES = 2


def print_versus(versus: Versus) -> None:
    """Print the answer, the table, warnings and remarks."""
    console = make_console()
    for sentence in versus.sentences():
        print_sentence(console, Text(sentence, "bold"))
    columns, rows = _columns(versus), _rows(versus)
    blocks: list[list[list[str]]] = []
    for row, texts in zip(versus.rows, rows, strict=True):
        if not blocks or blocks[-1][0][0] != row.setting:
            blocks.append([])
        blocks[-1].append(["" if blocks[-1] else texts[0], *texts[1:]] if blocks[-1] else texts)
    console.print(fit_to_width(console, versus_title(versus), columns, blocks))
    for warning in versus.warnings:
        print_sentence(console, Text(f"warning: {warning}", "yellow"))
    for note in _notes(versus):
        print_sentence(console, Text(note, "dim"))
    if versus.folder is not None:
        console.print(Text(f"tables: {versus.folder}", "dim"), soft_wrap=True)


def print_versus_json(versus: Versus) -> None:
    """Print the whole comparison as one JSON object."""
    print(json.dumps(versus.to_dict(), indent=2))


def write_versus(versus: Versus, folder: RunFolder) -> list[Drawn]:
    """Write `versus.json`, `versus.md`, `versus.tex` and the figure `figures/versus` into a folder."""
    folder.write_text("versus.json", json.dumps(versus.to_dict(), indent=2) + "\n")
    folder.write_text("versus.md", versus_markdown(versus))
    folder.write_text("versus.tex", versus_latex(versus))
    return versus_figure(versus, folder)


def read_versus(run: RunFolder) -> Versus | None:
    """Return the comparison that a run's page shows; None if there is nothing to compare.

    The reference and the kinds are those of `versus.json`, which `versus` has written. Without that file the
    reference is the only network without noise among networks with noise.
    """
    path = run.path / "versus.json"
    try:
        if path.exists():
            asked = Versus.from_json(path.read_bytes())
            told = [text for text in asked.warnings if UNEQUAL not in text and LEFT_OUT not in text]
            side = at_equal_smoothing(read_run(run.path), asked.reference)  # the cells may be others by now
            return compare_networks(side, asked.reference, asked.kinds, allow_unequal=True, warnings=told)
        summary = run.read_summary()
        sound = summary[summary["status"] == "ok"]
        plain = sound.loc[(sound["noise"] == "none") & (sound["solver"] != ""), "checkpoint"].unique()
        noisy = sound.loc[sound["noise"] != "none", "checkpoint"].unique()
        if len(plain) != 1 or not len(noisy) or plain[0] in noisy:
            return None
        return compare_networks(read_run(run.path), str(plain[0]))
    except BenchError:  # several settings of one network, or unequal effort: ask `versus` itself
        return None


def versus_texts(versus: Versus) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows of the table."""
    return [column.heading for column in _columns(versus)], _rows(versus)


def versus_title(versus: Versus) -> str:
    """Return the title of the table."""
    tests = sum(1 + (row.single_draw is not None) for row in versus.rows)
    images = counted(max(row.images for row in versus.rows), "image")
    return (
        f"{versus.dataset} · {images} · difference to {versus.reference} in points, images paired · "
        f"p by Holm over {counted(tests, 'test')}"
    )


def versus_markdown(versus: Versus) -> str:
    """Return the answer and the table as Markdown; markup in names is escaped."""
    headings = [column.heading for column in _columns(versus)]
    frame = pd.DataFrame(list(_rows(versus)), columns=headings)
    answer = "".join(f"- {markdown_text(sentence)}\n" for sentence in versus.sentences())
    remarks = "".join(f"\n{markdown_text(text)}\n" for text in (*versus.warnings, *_notes(versus)))
    return f"{answer}\n{markdown_text(versus_title(versus))}\n\n{markdown_table(frame)}{remarks}"


def versus_latex(versus: Versus) -> str:
    """Return floating tables for the LaTeX packages booktabs and graphicx, with a rule between settings."""
    columns = _columns(versus)
    groups = []
    for _, rows in groupby(_rows(versus), key=lambda texts: texts[0]):
        cells = [
            [*map(escape, texts[:_NAMES]), *(escape(text.replace("-", "–")) for text in texts[_NAMES:])]
            for texts in rows
        ]
        groups.append([cells[0], *(["", *others] for _, *others in cells[1:])])
    return fitted_table(
        escape(versus_title(versus)),
        "".join("r" if column.numeric else "l" for column in columns),
        [escape(column.heading) for column in columns],
        groups,
    )


def versus_figure(versus: Versus, folder: RunFolder) -> list[Drawn]:
    """Draw `figures/versus`: differences with 95 % intervals, one panel for each setting, three in a row."""
    settings = versus.settings[:_MOST_PANELS]
    everybody = list(dict.fromkeys(row.subject for row in versus.rows))
    subjects = everybody[:_MOST_SUBJECTS]
    columns = min(_PANELS_A_ROW, len(settings))
    lines = math.ceil(len(settings) / columns)
    width = 1.2 + 0.065 * max(map(len, subjects)) + 2.3 * columns
    with styled(width, 0.4 + (0.7 + 0.3 * len(subjects)) * lines) as figure:
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flatten()
        for axes in panels[len(settings) :]:
            axes.remove()
        for place, (axes, setting) in enumerate(zip(panels, settings, strict=False)):
            rows = [row for row in versus.rows if row.setting == setting and row.subject in subjects]
            axes.axvline(0, color="black", linewidth=0.8)
            for row in rows:
                found, height = row.accuracy.difference, subjects.index(row.subject)
                style = line_style(0) | {"linestyle": "none"}
                if not row.accuracy.differs:
                    style["markerfacecolor"] = "white"
                ends = [[100 * (found.estimate - found.low)], [100 * (found.high - found.estimate)]]
                axes.errorbar(100 * found.estimate, height, xerr=ends, capsize=2, **style)
            lowest = place + columns >= len(settings)
            axes.set(title=setting, xlabel="difference, points" if lowest else "")
            axes.tick_params(labelbottom=lowest)
            axes.set_yticks(range(len(subjects)), [legend_text(subject) for subject in subjects])
            axes.set_ylim(len(subjects) - 0.5, -0.5)
        save(figure, folder, "versus")
    caption = (
        f"Accuracy less that of {versus.reference}, in points, with 95 % intervals; filled: beyond chance "
        "(p by Holm at most 0.05)."
        + (
            f" The first {len(settings)} of {len(versus.settings)} settings."
            if len(versus.settings) > len(settings)
            else ""
        )
        + (
            f" The first {len(subjects)} of {len(everybody)} networks."
            if len(everybody) > len(subjects)
            else ""
        )
    )
    return [Drawn("versus", caption)]


def _columns(versus: Versus) -> list[TableColumn]:
    single = any(row.single_draw for row in versus.rows)
    several = any(max(row.trainings) > 1 for row in versus.rows)
    return [
        TableColumn("perturbation", numeric=False),
        TableColumn("network", numeric=False),
        *([TableColumn("trainings", spare=3)] if several else []),
        TableColumn("reference, %", spare=2),
        TableColumn("accuracy, %"),
        TableColumn("difference (95 %)"),
        TableColumn("p"),
        TableColumn("found from", spare=1),
        *([TableColumn("single draw (95 %)", spare=4), TableColumn("its p", spare=5)] if single else []),
    ]


def _rows(versus: Versus) -> list[list[str]]:
    single = any(row.single_draw for row in versus.rows)
    several = any(max(row.trainings) > 1 for row in versus.rows)
    return [_texts(row, single=single, several=several) for row in versus.rows]


def _texts(row: VersusRow, *, single: bool, several: bool) -> list[str]:
    own = row.accuracy
    texts = [row.setting, row.subject]
    if several:
        texts.append(f"{row.trainings[0]}, {row.trainings[1]}")
    texts += [f"{100 * own.reference:.1f}", f"{100 * own.subject:.1f}", *_difference(own)]
    texts.append("none" if own.detectable >= 1 else f"{100 * own.detectable:.1f}")
    if single:
        texts += _difference(row.single_draw) if row.single_draw else ["", ""]
    return texts


def _difference(contrast: Contrast) -> list[str]:
    found = contrast.difference
    low, high = (f"{100 * value:z.1f}" for value in (found.low, found.high))
    return [f"{100 * found.estimate:+z.1f} ({low} to {high})", f"{contrast.p_holm:.2g}"]


def _notes(versus: Versus) -> Sequence[str]:
    notes = ["found from: the smallest difference, in points, that 80 % of such tables would have found"]
    if versus.spread:
        spread = ", ".join(f"{setting} {100 * value:.1f}" for setting, value in versus.spread.items())
        notes.append(
            f"intervals hold other images and other trainings; trainings of a kind differ by (sd): {spread}"
        )
    members = [f"{kind}: {', '.join(names)}" for kind, names in versus.kinds.items() if len(names) > 1]
    return [*notes, *versus.notes, *members]
