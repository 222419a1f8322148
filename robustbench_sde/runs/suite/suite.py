"""A suite: read from a file, checked, and expanded to cells."""

import glob
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from robustbench_sde.data import ImageDataset
from robustbench_sde.data.official import open_official
from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.located import locate_existing
from robustbench_sde.models.smoothed import check_smoothing
from robustbench_sde.models.strict import Spec, first_problem
from robustbench_sde.perturbations.attacks.base import Attack, Control
from robustbench_sde.perturbations.attacks.other_solver import OtherSolver
from robustbench_sde.perturbations.attacks.registry import attack_kind, plan_attacks
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.perturbations.corruptions import make_corruptions, stored_corruptions
from robustbench_sde.runs.cells import Cell, CertifyCell
from robustbench_sde.runs.names import names_of_files
from robustbench_sde.runs.sources import OpenedCheckpoint, Source
from robustbench_sde.runs.suite.document import Document, Place
from robustbench_sde.runs.suite.spec import AttackEntry, CertifyEntry, CorruptionEntry, SuiteEntry, SuiteSpec
from robustbench_sde.runs.work import Work
from robustbench_sde.sde.solvers import accepts_noise
from robustbench_sde.shipped import SUITES, shipped_files

#: Attacks, corruptions, or images to certify.
Entry = AttackEntry | CorruptionEntry | CertifyEntry
_S = TypeVar("_S", bound=Spec)
#: settings of a suite for one checkpoint
_MOST_CELLS = 100_000
#: A cell's place in the tables; two cells in one place could not be told apart.
_Row = tuple[object, ...]
#: How a checkpoint is evaluated: sigma, solver and its steps (None is as trained), and noise on the image.
_Setting = tuple[float | None, str | None, int | None, float | None]


