"""Collect the rows of a run while it proceeds, and make the checks that need several rows."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from robustbench_sde.data import to_float
from robustbench_sde.errors import InvalidEvaluationError
from robustbench_sde.evaluation.cell import CellResult, check_control
from robustbench_sde.models.modules.passes import REMEMBERS
from robustbench_sde.runs.cells import Cell, controlled
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.tables import needs_records
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.examples import EXAMPLES, Examples
from robustbench_sde.storage.run_folder import RunFolder


@dataclass
class Ledger:
    """Rows of the cells that are done, stored in a folder if they have numbers."""

    work: Work
    folder: RunFolder
    #: summary rows by cell
    rows: dict[Cell, dict[str, Any]]
    #: records of the cells that checks and tables need (`needs_records`)
    records: dict[Cell, pd.DataFrame]
    #: what cells were made with; empty where nobody knows
    made_with: dict[Cell, Mapping[str, Any]] = field(default_factory=dict)

    def add(self, cell: Cell, result: CellResult) -> None:
        """Keep the row of a result; a cell with numbers is stored, with its first images as examples."""
        key = self.work.keys[cell]
        row = result.row | {"cell": key}
        if result.ok:
            self._store(cell, row, result)
        self.rows[cell] = row

    def keep_only(self, cells: Iterable[Cell]) -> None:
        """Forget the rows of all other cells, so that these are evaluated again."""
        kept = set(cells)
        self.rows = {cell: row for cell, row in self.rows.items() if cell in kept}

    def forget_apart(self) -> None:
        """Forget clean rows and controls that differ or lack their partner: they are made again, together.

        Those that were stored apart may differ, because another batch size or machine rounds differently.
        """
        for clean, controls in controlled(self.work.cells):
            together = clean, *controls
            if not all(cell in self.rows for cell in together) or self._difference(clean, controls):
                for cell in together:
                    self.rows.pop(cell, None)

    def check_controls(self, made: Collection[Cell]) -> None:
        """Mark all rows of a classifier as invalid if one of its controls in `made` differs from clean."""
        ok = [cell for cell, row in self.rows.items() if row["status"] == "ok"]
        for clean, controls in controlled(ok):
            if clean in made and (error := self._difference(clean, controls)):
                for cell, row in self.rows.items():
                    if cell.source == clean.source and row["status"] == "ok":
                        row["status"] = f"invalid: {error}"

    def forget_remembering(self, known: Mapping[Source, str] | None = None) -> None:
        """Mark all rows of a classifier that remembers earlier calls as invalid, and remove its stored cells.

        One cell that shows it is enough, because nobody knows which of the others are affected. `known` has
        the status of classifiers that have shown it elsewhere.
        """
        found = dict(known or {}) | {
            cell.source: row["status"]
            for cell, row in self.rows.items()
            if row["status"].startswith(f"invalid: {REMEMBERS}")
        }
        for cell, row in self.rows.items():
            if cell.source in found and row["status"] == "ok":
                row["status"] = found[cell.source]
                self.folder.remove_cell(row["cell"])

    def in_order(self) -> dict[Cell, dict[str, Any]]:
        """Return the rows there are, in the order of the work."""
        return {cell: self.rows[cell] for cell in self.work.cells if cell in self.rows}

    def _store(self, cell: Cell, row: dict[str, Any], result: CellResult) -> None:
        data = self.work.data
        examples = Examples(
            data.ids[:EXAMPLES].numpy(),
            data.labels[:EXAMPLES].numpy(),
            to_float(data.images[:EXAMPLES]).numpy(),
            result.images[:EXAMPLES].numpy(),
        )
        self.folder.write_examples(row["cell"], examples)
        self.folder.write_cell(row["cell"], cell.label, row, result.records, result.made_with)
        self.made_with[cell] = result.made_with
        if needs_records(cell.perturbation):
            self.records[cell] = result.records

    def _difference(self, clean: Cell, controls: list[Cell]) -> str:
        """Say what is wrong with the first control that does not equal its clean row; empty if all do."""
        try:
            for control in controls:
                check_control(self.records[clean], self.records[control])
        except InvalidEvaluationError as error:
            return str(error)
        return ""
