"""Write the leaderboard of several runs: a page, its numbers as JSON, and a static site with all pages."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robustbench_sde.errors import BenchError, counted, printable
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.regression.leaderboard import Board, Standing, make_boards
from robustbench_sde.regression.measured import Side, read_run
from robustbench_sde.reporting.html.page import render, write_report
from robustbench_sde.runs.words import budget_text, span
from robustbench_sde.storage.run_folder import RunFolder

_MARK = '<meta name="generator" content="sde-bench leaderboard">'


def write_leaderboard(runs: Sequence[Path], out: Path) -> list[Path]:
    """Write `leaderboard.html` and `leaderboard.json`; the page of a run that has none is written, too.

    Args:
        runs: folders of runs.
        out: folder to write.

    Returns:
        Paths of the files that were written, the leaderboard's page last.

    Raises:
        BenchError: a run is damaged, no model was attacked within a budget, or `out` cannot be written.
    """
    sides = _read(runs)
    boards = _boards(sides)
    written: list[Path] = []
    links = {}
    for name, (folder, _) in sides.items():
        page = folder / "index.html"
        if not page.exists():
            written += write_report(RunFolder(folder), RunFolder(folder))
        links[name] = Path(os.path.relpath(page, out)).as_posix()
    return [*written, *_write(boards, sides, links, out, "leaderboard.html", "leaderboard.json")]


def write_site(runs: Sequence[Path], site: Path) -> list[Path]:
    """Write a static site, for GitHub Pages say: the leaderboard, and a page for each run.

    Args:
        runs: folders of runs.
        site: folder to write; the leaderboard is its `index.html`, and the pages are in `runs/`.

    Returns:
        Paths of the files, the leaderboard's page last.

    Raises:
        BenchError: a run is damaged, no model was attacked within a budget, or `site` holds something else.
    """
    foreign = _foreign(site)
    if foreign:
        raise BenchError(f"{site} holds {foreign}, which is no part of a leaderboard; give another `site`")
    sides = _read(runs)
    boards = _boards(sides)
    written: list[Path] = []
    for name, (folder, _) in sides.items():
        written += write_report(RunFolder(folder), RunFolder(site / "runs" / name))
    RunFolder(site).write_text(".nojekyll", "")  # GitHub Pages serves the files as they are
    links = {name: f"runs/{name}/index.html" for name in sides}
    return [*written, *_write(boards, sides, links, site, "index.html", "leaderboard.json")]


def _foreign(site: Path) -> str:
    """Return the name of something in a folder that no site has; empty if there is nothing.

    Over a whole site everything may be written; its `index.html` comes last, so that a site that was
    interrupted has none. Hidden files, as of git, are no matter.
    """
    page = site / "index.html"
    if page.exists() and _MARK in page.read_text("utf-8", "replace"):
        return ""
    names = sorted(path.name for path in site.iterdir()) if site.is_dir() else []
    return next((name for name in names if name[0] != "." and name not in ("runs", "leaderboard.json")), "")


def _read(runs: Sequence[Path]) -> dict[str, tuple[Path, Side]]:
    """Read the runs by their names; two of one name get a number."""
    found: dict[str, tuple[Path, Side]] = {}
    for whole, folder in {path.resolve(): path for path in runs}.items():
        name, number = whole.name, 1
        while name in found:
            number += 1
            name = f"{whole.name}-{number}"
        found[name] = (folder, read_run(folder))
    return found


def _boards(sides: Mapping[str, tuple[Path, Side]]) -> list[Board]:
    boards = make_boards({name: side for name, (_, side) in sides.items()})
    if not boards:
        raise BenchError("no model of these runs was attacked within a budget; a leaderboard needs one")
    return boards


def _write(
    boards: Sequence[Board],
    sides: Mapping[str, tuple[Path, Side]],
    links: Mapping[str, str],
    out: Path,
    page: str,
    data: str,
) -> list[Path]:
    folder = RunFolder(out)
    content = {
        "boards": [asdict(board) for board in boards],
        "runs": {
            name: {"page": links[name], "complete": side.complete, **side.made}
            for name, (_, side) in sides.items()
        },
    }
    folder.write_text(data, json.dumps(_plain(content), indent=1) + "\n")
    models = {(row.model, row.run) for board in boards for row in board.standings}
    ranked = {run for _, run in models}
    others = ", ".join(name for name in sides if name not in ranked)
    folder.write_text(
        page,
        render(
            "leaderboard.html",
            ("page.js", "leaderboard.js"),
            title="Leaderboard",
            lead=f"{counted(len(models), 'model')} of {counted(len(ranked), 'run')}, ranked by the lowest "
            "accuracy under attack. Models share a rank if their images do not tell them apart."
            + f" Without an attack within a budget: {others}."
            * bool(others),
            choices=[
                ("dataset", list(dict.fromkeys(board.dataset for board in boards))),
                ("norm", list(dict.fromkeys(board.norm for board in boards))),
                ("eps", [f"{eps:g}" for eps in sorted({board.eps for board in boards})]),
            ],
            boards=[_board(board, links) for board in boards],
            runs=[(name, _about(side)) for name, (_, side) in sides.items()],
            data_file=data,
        ),
    )
    return [out / data, out / page]


def _board(board: Board, links: Mapping[str, str]) -> dict[str, Any]:
    certified = any(row.certified is not None for row in board.standings)
    ways = [
        f"{number} {way}"
        for number, way in ((board.paired, "image by image"), (board.unpaired, "as two samples"))
        if number
    ]
    pairs = counted(board.paired + board.unpaired, "pair")
    return {
        "title": budget_text(board.norm, board.eps),
        "dataset": board.dataset,
        "norm": board.norm,
        "eps": f"{board.eps:g}",
        "text": f"{counted(len(board.standings), 'model')}"
        + (f"; {pairs} compared ({', '.join(ways)}), at 5 % together." if ways else "."),
        "notes": board.notes,
        "certified": certified,
        "rows": [_row(row, links, certified=certified) for row in board.standings],
    }


def _row(row: Standing, links: Mapping[str, str], *, certified: bool) -> dict[str, Any]:
    numbers = [row.worst, row.clean, *([row.certified] if certified else [])]
    return asdict(row) | {
        "tied_text": f"tied with {row.tied}",
        "numbers": [_number(each) for each in numbers],
        "attacks": ", ".join(row.attacks),
        "link": links[row.run],
    }


def _number(found: Interval | None) -> dict[str, Any]:
    if found is None:
        return {"text": "", "aside": "", "order": ""}
    return {
        "text": f"{100 * found.estimate:.1f}",
        "aside": span(found.low, found.high),
        "order": f"{found.estimate:.6g}",
    }


def _about(side: Side) -> str:
    state = "" if side.complete else "; not finished"
    return printable(f"{side.made.get('command', '')}, sde-bench {side.made.get('version', '')}{state}")


def _plain(value: Any) -> Any:
    """Return plain values for JSON; intervals become mappings with their three numbers."""
    if isinstance(value, Interval):
        return value._asdict()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