@dataclass(frozen=True)
class Suite:
    """A suite file, checked as far as it can be without data and checkpoints."""

    #: name of the file, without its ending
    name: str
    document: Document
    spec: SuiteSpec
    entries: tuple[Entry, ...]

    @classmethod
    def read(cls, name: str) -> "Suite":
        """A suite by its path, or a shipped one by its name.

        Raises:
            BenchError: there is none, or something in it is wrong; says where.
        """
        shipped = shipped_files(SUITES)
        path = Path(name)
        if name in shipped:
            path = shipped[name]
        elif not path.exists() and path.suffix not in (".yaml", ".yml"):
            raise unknown_name("suite", name, shipped)
        document = Document.read(path)
        spec = _checked(SuiteSpec, document, ())
        entries = [_entry(document, index, entry) for index, entry in enumerate(spec.perturbations)]
        most = sum(_points(spec, entry) for entry in entries)
        if most > _MOST_CELLS:
            raise document.error(
                ("perturbations",), f"a grid of {most:,} cells a checkpoint; {_MOST_CELLS:,} are the most"
            )
        return cls(path.stem, document, spec, tuple(entries))

    def with_smoothing(self, smoothing: Sequence[float]) -> "Suite":
        """Return this suite with other noise on the images, in place of all that it says about it.

        Raises:
            BenchError: a value is out of range.
        """
        values = tuple(dict.fromkeys(map(check_smoothing, smoothing)))
        spec = self.spec.model_copy(update={"smoothing": values})
        entries = tuple(entry.model_copy(update={"smoothing": None}) for entry in self.entries)
        return replace(self, spec=spec, entries=entries)

    def checkpoints(self) -> list[Path]:
        """The paths that `checkpoints` stands for, globs written out; a name stays a name.

        Raises:
            BenchError: there is no such checkpoint, or nothing matches a glob.
        """
        paths: list[Path] = []
        for index, pattern in enumerate(self.spec.checkpoints):
            if not glob.has_magic(pattern):
                with self.document.blame("checkpoints", index):
                    locate_existing(Path(pattern))
                paths.append(Path(pattern))
                continue
            matching = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207 (absolute ones too)
            found = [path for path in matching if ".state." not in path.name]
            if not found:
                raise self.document.error(("checkpoints", index), f"no file matches {pattern!r}")
            paths += found
        return list(dict.fromkeys(paths))

    def cells(
        self, paths: Sequence[Path], data: ImageDataset, *, rows: int = 256, precision: str = "fp32"
    ) -> list[Cell]:
        """All cells that are scored: those of `work`."""
        return list(self.work(paths, data, rows=rows, precision=precision).cells)

    def work(
        self, paths: Sequence[Path], data: ImageDataset, *, rows: int = 256, precision: str = "fp32"
    ) -> Work:
        """All cells, each checkpoint's together; those that differ only in scoring follow each other.

        Every checkpoint gets a clean cell for each way of scoring, and a control if it is attacked. What is
        certified is listed apart.

        Args:
            paths: of the checkpoints.
            data: the images.
            rows: folded rows in one pass.
            precision: of the networks.

        Raises:
            BenchError: a value in the suite, a checkpoint or published images are wrong.
        """
        grid: list[tuple[SuiteEntry, list[Perturbation]]] = [
            (entry, self._perturbations(index, data)) for index, entry in enumerate(self.entries)
        ] or [(SuiteEntry(), [])]
        cells: dict[Cell, None] = {}
        certified: dict[CertifyCell, None] = {}
        for path, name in names_of_files(paths).items():
            opened = OpenedCheckpoint.read(path, data, name)
            sources = self._sources(opened, [entry for entry, _ in grid], precision)
            for source, settings in sources.items():
                chosen = [
                    (entry, [p for p in made if _can_be_made(p, source)])
                    for entry, made in grid
                    if not settings.isdisjoint(self._settings(entry))
                ]
                draws = {id(entry): entry.score_draws or self.spec.score_draws for entry, _ in chosen}
                every = tuple(dict.fromkeys(count for counts in draws.values() for count in counts))
                if not source.stochastic:  # all numbers of draws are the same
                    every = every[:1]
                    draws = dict.fromkeys(draws, every)
                attack = next((p for _, made in chosen for p in made if isinstance(p, Attack)), None)
                for seed in self.spec.seeds:
                    certified |= dict.fromkeys(_certified(source, [entry for entry, _ in chosen], seed, rows))
                    always = [Clean(), *([Control(attack)] if attack else [])]
                    todo = [(always, every), *((made, draws[id(entry)]) for entry, made in chosen)]
                    cells |= {
                        Cell(
                            source, perturbation, ScoreSettings(count, rule, seed, rows, self.spec.try_draws)
                        ): None
                        for perturbations, counts in todo
                        for perturbation in perturbations
                        if not (isinstance(perturbation, Attack) and perturbation.eps == 0)
                        for count in counts
                        for rule in self.spec.rules
                    }
        self._check_distinct(list(cells))
        if not certified and any(isinstance(entry, CertifyEntry) for entry in self.entries):
            places = [place for place, entry in enumerate(self.entries) if isinstance(entry, CertifyEntry)]
            message = "certificates are about noise on the image; give `smoothing`, as smoothing: 0.25"
            raise self.document.error(("perturbations", places[0]), message)
        return Work.of(cells, data, certified)

    def about(self) -> dict[str, object]:
        """Return what a manifest says of the suite."""
        digest = hashlib.sha256(self.document.text.encode()).hexdigest()
        return {"suite": {"name": self.name, "sha256": f"sha256:{digest}"}}

    def _settings(self, entry: SuiteEntry) -> list[_Setting]:
        """Every way in which checkpoints are evaluated for an entry."""
        spec = self.spec
        return list(
            product(
                entry.sigma or spec.sigma,
                entry.solver or spec.solver,
                entry.solver_steps or spec.solver_steps,
                entry.smoothing or spec.smoothing,
            )
        )

    def _sources(
        self, opened: OpenedCheckpoint, entries: Sequence[SuiteEntry], precision: str
    ) -> dict[Source, set[_Setting]]:
        """Make the sources of a checkpoint, each with the settings of the suite that lead to it.

        Raises:
            BenchError: the checkpoint is wrong, or no solver of the suite takes its noise.
        """
        sources: dict[Source, set[_Setting]] = {}
        asked = dict.fromkeys(setting for entry in entries for setting in self._settings(entry))
        source_of = partial(opened.evaluated_with, noise=self.spec.noise, precision=precision)
        for sigma, solver, steps, smoothing in asked:
            if solver is None or accepts_noise(solver, source_of(sigma=sigma).kinds):
                source = source_of(sigma=sigma, solver=solver, solver_steps=steps)
                source = source if smoothing is None else source.smoothed(smoothing)
                sources.setdefault(source, set()).add((sigma, solver, steps, smoothing))
        if not sources:
            raise self.document.error(("solver",), f"no solver here takes the noise of {opened.path}")
        return sources

    def _perturbations(self, index: int, data: ImageDataset) -> list[Perturbation]:
        entry = self.entries[index]
        with self.document.blame("perturbations", index):
            if isinstance(entry, CertifyEntry):
                return []
            return _attacks(entry) if isinstance(entry, AttackEntry) else _corruptions(entry, data)

    def _check_distinct(self, cells: Sequence[Cell]) -> None:
        rows: dict[_Row, Cell] = {}
        for cell in cells:
            described = cell.perturbation.describe()
            scoring = (cell.settings.most_draws, cell.settings.rule, cell.settings.seed)
            source = cell.source
            way = (source.sigma, source.solver, source.solver_steps)
            row = (source.name, *way, repr(described), *scoring)
            if row in rows:
                raise self.document.error(
                    ("perturbations",), f"{cell.label!r} is there twice, and tables could not tell them apart"
                )
            rows[row] = cell


