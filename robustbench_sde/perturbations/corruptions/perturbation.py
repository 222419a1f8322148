"""Corruptions as perturbations of a cell: made here, or read from a published set."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.data.official import LoadedImages, OfficialSet
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.base import Batch, Perturbation, Perturbed
from robustbench_sde.perturbations.corruptions.apply import corrupt
from robustbench_sde.perturbations.corruptions.frost import PHOTOGRAPHS, check_photographs
from robustbench_sde.perturbations.corruptions.registry import (
    CORRUPTIONS,
    GROUPS,
    find,
    has_severities,
    select,
)
from robustbench_sde.perturbations.corruptions.severities import choose_family
from robustbench_sde.plugins import provider
from robustbench_sde.storage.provenance import file_sha256


class _Graded(Perturbation):
    """A corruption as tables describe it, whoever made the images."""

    corruption: str
    #: 1 to 5; None where there are none
    severity: int | None

    @property
    def label(self) -> str:
        return self.corruption

    def describe(self) -> dict[str, str | float]:
        severity = math.nan if self.severity is None else float(self.severity)
        return super().describe() | {"severity": severity}


@dataclass(frozen=True)
class Corrupted(_Graded):
    """Images under one corruption at one severity.

    Published corruptions are stored as uint8, so images are corrupted as uint8 and truncated, as are those of
    plug-ins. Plain perturbations (`gaussian:0.1`), which are there to be compared with theory, stay floats.
    """

    name = "corruption"

    corruption: str
    #: 1 to 5; None for a plain perturbation
    severity: int | None = None
    #: family of severity parameters; None goes by the size of the images
    family: str | None = None
    #: folder of the original frost photographs; None for synthetic frost
    frost_dir: Path | None = None
    #: hashes of the photographs' bytes: others in a folder of that name are another corruption
    frost_sha256: tuple[str, ...] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        _, parameter = find(self.corruption)
        if parameter is not None and self.severity is not None:
            raise BenchError(f"corruption {self.corruption!r} has a parameter and takes no severity")
        if parameter is None and self.severity not in range(1, 6):
            raise BenchError(f"`severity` is {self.severity}; it must be a whole number from 1 to 5")
        choose_family(self.family, 1)
        if self.frost_dir is not None:
            check_photographs(self.frost_dir)
            object.__setattr__(self, "frost_sha256", tuple(map(file_sha256, self.files())))

    def __repr__(self) -> str:
        """Text that decides the keys of cells: says which photographs are used, not where they are."""
        return (
            f"Corrupted(corruption={self.corruption!r}, severity={self.severity!r}, family={self.family!r}, "
            f"frost_dir={self.frost_sha256!r})"
        )

    @property
    def provider(self) -> str:
        ours = self.corruption in CORRUPTIONS or self.severity is None
        return "" if ours else provider("corruptions", self.corruption)

    def files(self) -> tuple[Path, ...]:
        return () if self.frost_dir is None else tuple(self.frost_dir / name for name in PHOTOGRAPHS)

    def moved(self, places: Mapping[Path, Path]) -> Self:
        return self if self.frost_dir is None else replace(self, frost_dir=places[self.files()[0]].parent)

    def _perturb(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        graded = has_severities(self.corruption)
        images = (batch.images * 255).round().to(torch.uint8) if graded else batch.images
        corrupted = corrupt(
            images,
            self.corruption,
            self.severity or 0,
            image_ids=batch.ids,
            seed=seed,
            family=self.family,
            frost_dir=self.frost_dir,
        )
        return Perturbed.free(to_float(corrupted) if graded else corrupted)


@dataclass(frozen=True)
class Stored(_Graded):
    """Images that a published set holds for one corruption and severity; read batch by batch."""

    name = "stored"

    #: name of the published set: `cifar10-c`
    set: str
    corruption: str
    #: None in a set without severities
    severity: int | None
    #: hash of the images that are used, so that another copy of the set is other work
    fingerprint: str
    source: OfficialSet | LoadedImages = field(repr=False, compare=False)

    def with_images_in_memory(self, ids: Tensor) -> "Stored":
        """Copy it with its images of these ids in memory, for a machine without the files."""
        if isinstance(self.source, LoadedImages):
            return self
        return replace(self, source=self.source.with_images_in_memory(self.corruption, self.severity, ids))

    def _perturb(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        images = self.source.images(self.corruption, self.severity, batch.ids)
        return Perturbed.free(to_float(images.to(batch.images.device)))


def make_corruptions(
    names: str, severities: Sequence[int], *, family: str | None = None, frost_dir: Path | None = None
) -> list[Perturbation]:
    """Every corruption that `names` stands for (see `select`) at every severity; plain ones once.

    Raises:
        BenchError: an unknown name or family, a severity outside 1 to 5, no frost photographs in `frost_dir`.
    """
    if frost_dir is not None:
        check_photographs(frost_dir)
    made: list[Perturbation] = []
    for name in select(names):
        if has_severities(name):
            photographs = frost_dir if name == "frost" else None  # which no other one needs
            made += [Corrupted(name, severity, family, photographs) for severity in severities]
        else:
            made.append(Corrupted(name, None, family))
    return made


def stored_corruptions(
    source: OfficialSet, data: ImageDataset, names: str, severities: Iterable[int]
) -> list[Perturbation]:
    """The corruptions of a published set that `names` stands for, paired by id with the clean images.

    `all` is every corruption in the folder; `benchmark` is the published 15, or all of a set with other ones.
    Of `benchmark` and of groups those that are there are taken; a `BenchWarning` names the others.

    Raises:
        BenchError: a named one, or a whole group, is not in the folder, a file is damaged, or its labels are
            not those of `data`.
    """
    source, present = source.beside(data), source.corruptions
    wanted: list[str] = []
    missing: list[str] = []
    for word in map(str.strip, names.split(",")):
        everything = word == "all" or (word == "benchmark" and not source.severities)
        members = list(present) if everything else [word] if word in present else select(word)
        there = [name for name in members if name in present] if word in ("benchmark", *GROUPS) else members
        if not there:
            raise BenchError(
                f"{source.folder} has none of {word!r}; `corruptions` takes what it has: {', '.join(present)}"
            )
        wanted += there
        missing += [name for name in members if name not in there]
    if missing:
        warnings.warn(
            f"{source.folder} has no {', '.join(dict.fromkeys(missing))}: the others of {names!r} are taken, "
            "whose mean is not that of the published benchmark",
            BenchWarning,
            3,
        )
    made: list[Perturbation] = []
    for name in dict.fromkeys(wanted):
        for severity in severities if source.severities else (None,):
            source.check(name, severity, data)
            mark = source.fingerprint(name, severity, data.ids)
            made.append(Stored(source.name, name, severity, mark, source))
    return made
