"""What a run is going to do: which cells are there already, and how long the others may take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import counted
from robustbench_sde.models.compute import Compute
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.estimate import seconds_by_cell, seconds_with
from robustbench_sde.runs.store import StoredCells
from robustbench_sde.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Plan:
    """The cells of a run by what is to be done with them."""

    cells: tuple[Cell, ...]
    stored: StoredCells
    compute: Compute
    #: estimated for the cells that are to be run, for one worker
    seconds: dict[Cell, float]
    images: int

    @classmethod
    def of(
        cls, cells: Sequence[Cell], data: ImageDataset, folder: RunFolder, *, compute: Compute, cache: bool
    ) -> "Plan":
        """Look at what is stored and time a batch of every checkpoint that is to be run.

        Raises:
            BenchError: a stored cell is damaged, or a checkpoint cannot be loaded.
        """
        stored = StoredCells.find(cells, data, folder, cache=cache)
        missing = [cell for cell in cells if cell not in stored.own and cell not in stored.elsewhere]
        return cls(tuple(cells), stored, compute, seconds_by_cell(missing, data, compute), len(data))

    def rows(self) -> list[dict[str, Any]]:
        """One row per cell, for scripts; no number where there is none."""
        return [
            {
                "checkpoint": cell.source.path.stem,
                "sigma": cell.source.sigma,
                "solver": cell.source.solver,
                "solver_steps": cell.source.solver_steps,
                **{name: _json(value) for name, value in cell.perturbation.describe().items()},
                "score_draws": cell.settings.draws,
                "rule": cell.settings.rule,
                "seed": cell.settings.seed,
                "state": self._state(cell),
                "seconds": round(self.seconds.get(cell, 0.0), 1),
            }
            for cell in self.cells
        ]

    def lines(self) -> list[str]:
        """One line per cell, for people."""
        return [f"{self._state(cell):<17} {cell.label}" for cell in self.cells]

    def with_workers(self, shard_images: int, counts: Sequence[int] = (1, 8, 64)) -> str:
        """How long it takes with several workers like this machine."""
        times = [duration(seconds_with(count, self.seconds, self.images, shard_images)) for count in counts]
        return f"{', '.join(map(str, counts))} workers like this one (--engine ray): {', '.join(times)}"

    def __str__(self) -> str:
        states = [self._state(cell) for cell in self.cells]
        parts = [
            f"{states.count(state)} {state}" for state in ("stored", "from earlier runs") if state in states
        ]
        left = states.count("to run")
        if left:
            total = duration(sum(self.seconds.values()))
            parts.append(f"{left} to run, about {total} on {self.compute.device} (estimate)")
        return f"{counted(len(self.cells), 'cell')}: {', '.join(parts)}"

    def _state(self, cell: Cell) -> str:
        if cell in self.stored.own:
            return "stored"
        return "from earlier runs" if cell in self.stored.elsewhere else "to run"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _json(value: str | float) -> str | float | None:
    return None if isinstance(value, float) and math.isnan(value) else value
