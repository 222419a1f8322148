"""Base classes of attacks: a norm, a budget, draws and restarts around one update rule."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.adaptive import draws_needed, merged, pilot_passes
from robustbench_sde.perturbations.attacks.judged import judge
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, check_limits
from robustbench_sde.perturbations.attacks.looks import Aim
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.attacks.worst import Worst
from robustbench_sde.perturbations.base import Batch, Perturbation, Perturbed
from robustbench_sde.perturbations.norms import Ball, get_norm
from robustbench_sde.plugins import provider
from robustbench_sde.sde.draws import KeyedRandom, Stream
from robustbench_sde.storage.schema import GRADIENT_SIGNS

if TYPE_CHECKING:
    from robustbench_sde.perturbations.attacks.opening import Opening

#: Signs of gradients that cannot be followed at all.
_DEAD = ("zero", "misleading")
#: Images that an attack takes at a time if a pass has room for fewer, with all their draws.
_TOGETHER = 64


@dataclass(frozen=True, kw_only=True)
class Attack(Perturbation):
    """An attack on the expected decision of a random classifier: one update rule, or several in turn.

    Restarts are independent runs. For each image the worst point over all restarts and members is selected
    on the `select` stream, whose draws neither the attack nor the scoring uses (docs/protocol.md).
    """

    #: norms that the attack supports; the first is the default
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    #: whether the attack looks for the smallest perturbation; then `eps` is only an upper limit
    minimal: ClassVar[bool] = False
    #: whether, if it is `minimal`, the steps that a call gives to all of its attacks are not for it
    keeps_steps: ClassVar[bool] = True
    #: False for a black box, which takes no backward pass
    gradients: ClassVar[bool] = True

    #: norm of the perturbation, `linf` or `l2`; empty: the first norm that the attack supports
    norm: str = ""
    #: budget, in units of images in [0, 1]; None for the smallest perturbation that an attack can find
    eps: float | None = None
    #: number of gradient steps, or of queries of a black box
    steps: AtLeastOne = 20
    #: number of fresh draws averaged in every gradient
    eot_draws: AtLeastOne = 8
    #: whether each image gets as many draws as its gradient needs, instead of `eot_draws`; `eot_draws` auto
    #: sets this. Not used if estimating the number would take more than a quarter of `passes`
    adaptive_draws: bool = False
    #: number of independent runs, of which the worst counts for each image
    restarts: AtLeastOne = 1
    #: number of draws that select the worst restart
    select_draws: AtLeastOne = 32
    #: largest number of gradient passes for an image, counting each draw; `steps` is reduced to fit. None: no
    #: limit. A black box takes no gradient passes and has no limit.
    passes: AtLeastOne | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", self.norm or self.norms[0])
        get_norm(self.norm)
        if self.norm not in self.norms:
            raise BenchError(f"{self.name} has no norm {self.norm}; it takes {' or '.join(self.norms)}")
        largest = 1.0 if self.norm == "linf" else 1e4
        if self.eps is not None and not 0 <= self.eps <= largest:
            raise BenchError(f"`eps` is {self.eps}; for {self.norm} it must be between 0 and {largest:g}")
        if self.eps is None and not self.minimal:
            raise BenchError(f"{self.name} needs a budget: give `eps`")
        check_limits(self)

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """Return the default of every parameter that can be set."""
        return {field.name: field.default for field in fields(cls) if field.init}

    def __str__(self) -> str:
        budget = "" if self.eps is None else f" {self.eps:g}"
        return f"{self.label} {self.norm}{budget}"

    def describe(self) -> dict[str, str | float]:
        eps = math.nan if self.eps is None else self.eps
        return super().describe() | {"norm": self.norm, "eps": eps}

    @property
    def attack_steps(self) -> float:
        return float(self.steps)

    @property
    def budget(self) -> Ball | None:
        return None if self.eps is None else Ball(get_norm(self.norm), self.eps)

    @property
    def provider(self) -> str:
        return "" if type(self).__module__.startswith("robustbench_sde.") else provider("attacks", self.name)

    def draws_per_pass(self, stochastic: bool) -> int:
        return self.eot_draws if stochastic else 1

    def images_per_batch(self, rows: int, stochastic: bool) -> int:
        in_a_pass = super().images_per_batch(rows, stochastic)
        if not self.gradients:
            return in_a_pass
        # more than fit into a pass: while images leave, what is left still fills passes
        return in_a_pass * -(-min(4 * rows, _TOGETHER) // in_a_pass)

    def capped(self, model: RandomClassifier) -> Self:
        """Reduce `steps` so that the attack needs at most `passes` gradient passes.

        Raises:
            BenchError: not even one step fits.
        """
        if self.passes is None or not self.gradients:
            return self
        step = self.draws_per_look(model) * self.restarts * self.gradients_per_step(model)
        if self.passes < step:
            raise BenchError(
                f"{self.label}: a budget of {self.passes} gradient passes is below one step, "
                f"which takes {step}"
            )
        return replace(self, steps=min(self.steps, self.passes // step), passes=None)

    def draws_per_look(self, model: RandomClassifier) -> int:
        """Return the number of draws averaged in each evaluation of the model; 0 if there is none."""
        return self.eot_draws if model.stochastic else 1

    def gradients_per_step(self, model: RandomClassifier) -> int:
        """Return the largest number of gradients (or evaluations of a black box) in each of `steps`."""
        return 1

    def crafted_on(self, model: RandomClassifier) -> RandomClassifier:
        """Return the classifier that is attacked: `model`, unless the attack transfers from another one."""
        return model

    @abstractmethod
    def members(self, model: RandomClassifier) -> Sequence["SingleAttack"]:
        """Return the attacks that run, in this order; an image keeps the worst of their points."""

    def settled(self, margin: Tensor, error: Tensor) -> Tensor:
        """Whether images leave the batch before the next run: (B,) bool.

        Args:
            margin: (B,) margin of the mean probability over the select draws, negative where fooled.
            error: (B,) its standard error.
        """
        return torch.zeros_like(margin, dtype=torch.bool)

    def takes(self, member: "SingleAttack", best: str) -> bool:
        """Whether `member` runs on an image whose worst point so far is of the member with label `best`."""
        return True

    def aim(self, model: RandomClassifier, batch: Batch, *, seed: int) -> tuple[Aim, int]:
        """Return the target class of each image of the batch, and the forward passes that this needed."""
        return Aim.untargeted(batch.labels), 0

    def wanted(self, aim: Aim) -> Tensor | None:
        """Return the target class of each image, (B,); None for an attack without a target."""
        return None

    def opening(self, model: RandomClassifier) -> "Opening | None":
        """Return a cheap attack that runs first and leaves the other images to this one; None without one."""
        return None

    def _perturb(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        model = self.crafted_on(model)
        opening = self.opening(model)
        if opening is None:
            return self._perturb_all(model, batch, seed=seed, rows=rows)
        from robustbench_sde.perturbations.attacks.opening import joined, open_with  # attacks itself

        opened, rest = open_with(opening, self, model, batch, seed=seed, rows=rows)
        if not len(rest):
            return opened
        left = self if self.passes is None else replace(self, passes=max(1, self.passes - opening.passes))
        return joined(opened, left._perturb_all(model, batch.only(rest), seed=seed, rows=rows), rest)

    def _perturb_all(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        """Attack all images of a batch with as many draws as each needs."""
        too_small = self.passes is not None and self.passes < 4 * pilot_passes(self.budget)
        if not (self.adaptive_draws and self.gradients and model.stochastic) or too_small:
            return self.capped(model)._attack(model, batch, seed=seed, rows=rows)
        aim, looked = self.aim(model, batch, seed=seed)
        needed, passes = draws_needed(model, batch, aim, self.budget, seed=seed)
        left = None if self.passes is None else self.passes - passes
        if left is not None:  # never so many draws that less than a quarter of the steps is left
            steps = self.restarts * self.gradients_per_step(model) * -(-self.steps // 4)
            needed = needed.clamp_max(1 << max(0, (left // steps).bit_length() - 1))
        parts = []
        for draws in needed.unique().tolist():
            fixed = replace(self, eot_draws=draws, adaptive_draws=False, passes=left).capped(model)
            pieces = (needed == draws).nonzero()[:, 0].split(max(1, rows // draws))
            parts += [
                (piece, fixed._attack(model, batch.only(piece), seed=seed, rows=rows)) for piece in pieces
            ]
        return merged(parts, forward=looked + passes, backward=passes)

    def _attack(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        perturbed = self._run_members(model, batch, seed=seed, rows=rows)
        zero, misleading = (perturbed.counted[:, GRADIENT_SIGNS.index(f"gradients_{what}")] for what in _DEAD)
        dead = ((zero >= 0.5) | (misleading > 0)).nonzero()[:, 0]
        if not len(dead) or not all(member.gradients for member in self.members(model)):
            return perturbed
        from robustbench_sde.perturbations.attacks.rescue import go_on_without_gradients  # attacks itself

        return go_on_without_gradients(self, model, batch, perturbed, dead, seed=seed, rows=rows)

    def _run_members(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        aim, passes = self.aim(model, batch, seed=seed)
        worst = Worst(batch, passes)
        turns = [(restart, member) for restart in range(self.restarts) for member in self.members(model)]
        for turn, (restart, member) in enumerate(turns):
            active = worst.where(partial(self.takes, member))
            if not len(active):
                continue
            whole = Victim(
                model, batch, seed=seed, eot_draws=member.eot_draws, restart=turn, rows=rows, aim=aim
            )
            victim = whole.only(active)
            here = active.to(batch.images.device)
            start = KeyedRandom(seed, Stream.ATTACK, f"start/{member.label}")
            images = member.run(victim, batch.images[here], start, restart).detach()
            worst.count(whole)
            if len(turns) == 1 and isinstance(self, SingleAttack):  # others may have had an opening
                self._check_defined(worst, batch)
                return self._aimed(worst.only(images, self.draws_per_look(model)), aim)
            seen = judge(
                model, images, victim.ids, aim.only(here), seed=seed, draws=self.select_draws, rows=rows
            )
            worst.health.see(here, seen.defined)
            settled = self.settled(seen.margin, seen.error) | (victim.standing & (self.restarts == 1))
            worst.update(member.label, images, seen.margin, settled, passes=seen.passes, rows=active)
        self._check_defined(worst, batch)
        return self._aimed(worst.result(self.draws_per_look(model)), aim)

    def _check_defined(self, worst: Worst, batch: Batch) -> None:
        """Refuse a number that rests on points which could not be judged; bad gradients are counted instead.

        Raises:
            InvalidEvaluationError: an attack without gradients tried a point whose logits are not finite.
        """
        if not self.gradients and len(undefined := worst.health.undefined):
            raise InvalidEvaluationError(
                f"logits at points that {self.label} tried are not finite for {len(undefined)} of "
                f"{len(batch)} images: image {int(batch.ids[undefined[0]])}"
            )

    def _aimed(self, perturbed: Perturbed, aim: Aim) -> Perturbed:
        targets = self.wanted(aim)
        return perturbed if targets is None else replace(perturbed, targets=targets.cpu())


class SingleAttack(Attack):
    """An attack with one update rule. Subclasses implement `run`."""

    def members(self, model: RandomClassifier) -> Sequence["SingleAttack"]:
        return (self,)

    @abstractmethod
    def run(self, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        """Return perturbed images (B, C, H, W) of one restart.

        Args:
            victim: the model: gradients and margins on `attack` draws.
            images: (B, C, H, W) clean images.
            start: randomness of the attack itself, keyed by image id; pass `draw=restart`.
            restart: index of the restart, from 0.
        """


@dataclass(frozen=True)
class Control(Perturbation):
    """An attack with eps 0 and one step, whose row must equal the row of clean images.

    An attack with several restarts keeps two of them, so that the selection among them is checked as well.
    """

    name = "control"
    changes_images = False

    attack: Attack

    def describe(self) -> dict[str, str | float]:
        return super().describe() | {"norm": self.attack.norm, "eps": 0.0}

    @property
    def budget(self) -> Ball | None:
        return Ball(get_norm(self.attack.norm), 0.0)

    @property
    def provider(self) -> str:
        return self.attack.provider

    def files(self) -> tuple[Path, ...]:
        return self.attack.files()

    def moved(self, places: Mapping[Path, Path]) -> Self:
        return replace(self, attack=self.attack.moved(places))

    def draws_per_pass(self, stochastic: bool) -> int:
        return self.attack.draws_per_pass(stochastic)

    def _perturb(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        powerless = replace(self.attack, eps=0.0, steps=1, restarts=min(2, self.attack.restarts), passes=None)
        return powerless._perturb(model, batch, seed=seed, rows=rows)


class BudgetAttack(SingleAttack):
    """An attack that searches in a ball of given radius. Subclasses implement `run_in`."""

    def run(self, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        assert self.budget is not None  # checked when the attack was made
        return self.run_in(self.budget, victim, images, start, restart)

    @abstractmethod
    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        """Return perturbed images (B, C, H, W) of one restart, all in `ball`; arguments as in `run`."""
