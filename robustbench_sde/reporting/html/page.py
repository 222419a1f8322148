"""Write `index.html`: all results of a run in one file that needs neither network nor JavaScript."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robustbench_sde.errors import BenchError, printable
from robustbench_sde.evaluation.audit.report import AuditReport, read_audits
from robustbench_sde.evaluation.certificate_report import read_reports
from robustbench_sde.regression.answer import Versus
from robustbench_sde.reporting.bracket_figure import bracket_figure
from robustbench_sde.reporting.certificates import certificate_sentences
from robustbench_sde.reporting.corruptions import corruption_figure, corruption_heatmaps
from robustbench_sde.reporting.distances import accuracy_against_distance
from robustbench_sde.reporting.documents import latex, latex_at_a_glance
from robustbench_sde.reporting.figures import (
    MOST_FIGURES,
    Drawn,
    accuracy_against_draws,
    accuracy_against_eps,
    accuracy_against_sigma,
)
from robustbench_sde.reporting.four_curves import four_curves
from robustbench_sde.reporting.html.examples import MOST_CELLS, ExampleCell, examples
from robustbench_sde.reporting.html.glossary import explained
from robustbench_sde.reporting.html.svg import inline
from robustbench_sde.reporting.html.tables import (
    TONES,
    Headings,
    PageCell,
    Table,
    cells,
    certificate_table,
    costs,
    heatmaps,
    table_at_a_glance,
)
from robustbench_sde.reporting.terminal import flat
from robustbench_sde.reporting.training import read_trainings, training_figure
from robustbench_sde.reporting.tries import accuracy_against_tries
from robustbench_sde.reporting.versus import read_versus, versus_figure, versus_texts, versus_title
from robustbench_sde.runs.checked import read_newest_summary
from robustbench_sde.runs.checked_corruptions import read_checked_corruptions
from robustbench_sde.runs.parameters import tell_apart
from robustbench_sde.runs.tables import write_tables
from robustbench_sde.runs.words import interval, perturbation_text, summary_title
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.run_state import RunState, manifest_so_far, state_of

#: number of columns with names in the table of differences
_NAMES = 2


@dataclass(frozen=True)
class Section:
    """A part of the page; one without figures, tables, examples and entries is left out."""

    name: str
    title: str
    text: str = ""
    #: pairs of SVG and caption
    figures: Sequence[tuple[Markup, str]] = ()
    tables: Sequence[Table] = ()
    examples: Sequence[ExampleCell] = ()
    #: pairs of name and value
    entries: Sequence[tuple[str, str]] = ()

    def __bool__(self) -> bool:
        return bool(self.figures or self.tables or self.examples or self.entries)


def write_report(run: RunFolder, out: RunFolder) -> list[Path]:
    """Write `index.html`, `summary.md`, `glance.tex`, `summary.tex` and `figures/` about a run into a folder.

    Equal runs give equal files.

    Returns:
        Paths of the files written, the page last.

    Raises:
        BenchError: the run is damaged or has no cells, or the folder cannot be written.
    """
    state = state_of(run)
    finished = state.complete or not (state.running or state.planned)
    stored = read_newest_summary(run, finished=finished)
    manifest = run.read_manifest() if finished else manifest_so_far(run, set(stored["cell"]))
    summary = tell_apart(stored, manifest["cells"])
    if summary.empty:
        raise BenchError(f"{run.path} has no cells yet; run its command again")
    corruptions = read_checked_corruptions(run, stored)
    audits = read_audits(run.path)
    curves = accuracy_against_eps(summary, out)
    tables = write_tables(stored, manifest["cells"], out, run.read_records)
    distances = accuracy_against_distance(out)
    four = four_curves(summary, run, out)
    tries = accuracy_against_tries(summary, run, out)
    draws = accuracy_against_draws(summary, out)
    sigmas = accuracy_against_sigma(summary, out)
    means = [] if corruptions is None else corruption_figure(corruptions, out)
    maps = [] if corruptions is None else corruption_heatmaps(corruptions, out)
    trainings = read_trainings(run)
    courses = [] if trainings is None else training_figure(trainings, out)
    cost = costs(summary)
    certificates = read_reports(run.path)
    brackets = bracket_figure(certificates, out)
    versus = read_versus(run)
    differences = [] if versus is None else versus_figure(versus, out)
    sections = [
        Section(
            "versus",
            "Does the noise help?",
            "" if versus is None else versus_title(versus),
            figures=_inlined(out, differences),
            tables=[] if versus is None else [_versus_table(versus)],
        ),
        Section("attacks", "Accuracy against budget", figures=_inlined(out, curves)),
        Section(
            "distances",
            "Accuracy against distance",
            "Accuracy if every image may be changed by this distance, under attacks that find the smallest "
            "perturbation.",
            figures=_inlined(out, distances),
        ),
        Section(
            "certificates",
            "Certified accuracy",
            "Proven for noise on the image, by the decision rule named: no perturbation within the L2 radius "
            "changes the decision (docs/certificates.md). Accuracy under attack is the other side.",
            figures=_inlined(out, brackets),
            tables=[certificate_table(certificates)] if certificates else [],
        ),
        Section(
            "corruptions",
            "Corruptions",
            ""
            if corruptions is None or corruptions["checkpoint"].nunique() <= MOST_FIGURES
            else f"The first {MOST_FIGURES} heat maps are in figures/, too.",
            figures=_inlined(out, means),
            tables=[] if corruptions is None else heatmaps(corruptions),
        ),
        Section(
            "four-curves",
            "From proven to random",
            "Accuracy that is proven, under attack, under attack with several submissions, and at random "
            f"points. At most {MOST_FIGURES} figures are shown.",
            figures=_inlined(out, four),
        ),
        Section(
            "tries",
            "Accuracy against tries",
            "What a random classifier is worth against somebody who may submit the same image again: one "
            f"wrong answer is enough. At most {MOST_FIGURES} settings are shown.",
            figures=_inlined(out, tries),
        ),
        Section(
            "draws",
            "Accuracy against score draws",
            "The bands are 95 % intervals over fresh draws; one draw has none. "
            f"At most {MOST_FIGURES} settings are shown.",
            figures=_inlined(out, draws),
        ),
        Section(
            "sigma",
            "Accuracy against noise",
            f"Other noise at test time, with the trained weights. At most {MOST_FIGURES} settings are shown.",
            figures=_inlined(out, sigmas),
        ),
        Section(
            "examples",
            "Examples",
            "Clean image, perturbed image, and their difference around mid-grey, multiplied by the given "
            f"factor. For each attack and corruption the highest level is shown, at most {MOST_CELLS}.",
            examples=examples(run, summary, manifest["dataset"].get("class_names", ())),
        ),
        Section("training", "Training", figures=_inlined(out, courses)),
        Section("cost", "Attack cost", tables=[] if cost is None else [cost]),
        Section(
            "audit",
            "Audit",
            "Can the accuracies under attack be trusted? The rules look for masked gradients and failing "
            "controls.",
            tables=[_audit_table(index, report) for index, report in enumerate(audits)],
        ),
        Section("all", "All cells", tables=[cells(summary)]),
        Section(
            "provenance",
            "Provenance",
            entries=list(flat({name: value for name, value in manifest.items() if name != "cells"})),
            tables=[_settings_table(manifest["cells"])],
        ),
    ]
    glance = table_at_a_glance(summary, corruptions, {report.checkpoint: report.verdict for report in audits})
    page = render(
        "page.html",
        ("page.js",),
        title=run.path.resolve().name,
        lead=summary_title(summary),
        findings=[
            *_answers(versus),
            *_findings(summary, manifest, audits, state),
            *certificate_sentences(certificates),
        ],
        glance=glance,
        sections=[section for section in sections if section],
    )
    texts = {"glance.tex": latex_at_a_glance(glance), "summary.tex": latex(summary), "index.html": page}
    for name, text in texts.items():
        out.write_text(name, text)
    pictures = [
        f"figures/{drawn.name}.{ending}"
        for drawn in (
            *differences,
            *curves,
            *distances,
            *four,
            *tries,
            *brackets,
            *means,
            *maps,
            *draws,
            *sigmas,
            *courses,
        )
        for ending in ("svg", "png")
    ]
    return [out.path / name for name in (*pictures, *tables, *texts)]


def render(template: str, scripts: Sequence[str], **parts: Any) -> str:
    """Return a page, everything escaped; it runs only its own scripts and fetches nothing.

    Args:
        template: file of this folder, whose parts are given.
        scripts: files of this folder, in the order in which they run.
        **parts: what the template names.
    """
    environment = Environment(
        loader=PackageLoader("robustbench_sde.reporting.html", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    here = resources.files("robustbench_sde.reporting.html")
    script = "".join(here.joinpath(name).read_text(encoding="utf-8") for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        **parts,
        explained=explained,
        style=Markup(here.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )


def _inlined(out: RunFolder, drawn: Sequence[Drawn]) -> list[tuple[Markup, str]]:
    return [
        (
            inline(
                (out.path / "figures" / f"{figure.name}.svg").read_text(encoding="utf-8"),
                figure.name,
                figure.caption,
            ),
            figure.caption,
        )
        for figure in drawn
    ]


def _findings(
    summary: pd.DataFrame, manifest: dict[str, Any], audits: Sequence[AuditReport], state: RunState
) -> list[tuple[str, str]]:
    """Return pairs of tone and sentence that readers should know first, the most serious first."""
    found = []
    bad = summary[summary["status"] != "ok"]
    if not bad.empty:
        found.append(("bad", f"{len(bad)} of {len(summary)} cells must not be used: {bad.iloc[0]['status']}"))
    if not manifest["complete"]:
        now = "The run goes on" if state.running else "The run is not finished"
        found.append(("warn", f"{now}: {'; '.join(state.sentences())}."))
    trainings = manifest.get("unfinished")
    if isinstance(trainings, dict):
        found += [("warn", printable(f"{name}: {sentence}.")) for name, sentence in trainings.items()]
    for report in audits:
        faults = [rule.name for rule in report.rules if rule.verdict in ("warn", "inconclusive", "fail")]
        tone = TONES.get(report.verdict, "")
        found.append((tone, f"Audit of {report.checkpoint}: {', '.join([report.verdict, *faults])}."))
    if bad.empty:
        control = (
            " Every eps = 0 control equals its clean row."
            if "control" in set(summary["perturbation"])
            else ""
        )
        found.append(("good", f"All {len(summary)} cells are valid.{control}"))
    worst = _lowest(summary[summary["status"] == "ok"])
    return [*found, *([("", worst)] if worst else [])]


def _lowest(sound: pd.DataFrame) -> str:
    perturbed = sound[~sound["perturbation"].isin(["clean", "control"])]
    if perturbed.empty:
        return ""
    level = perturbed["eps"].fillna(perturbed["severity"])
    ordered = perturbed.assign(level=level).sort_values(["accuracy", "level"], kind="stable")
    row = ordered.iloc[0].to_dict()
    equal = int((ordered["accuracy"] == row["accuracy"]).sum()) - 1
    others = f" ({equal} other cell{'s' * (equal > 1)} equally low)" if equal else ""
    text = interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"])
    return f"Lowest accuracy: {text} %, {row['checkpoint']} under {perturbation_text(row)}{others}."


def _answers(versus: Versus | None) -> list[tuple[str, str]]:
    """Return the answer of a comparison as findings, its warnings first."""
    if versus is None:
        return []
    names = tuple({row.subject for row in versus.rows} | {versus.reference})

    def sentence(text: str) -> str:
        return f"{text}." if text.startswith(names) else f"{text[:1].upper()}{text[1:]}."

    warnings = [("warn", sentence(text)) for text in versus.warnings]
    return [*warnings, *(("", sentence(text)) for text in versus.sentences())]


def _versus_table(versus: Versus) -> Table:
    headings, rows = versus_texts(versus)
    kinds: Headings = [
        (heading, "name" if place < _NAMES else "number") for place, heading in enumerate(headings)
    ]
    cells = [[PageCell(text) for text in row] for row in rows]
    return Table("versus-table", f"Difference from {versus.reference}, with images paired", kinds, cells)


def _audit_table(index: int, report: AuditReport) -> Table:
    rows = [
        [
            PageCell(rule.name),
            PageCell(rule.verdict, tone=TONES.get(rule.verdict, "")),
            PageCell(rule.message),
        ]
        for rule in report.rules
    ]
    tested = f"{report.dataset}, {report.images} images, seed {report.seed}"
    headings: Headings = [("rule", "name"), ("verdict", "name"), ("finding", "prose")]
    return Table(f"audit-{index}", f"{report.checkpoint}: {report.verdict} · {tested}", headings, rows)


def _settings_table(settings: Sequence[Any]) -> Table:
    """Return a table of the cells of the manifest, every parameter written out."""
    known = [entry for entry in settings if isinstance(entry, dict)]
    names = list(dict.fromkeys(name for entry in known for name in entry))
    rows = [[PageCell(_plain(entry.get(name, ""))) for name in names] for entry in known]
    headings: Headings = [(name, "prose") for name in names]
    return Table("settings", "Every parameter of every cell", headings, rows, folded=True)


def _plain(value: Any) -> str:
    return (
        ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)
    )
