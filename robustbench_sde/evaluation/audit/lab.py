"""Make the attacks of an audit: each image once, scored once by every model, where a rule needs it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError, counted
from robustbench_sde.evaluation.audit.compare import (
    FEWEST_IMAGES,
    AttackComparison,
    images_to_try,
    wins_to_warn,
)
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.cell import perturb
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack, Control
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Perturbation
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.sde.draws import Draws, KeyedRandom, Stream


class NotApplicableError(Exception):
    """A rule that has nothing to say about this model, and why."""


class Finding(NamedTuple):
    """Result of a rule: the fields of `evaluation.audit.report.AuditRule` without the name."""

    verdict: AuditVerdict
    message: str
    numbers: dict[str, float | list[float] | str]


@dataclass(frozen=True)
class AuditSettings:
    """The number that is audited: what PGD with these settings leaves, scored like this."""

    norm: str = "linf"
    eps: float = 0.03
    steps: int = 20
    eot_draws: int = 8
    score: ScoreSettings = field(default_factory=ScoreSettings)

    def __str__(self) -> str:
        return (
            f"pgd {self.norm} {self.eps:g}, {counted(self.steps, 'step')}, "
            f"{counted(self.eot_draws, 'draw')} a gradient, "
            f"{counted(self.score.draws, 'score draw')} ({self.score.rule})"
        )


class Lab:
    """A model, its images, and all attacks made so far.

    Raises:
        BenchError: too few images for any comparison to decide, a setting is out of range, or eps is 0.
    """

    def __init__(
        self,
        model: RandomClassifier,
        data: ImageDataset,
        settings: AuditSettings,
        *,
        progress: Progress = SILENT,
    ) -> None:
        if len(data) < FEWEST_IMAGES:
            raise BenchError(f"`images` is {len(data)}; an audit cannot decide on fewer than {FEWEST_IMAGES}")
        if settings.eps == 0:
            raise BenchError("`eps` is 0; an audit needs a budget above that")
        self.model, self.data, self.settings = model, data, settings
        self._progress = progress
        self._made: dict[tuple[Perturbation, RandomClassifier], dict[int, Tensor]] = {}
        self._scored: dict[tuple[Perturbation, RandomClassifier, RandomClassifier], pd.DataFrame] = {}
        self.pgd()  # says what is wrong with the settings

    def pgd(self, **changes: object) -> Attack:
        """Return the attack whose number is audited, with `changes` of its parameters."""
        return self.attack("pgd", **{"steps": self.settings.steps} | changes)

    def beyond_boundaries(self) -> Attack:
        """Return the audited attack as it runs where another model scores its images.

        On a model without noise, `pgd` leaves an image as soon as it has crossed a boundary. A point that has
        only just crossed one says nothing about another model, whose boundary lies a little elsewhere.
        """
        return self.pgd(settle=False)

    def attack(self, name: str, **parameters: object) -> Attack:
        """Make an attack with the norm, budget and draws of the audit; `parameters` win over these."""
        own = self.settings
        shared = {"norm": own.norm, "eps": own.eps, "eot_draws": own.eot_draws}
        return make_attack(name, **shared | parameters)

    @property
    def whole(self) -> float:
        """A budget that reaches every image from every image."""
        return 1.0 if self.settings.norm == "linf" else float(self.data.images[0].numel()) ** 0.5

    @property
    def generous(self) -> float:
        """A budget at which attacks without gradients show what they can: four times eps."""
        return min(4 * self.settings.eps, self.whole)

    def records(
        self,
        perturbation: Perturbation,
        *,
        made_on: RandomClassifier | None = None,
        scored_by: RandomClassifier | None = None,
        rows: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Return the records of `perturbation` (`RECORDS`), made on one model and scored by another.

        Args:
            perturbation: perturbation of the images.
            made_on: model that the images are made on; None: the model that is audited.
            scored_by: model that scores them; None: the model that is audited.
            rows: positions of the images, the index of the result; None: all.

        Raises:
            NotApplicableError: the perturbation needs gradients, and none reaches the images.
            InvalidEvaluationError: an image is not valid, or logits are not finite.
        """
        source, judge = made_on or self.model, scored_by or self.model
        known = self._scored.get((perturbation, source, judge))
        asked = list(range(len(self.data)) if rows is None else rows)
        missing = asked if known is None else sorted(set(asked) - set(known.index))
        if missing:
            data = self.part(missing)
            images = self._images(perturbation, source, missing)
            found = score_records(judge, data, images, self.settings.score).set_axis(missing)
            known = found if known is None else pd.concat([known, found]).sort_index()
            self._scored[perturbation, source, judge] = known
        assert known is not None  # nothing was missing
        return known if len(known) == len(asked) else known.loc[asked]

    def compare(
        self, reference: pd.DataFrame, rival: Perturbation, *, made_on: RandomClassifier | None = None
    ) -> AttackComparison:
        """Compare a rival with the records of an attack on all images, trying it on as few as decide.

        Only images that the attack leaves can be won. The rival is tried on some of them, in random order: on
        so many that a rival that would warn wins none of them with a probability of at most `MISSED`. If it
        wins any, it is tried on all images.
        """
        left = [row for row in self.order if reference["correct"].iloc[row]]
        rows = sorted(left[: images_to_try(len(left), wins_to_warn(len(reference)))])
        records = self.records(rival, made_on=made_on, rows=rows) if rows else reference.iloc[:0]
        if records["correct"].all():
            return AttackComparison.without_wins(reference, len(records))
        return AttackComparison.of(reference, self.records(rival, made_on=made_on))

    @cached_property
    def order(self) -> list[int]:
        """Positions of all images in random order."""
        keyed = KeyedRandom(self.settings.score.seed, Stream.AUDIT, "order")
        order: list[int] = keyed.uniforms(self.data.ids, (1,))[:, 0].argsort().tolist()
        return order

    def part(self, rows: Sequence[int]) -> ImageDataset:
        """Return the images at these positions."""
        return self.data if len(rows) == len(self.data) else self.data.select(self.data.ids[list(rows)])

    def _images(self, perturbation: Perturbation, source: RandomClassifier, rows: Sequence[int]) -> Tensor:
        """Return the perturbed images (n, C, H, W) at these positions."""
        attack = perturbation.attack if isinstance(perturbation, Control) else perturbation
        if isinstance(attack, Attack) and attack.gradients and not self.connected:
            raise NotApplicableError("no gradient reaches the images")
        known = self._made.setdefault((perturbation, source), {})
        if missing := [row for row in rows if row not in known]:
            score, data = self.settings.score, self.part(missing)
            self._progress.start(perturbation.label, len(data))
            made = perturb(
                source, data, perturbation, seed=score.seed, rows=score.rows, progress=self._progress
            )
            known |= dict(zip(missing, made.images, strict=True))
        return torch.stack([known[row] for row in rows])

    @cached_property
    def connected(self) -> bool:
        """Whether any gradient, be it zero, arrives at an image."""
        image = to_float(self.data.images[:1]).to(self.model.device).requires_grad_()
        draw = Draws(self.settings.score.seed, Stream.AUDIT)
        with torch.enable_grad():
            logits = self.model.logits(image, self.data.ids[:1], draw)
            if not logits.requires_grad:
                return False
            (gradient,) = torch.autograd.grad(logits.sum(), image, allow_unused=True)
        return gradient is not None
