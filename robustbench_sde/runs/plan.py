"""The plan of a run: which cells are stored already, and how long the others may take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from robustbench_sde.errors import counted, duration
from robustbench_sde.evaluation.certificate_report import CERTIFIED_NAME
from robustbench_sde.models.compute import Compute
from robustbench_sde.runs.cells import Cell, CertifyCell
from robustbench_sde.runs.estimate import seconds_by_cell, seconds_with
from robustbench_sde.runs.store import StoredCells
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.certificates import file_of
from robustbench_sde.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Plan:
    """The cells of a run, which of them are stored, and estimates for the others."""

    work: Work
    stored: StoredCells
    compute: Compute
    #: estimated seconds of each cell that is to be run, for one worker
    seconds: dict[Cell, float]
    #: classifiers whose certificates are stored
    certified: frozenset[CertifyCell] = frozenset()

    @classmethod
    def of(cls, work: Work, folder: RunFolder, *, compute: Compute, cache: bool) -> "Plan":
        """Read the stored cells, and time a batch of every checkpoint that is to be run.

        Raises:
            BenchError: a stored cell is damaged, or a checkpoint cannot be loaded.
        """
        stored = StoredCells.find(work, folder, cache=cache, strict_versions=compute.strict_versions)
        left = work.without([*stored.rows, *stored.elsewhere])
        certified = frozenset(
            cell for cell in work.certified if file_of(folder.path, cell.label, cell.key(work.data)).exists()
        )
        to_certify = tuple(cell for cell in work.certified if cell not in certified)
        seconds = seconds_by_cell(replace(left, certified=to_certify), compute)
        return cls(work, stored, compute, seconds, certified)

    def rows(self) -> list[dict[str, Any]]:
        """Describe the plan for scripts: one row per cell; None for a number that does not exist."""
        return [
            {
                "checkpoint": cell.source.name,
                "sigma": cell.source.sigma,
                "solver": cell.source.solver,
                "solver_steps": cell.source.solver_steps,
                "smoothing": cell.source.smoothing,
                **{name: _json(value) for name, value in _described(cell).items()},
                "score_draws": cell.settings.draws,
                "rule": cell.settings.rule,
                "seed": cell.settings.seed,
                "state": self._state(cell),
                "reason": self.stored.outdated.get(cell),
                "seconds": round(self.seconds.get(cell, 0.0), 1),
            }
            for cell in (*self.work.cells, *self.work.certified)
        ]

    def lines(self) -> list[str]:
        """Describe the plan for people: one line per cell, with the settings in which namesakes differ."""
        reasons = {cell: f" ({why})" for cell, why in self.stored.outdated.items()}
        cells = (*self.work.cells, *self.work.certified)
        settings = [
            {name: value for name, value in row.items() if name not in ("state", "reason", "seconds")}
            for row in self.rows()
        ]
        namesakes: dict[str, list[dict[str, Any]]] = {}
        for cell, own in zip(cells, settings, strict=True):
            namesakes.setdefault(cell.title, []).append(own)
        return [
            f"{self._state(cell):<17} {cell.title}{_differing(own, namesakes[cell.title])}"
            f"{reasons.get(cell, '')}"
            for cell, own in zip(cells, settings, strict=True)
        ]

    def with_workers(self, shard_images: int, counts: Sequence[int] = (1, 8, 64)) -> str:
        """Estimate how long the run takes with several workers like this machine."""
        images = len(self.work.data)
        times = [duration(seconds_with(count, self.seconds, images, shard_images)) for count in counts]
        return f"{', '.join(map(str, counts))} workers like this one, on a Ray cluster: {', '.join(times)}"

    def __str__(self) -> str:
        states = [self._state(cell) for cell in (*self.work.cells, *self.work.certified)]
        parts = [
            f"{states.count(state)} {state}" for state in ("stored", "from earlier runs") if state in states
        ]
        left = states.count("to run")
        if left:
            total = duration(sum(self.seconds.values()))
            parts.append(f"{left} to run, about {total} on {self.compute.device} (estimate)")
        again = [f"computed again: {text}" for text in self.stored.outdated_in_words()]
        return "; ".join([f"{counted(len(states), 'cell')}: {', '.join(parts)}", *again])

    def _state(self, cell: Cell) -> str:
        if cell in self.stored.rows or cell in self.certified:
            return "stored"
        return "from earlier runs" if cell in self.stored.elsewhere else "to run"


def _differing(own: dict[str, Any], namesakes: list[dict[str, Any]]) -> str:
    """Return the settings in which a cell differs from another one of its title: `` · sigma 0.5``."""
    parts = []
    for name, value in own.items():
        if any(other[name] != value for other in namesakes):
            parts.append(f"{name.replace('_', ' ')} {'as trained' if value is None else value}")
    return f" · {', '.join(parts)}" if parts else ""


def _described(cell: Cell) -> dict[str, str | float]:
    """Describe what is done to the images of a cell; those of a certified one are clean."""
    described = cell.perturbation.describe()
    return described | {"perturbation": CERTIFIED_NAME} if isinstance(cell, CertifyCell) else described


def _json(value: str | float) -> str | float | None:
    return None if isinstance(value, float) and math.isnan(value) else value
