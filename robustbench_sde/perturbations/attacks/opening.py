"""Cheap first: an attack on the network without its noise, which takes a pass a step, before any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.judged import judge
from robustbench_sde.perturbations.attacks.looks import Aim, Look
from robustbench_sde.perturbations.attacks.pgd import PGD
from robustbench_sde.perturbations.attacks.reach import STANDS
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.attacks.worst import Worst
from robustbench_sde.perturbations.base import Batch, Perturbed
from robustbench_sde.perturbations.norms import per_image
from robustbench_sde.sde.draws import KeyedRandom, Stream

if TYPE_CHECKING:
    from robustbench_sde.perturbations.attacks.base import Attack

#: Steps of an opening, at most.
OPENING_STEPS = 8
#: Name among the members of an attack.
_LABEL = "pgd without noise"
#: Standard errors by which an image must stand.
_Z = 3.0


@dataclass(frozen=True, kw_only=True)
class ToTheEnd(PGD):
    """pgd without noise that lets an image go only once the noise will hardly save it."""

    def _gone(self, victim: Victim, x: Tensor, look: Look, step: int) -> Tensor:
        return look.fooled_for_good(self.z)


@dataclass(frozen=True)
class Opening:
    """An attack on a simpler network, whose points the attacked network confirms."""

    #: the network without its noise
    silent: RandomClassifier
    attack: PGD

    @property
    def passes(self) -> int:
        """Largest number of gradient passes for an image."""
        return self.attack.steps


def open_with(
    opening: Opening, attack: Attack, model: RandomClassifier, batch: Batch, *, seed: int, rows: int
) -> tuple[Perturbed, Tensor]:
    """Run an opening; an image is done if it falls on the `select` draws, or stands with and without noise.

    To stand with the noise, the margin over the `select` draws must not have fallen by more than a share
    1 / `STANDS` at the point where the margin without noise is least.

    Returns:
        The points, and the positions of the images that are not done, (n,) int64 on the CPU.
    """
    victim = Victim(opening.silent, batch, seed=seed, eot_draws=1, restart=0, rows=rows)
    start = KeyedRandom(seed, Stream.ATTACK, "start/opening")
    images = opening.attack.run(victim, batch.images, start, 0)
    worst, aim = Worst(batch, 0), Aim.untargeted(batch.labels)
    worst.count(victim)
    look = partial(judge, model, seed=seed, draws=attack.select_draws, rows=rows)
    seen = look(images, batch.ids, aim)
    done, passes = attack.settled(seen.margin, seen.error), seen.passes
    standing = (victim.standing & ~done).nonzero()[:, 0]
    if len(standing):
        there = standing.cpu()
        part = batch.only(there)
        clean = look(part.images, part.ids, aim.only(standing))
        sure = seen.margin[standing] - _Z * seen.error[standing]
        done[standing] = sure > (1 - 1 / STANDS) * clean.margin
        passes = passes.index_add(0, there, clean.passes)
    worst.update(_LABEL, images, seen.margin, done, passes=passes)
    return worst.result(attack.draws_per_look(model)), worst.active


def joined(opened: Perturbed, made: Perturbed, rest: Tensor) -> Perturbed:
    """Keep the worse point of the images at positions `rest`, (n,) on the CPU, and add the passes."""
    assert opened.margins is not None
    assert made.margins is not None  # both chose among points
    here = rest.to(opened.images.device)
    worse = made.margins < opened.margins[here]
    chosen = list(opened.chosen)
    for row, better, name in zip(rest.tolist(), worse.tolist(), made.chosen, strict=True):
        chosen[row] = name if better else chosen[row]
    images = torch.where(per_image(worse), made.images, opened.images[here])
    return replace(
        opened,
        images=opened.images.index_copy(0, here, images),
        margins=opened.margins.index_copy(0, here, made.margins.minimum(opened.margins[here])),
        forward_passes=opened.forward_passes.index_add(0, rest, made.forward_passes),
        backward_passes=opened.backward_passes.index_add(0, rest, made.backward_passes),
        eot_draws=opened.eot_draws.index_copy(0, rest, made.eot_draws),
        gradients=opened.counted.index_copy(0, rest, made.counted),
        chosen=tuple(chosen),
    )