def _certified(source: Source, entries: Sequence[SuiteEntry], seed: int, rows: int) -> list[CertifyCell]:
    """Make the cells of a source that are certified; a source without noise on the image has none."""
    if source.smoothing is None:
        return []
    asked = [entry for entry in entries if isinstance(entry, CertifyEntry)]
    return [CertifyCell.of(source, one) for entry in asked for one in entry.settings(seed, rows)]


def _can_be_made(perturbation: Perturbation, source: Source) -> bool:
    """Whether the solver that an attack is made on takes the noise of the checkpoint."""
    return not isinstance(perturbation, OtherSolver) or accepts_noise(perturbation.on_solver, source.kinds)


def _checked(kind: type[_S], document: Document, place: Place) -> _S:
    """The part of the document at `place` as a `kind`."""
    content = document.content
    for part in place:
        content = content[part]  # type: ignore[index]
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        found = (*place, *problem["loc"])
        if problem["type"] == "extra_forbidden":
            unknown = unknown_name("key", str(found[-1]), kind.model_fields)
            raise document.error(found, str(unknown)) from error
        raise document.error(found, str(first_problem(error))) from error


def _entry(document: Document, index: int, content: dict[str, object]) -> Entry:
    place = ("perturbations", index)
    if sum(key in content for key in ("attack", "corruption", "certify")) != 1:
        raise document.error(place, "an entry has one of the keys 'attack', 'corruption' and 'certify'")
    if "corruption" in content:
        return _checked(CorruptionEntry, document, place)
    if "certify" in content:
        certify = _checked(CertifyEntry, document, place)
        with document.blame(*place):
            certify.settings(0, 1)
        return certify
    entry = _checked(AttackEntry, document, place)
    for name in entry.attack:
        with document.blame(*place, "attack"):
            known = attack_kind(name).parameters()
        for key in entry.parameters:
            if key not in known:
                unknown = unknown_name("key", key, [*known, *AttackEntry.model_fields])
                raise document.error((*place, key), str(unknown))
    return entry


def _points(spec: SuiteSpec, entry: Entry) -> int:
    """Count the cells that an entry asks for; a name that stands for several counts as one."""
    if isinstance(entry, AttackEntry):
        own = len(entry.attack) * len(entry.norm) * len(entry.eps or [None])
    elif isinstance(entry, CertifyEntry):
        own = len(entry.certify) * len(entry.draws)
    else:
        own = len(entry.corruption) * len(entry.severity)
    grids = ("sigma", "solver", "solver_steps", "smoothing", "score_draws")
    sizes = [len(getattr(entry, grid) or getattr(spec, grid)) for grid in grids]
    return own * math.prod(sizes) * len(spec.rules) * len(spec.seeds)


def _attacks(entry: AttackEntry) -> list[Perturbation]:
    made: list[Perturbation] = []
    for name in entry.attack:
        budgets = entry.eps
        if budgets is None:
            if not attack_kind(name).minimal:
                raise BenchError(f"{name} needs budgets, as eps: [0, 4/255, 8/255]")
            budgets = (None,)
        for norm in entry.norm:
            made += plan_attacks([name], norm, budgets, {}, {name: entry.parameters})
    return made


def _corruptions(entry: CorruptionEntry, data: ImageDataset) -> list[Perturbation]:
    names = ",".join(entry.corruption)
    if entry.official is not None:
        return stored_corruptions(open_official(entry.official), data, names, entry.severity)
    frost_dir = None if entry.frost_dir is None else Path(entry.frost_dir)
    return make_corruptions(names, entry.severity, family=entry.family, frost_dir=frost_dir)
