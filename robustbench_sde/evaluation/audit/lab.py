"""Make the attacks of an audit: each is made once, and scored once by every model that is asked for."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError, counted
from robustbench_sde.evaluation.audit.compare import FEWEST_IMAGES
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.cell import perturb
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack, Control
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Perturbation
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.sde.draws import Draws, Stream


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
            raise BenchError(f"images is {len(data)}; an audit cannot decide on fewer than {FEWEST_IMAGES}")
        if settings.eps == 0:
            raise BenchError("eps is 0; an audit needs a budget above that")
        self.model, self.data, self.settings = model, data, settings
        self._progress = progress
        self._made: dict[tuple[Perturbation, RandomClassifier], Tensor] = {}
        self._scored: dict[tuple[Perturbation, RandomClassifier, RandomClassifier], pd.DataFrame] = {}
        self.pgd()  # says what is wrong with the settings

    def pgd(self, **changes: object) -> Attack:
        """Return the attack whose number is audited, with `changes` of its parameters."""
        return self.attack("pgd", **{"steps": self.settings.steps} | changes)

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
    ) -> pd.DataFrame:
        """Return the records of `perturbation` (`RECORDS`), made on one model and scored by another.

        Args:
            perturbation: perturbation of the images.
            made_on: model that the images are made on; None: the model that is audited.
            scored_by: model that scores them; None: the model that is audited.

        Raises:
            NotApplicableError: the perturbation needs gradients, and none reaches the images.
            InvalidEvaluationError: an image is not valid, or logits are not finite.
        """
        source, judge = made_on or self.model, scored_by or self.model
        if (perturbation, source, judge) not in self._scored:
            images = self._images(perturbation, source)
            records = score_records(judge, self.data, images, self.settings.score)
            self._scored[perturbation, source, judge] = records
        return self._scored[perturbation, source, judge]

    def _images(self, perturbation: Perturbation, source: RandomClassifier) -> Tensor:
        attack = perturbation.attack if isinstance(perturbation, Control) else perturbation
        if isinstance(attack, Attack) and attack.gradients and not self.connected:
            raise NotApplicableError("no gradient reaches the images")
        if (perturbation, source) not in self._made:
            score = self.settings.score
            self._progress.start(perturbation.label, len(self.data))
            made = perturb(
                source, self.data, perturbation, seed=score.seed, rows=score.rows, progress=self._progress
            )
            self._made[perturbation, source] = made.images
        return self._made[perturbation, source]

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
