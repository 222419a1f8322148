"""Results of evaluations, in memory or in the folder of a run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robustbench_sde.api.networks import audit_warnings, kinds_of
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.cell import CellResult
from robustbench_sde.evaluation.certificate_report import CertificateReport, read_reports
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.evaluation.tries import survival
from robustbench_sde.models.smoothed import name_inside
from robustbench_sde.regression.answer import Versus
from robustbench_sde.regression.baseline import save_baseline
from robustbench_sde.regression.measured import Side, measured, read_run
from robustbench_sde.regression.smoothed import at_equal_smoothing
from robustbench_sde.regression.versus import versus as compare_networks
from robustbench_sde.reporting.certificates import print_certificates
from robustbench_sde.reporting.corruptions import print_corruptions
from robustbench_sde.reporting.notebook import html_of_printed
from robustbench_sde.reporting.terminal import print_summary
from robustbench_sde.runs.checked import read_checked_summary
from robustbench_sde.runs.checked_corruptions import read_checked_corruptions
from robustbench_sde.runs.plan import Plan
from robustbench_sde.runs.tables import distance_table
from robustbench_sde.runs.words import perturbation_text, result_line
from robustbench_sde.shown import Pixels
from robustbench_sde.storage.images import PerturbedImages
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.runs_here import resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Tables and images of an evaluation (docs/tables.md).

    In a folder, the `status` of a row without numbers says why it has none; an evaluation in memory raises
    that error.
    """

    #: one row for each model, perturbation and way of scoring
    summary: pd.DataFrame
    #: folder in which it is stored; None: in memory only
    folder: Path | None = None
    #: number of rows that were stored already, in this folder or by an earlier run
    reused: int = 0
    #: accuracies by corruption and severity, and their means; None where nothing was corrupted
    corruptions: pd.DataFrame | None = None
    #: files of the checkpoints among the models, by name
    checkpoints: Mapping[str, Path] = field(default_factory=dict)
    #: plan of a suite, with the work that was to be done
    plan: Plan | None = None
    #: one report for each smoothed classifier whose images were certified (docs/certificates.md)
    certificates: tuple[CertificateReport, ...] = ()
    #: how many of these were stored already
    reused_certificates: int = 0
    _cells: Sequence[CellResult] = ()
    _class_names: Sequence[str] = ()

    @classmethod
    def read(cls, folder: Path | str) -> Self:
        """Read the result in the folder of a run, or of a run by its name in reports/.

        Raises:
            BenchError: the folder holds no run, or a damaged one.
        """
        run = RunFolder(resolve(folder))
        summary = read_checked_summary(run)
        corruptions = read_checked_corruptions(run, summary)
        return cls(
            summary,
            run.path,
            corruptions=corruptions,
            certificates=read_reports(run.path),
            _class_names=run.read_manifest()["dataset"].get("class_names", ()),
        )

    def __repr__(self) -> str:
        """Return one line: models, rows, data, the lowest accuracy, the folder."""
        where = "in memory" if self.folder is None else f"in {self.folder}"
        return f"<Result: {result_line(self.summary)}, {where}>"

    def _repr_html_(self) -> str:
        """Return the table that the command prints, for notebooks."""
        return html_of_printed(self._print)

    def _print(self) -> None:
        folder = None if self.folder is None else str(self.folder)
        if self.corruptions is not None:
            print_corruptions(
                self.corruptions, self.summary, folder=folder, reused=self.reused, reference=None
            )
        else:
            print_summary(self.summary, folder=folder, reused=self.reused)
        if self.certificates:
            print_certificates(self.certificates, folder=None)

    @property
    def ok(self) -> bool:
        """Whether all rows may be used, and no certificate has failed or is contradicted."""
        sound = bool((self.summary["status"] == "ok").all())
        return sound and all(report.ok for report in self.certificates)

    @property
    def records(self) -> pd.DataFrame:
        """Records of the last row of the summary, one row per image."""
        return self.records_of(-1)

    @property
    def images(self) -> Tensor:
        """Perturbed images of the last row of the summary: (n, C, H, W) float32 in [0, 1]."""
        return self.images_of(-1)

    def records_of(self, row: int) -> pd.DataFrame:
        """Return the records of a row of the summary, one row per image; `row` is its index.

        Raises:
            BenchError: the row has no numbers, or its file is missing or damaged.
        """
        if self.folder is None:
            return self._cells[row].records
        return RunFolder(self.folder).read_records(str(self.summary["cell"].iloc[row]))

    def survives(self, tries: int, row: int = -1) -> Interval:
        """Compute the accuracy of a row if each image may be submitted `tries` times (docs/protocol.md).

        Args:
            tries: independent submissions, of which one wrong answer is enough; at most as many as the score
                draws answer.
            row: index of the row in the summary.

        Returns:
            The share of images that all tries get right, with a 95 % interval clustered by image.

        Raises:
            BenchError: the row has too few score draws, `"auto"` ones, or no records.
        """
        return survival(self.records_of(row), tries, try_draws=int(self.summary["try_draws"].iloc[row]))

    def with_survival(self, tries: int) -> pd.DataFrame:
        """Return the summary with columns `survives_K`, `survives_K_low` and `survives_K_high` for any K.

        Args:
            tries: number of submissions K, as in `survives`; rows without numbers have NaN.

        Raises:
            BenchError: as in `survives`.
        """
        nothing = Interval(math.nan, math.nan, math.nan)
        found = [
            self.survives(tries, row) if status == "ok" else nothing
            for row, status in enumerate(self.summary["status"])
        ]
        name = f"survives_{tries}"
        columns = {name: "estimate", f"{name}_low": "low", f"{name}_high": "high"}
        return self.summary.assign(
            **{column: [getattr(one, part) for one in found] for column, part in columns.items()}
        )

    def images_of(self, row: int) -> Tensor:
        """Return the perturbed images of a row of the summary, by its index: (n, C, H, W) float32 in [0, 1].

        Raises:
            BenchError: they were not kept, or their file is damaged.
        """
        if self.folder is None:
            return self._cells[row].images
        cell = str(self.summary["cell"].iloc[row])
        found = sorted((self.folder / "images").glob(f"*-{cell}.*"))
        if not found:
            raise BenchError(f"{self.folder} has no images of cell {cell}; attack with save_images")
        return torch.from_numpy(PerturbedImages.read(found[0]).images)

    def plot(self) -> "Figure":
        """Draw accuracy against eps, distance and severity, with 95 % bands over images.

        Returns:
            A figure of matplotlib with a panel for each attack and norm; notebooks show it.

        Raises:
            BenchError: no row has a budget, a distance or a severity, or records are damaged.
        """
        from robustbench_sde.reporting.pictures import plot_curves

        numbered = self.summary.reset_index(drop=True)
        places = numbered.assign(cell=numbered.index.astype(str))
        distances = distance_table(places, lambda place: self.records_of(int(place)))
        return plot_curves(numbered, distances, self.corruptions)

    def gallery(self, row: int = -1, *, count: int = 6, gain: float = 10.0) -> "Figure":
        """Draw clean images, what was made of them, and their difference around mid-grey.

        Args:
            row: index of a row of the summary.
            count: number of images, at most; a run in a folder keeps eight.
            gain: factor by which the difference is multiplied.

        Returns:
            A figure of matplotlib with the label above each clean image and the prediction above each
            perturbed one; notebooks show it.

        Raises:
            BenchError: the row has no images, or `count` is below 1.
        """
        from robustbench_sde.reporting.pictures import Shown, plot_gallery

        if count < 1:
            raise BenchError(f"`count` is {count}; it must be at least 1")
        about = self.summary.iloc[row]
        ids, clean, perturbed = self._pairs(row)
        if not len(ids):
            raise BenchError(f"row {row} ({about['checkpoint']}, {about['perturbation']}) has no images")
        records = {record["image_id"]: record for record in self.records_of(row).to_dict("records")}
        shown = []
        for image, before, after in zip(ids[:count], clean, perturbed, strict=False):
            label, prediction = (self._class(int(records[image][name])) for name in ("label", "prediction"))
            shown.append(Shown(before, after, label, prediction, bool(records[image]["correct"])))
        title = f"{about['checkpoint']} under {perturbation_text(about.to_dict())}"
        return plot_gallery(shown, title=title, gain=gain)

    def _pairs(self, row: int) -> tuple[list[int], Pixels, Pixels]:
        """Return ids, clean and perturbed images of a row; none if it has none."""
        if self.folder is not None:
            stored = RunFolder(self.folder).read_examples(str(self.summary["cell"].iloc[row]))
            nothing = np.empty((0, 1, 1, 1), np.float32)
            return (
                ([], nothing, nothing)
                if stored is None
                else (stored.ids.tolist(), stored.clean, stored.perturbed)
            )
        own, names = self._cells[row], self.summary["checkpoint"]
        clean = next(
            cell
            for cell, name, perturbation in zip(self._cells, names, self.summary["perturbation"], strict=True)
            if perturbation == "clean" and name == names.iloc[row]
        )
        ids = own.records["image_id"].tolist() if own.ok else []
        return ids, clean.images.cpu().numpy(), own.images.cpu().numpy()

    def _class(self, label: int) -> str:
        return self._class_names[label] if 0 <= label < len(self._class_names) else str(label)

    def save_baseline(self, file: Path | str, *, force: bool = False) -> int:
        """Write a run in a folder into one text file that `compare` reads.

        Args:
            file: path of the file to write.
            force: whether a file that is no baseline may be replaced.

        Returns:
            Number of cells in it, which are all rows but the eps = 0 controls.

        Raises:
            BenchError: the run is in memory or not complete, or `file` cannot be written or is another file.
            InvalidEvaluationError: a cell must not be used.
        """
        if self.folder is None:
            raise BenchError("a baseline needs a run in a folder: give `out`")
        side = read_run(self.folder)
        save_baseline(side, Path(file), force=force)
        return len(side.cells)

    def versus(
        self,
        reference: str,
        *,
        kinds: str | Mapping[str, str] | None = None,
        allow_unequal: bool = False,
    ) -> Versus:
        """Compare all networks with one of them, image by image: does the noise help? (docs/versus.md).

        Args:
            reference: name of a checkpoint or of a kind.
            kinds: patterns of names by kind, as in `rb.versus`; None: by the headers of the checkpoints.
            allow_unequal: whether networks that were attacked with unequal effort may be compared.

        Raises:
            BenchError: as in `rb.versus`.
        """
        hashes: dict[str, str] = {}
        if self.folder is None:
            rows = self.summary[self.summary["perturbation"] != "control"]
            cells = [measured(row, self.records_of(place), "") for place, row in rows.iterrows()]  # type: ignore[arg-type]
            side = Side("this result", tuple(cells))
        else:
            side = read_run(self.folder)
            hashes = {
                name: str(sha) for name, sha in RunFolder(self.folder).read_manifest()["checkpoints"].items()
            }
        side = at_equal_smoothing(side, reference)
        names = list(dict.fromkeys(cell.facts.checkpoint for cell in side.cells))
        hashes |= {name_inside(name): sha for name, sha in hashes.items()}
        faults = [] if self.folder is None else list(audit_warnings(self.folder, names, hashes))
        found = compare_networks(
            side,
            reference,
            kinds_of(kinds, names, hashes, self.checkpoints),
            allow_unequal=allow_unequal,
            warnings=faults,
        )
        return replace(found, folder=self.folder)
