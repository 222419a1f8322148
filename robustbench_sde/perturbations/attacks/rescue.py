"""Images whose gradients are zero: their attack goes on without gradients."""

from dataclasses import replace

import torch
from torch import Tensor

from robustbench_sde.models.probabilities import log_probabilities
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.attacks.square import Square
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.attacks.worst import Worst
from robustbench_sde.perturbations.base import Batch, Perturbed
from robustbench_sde.sde.draws import Draws, KeyedRandom, Stream

#: Place of its draws in the `attack` stream; no restart comes near it.
_RESTART = 2**28


def go_on_by_square(
    attack: Attack,
    model: RandomClassifier,
    batch: Batch,
    perturbed: Perturbed,
    dead: Tensor,
    *,
    seed: int,
    rows: int,
) -> Perturbed:
    """Attack some images by `square` as well; each keeps its worse point, by the select draws.

    Args:
        attack: what made `perturbed`, with a budget.
        model: the classifier that was attacked.
        batch: all images of the attack.
        perturbed: what it made of them.
        dead: (n,) int64 on the CPU, positions of the images that had no gradient to follow.
        seed: seed of all randomness.
        rows: at most so many folded rows in one pass.
    """
    part = batch.only(dead)
    here = dead.to(batch.images.device)
    aim, passes = attack.aim(model, part, seed=seed)
    square = Square(norm=attack.norm, eps=attack.eps, eot_draws=attack.eot_draws)
    victim = Victim(model, part, seed=seed, eot_draws=square.eot_draws, restart=_RESTART, rows=rows, aim=aim)
    start = KeyedRandom(seed, Stream.ATTACK, f"start/{square.label}")
    found = square.run(victim, part.images, start, 0)
    worst = Worst(part, passes)
    worst.count(victim)
    draws = Draws(seed, Stream.SELECT, range(attack.select_draws))
    for name, images in (("", perturbed.images[here]), (square.label, found)):
        log_probs = log_probabilities(model, images, part.ids, draws, rows=rows)
        margin, _ = aim.margin_and_error(log_probs)
        worst.update(name, images, margin, torch.zeros_like(margin, dtype=torch.bool), passes=len(log_probs))
    best = worst.result(0)
    chosen = list(perturbed.chosen or (attack.label,) * len(batch))
    for row, name in zip(dead.tolist(), best.chosen, strict=True):
        chosen[row] = name or chosen[row]
    return replace(
        perturbed,
        images=perturbed.images.index_copy(0, here, best.images),
        forward_passes=perturbed.forward_passes.index_add(0, dead, best.forward_passes),
        chosen=tuple(chosen),
    )
