"""Images whose gradients are zero or misleading: their attack goes on without gradients."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustbench_sde.models.probabilities import log_probabilities
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack, SingleAttack
from robustbench_sde.perturbations.attacks.best import Nearest
from robustbench_sde.perturbations.attacks.hopskipjump import HopSkipJump
from robustbench_sde.perturbations.attacks.square import Square
from robustbench_sde.perturbations.attacks.victim import CONFIRM_DRAWS, Victim
from robustbench_sde.perturbations.attacks.worst import Worst
from robustbench_sde.perturbations.base import Batch, Perturbed
from robustbench_sde.perturbations.norms import get_norm
from robustbench_sde.sde.draws import Draws, KeyedRandom, Stream

#: Index of the restart whose draws of the `attack` stream are used; no restart of an attack has it.
_RESTART = 2**28
#: Fewest draws of a decision of the mean: half of what `hopskipjump` by itself takes.
_DECISIVE = CONFIRM_DRAWS // 2
#: Standard errors by which the margin of a point must be below zero to count, where the nearest is kept.
_SURE = 2.0


def go_on_without_gradients(
    attack: Attack,
    model: RandomClassifier,
    batch: Batch,
    perturbed: Perturbed,
    dead: Tensor,
    *,
    seed: int,
    rows: int,
) -> Perturbed:
    """Attack some images without gradients as well; each keeps its better point, by the select draws.

    With a budget that is `square`, and the better point the one of smaller margin. Without one it is
    `hopskipjump`, which needs decisions only, and the better point the nearer one of those that fool.

    Args:
        attack: attack that made `perturbed`.
        model: classifier that was attacked.
        batch: all images of the attack.
        perturbed: result of the attack.
        dead: (n,) int64 on the CPU, positions of the images without a gradient that is not zero.
        seed: seed of all randomness.
        rows: largest number of folded rows in one pass.
    """
    part = batch.only(dead)
    here = dead.to(batch.images.device)
    aim, passes = attack.aim(model, part, seed=seed)
    substitute: SingleAttack
    if attack.eps is not None:
        substitute = Square(norm=attack.norm, eps=attack.eps, eot_draws=attack.eot_draws)
    else:
        decisive = max(attack.eot_draws, _DECISIVE)
        substitute = HopSkipJump(norm=attack.norm, eot_draws=attack.eot_draws, confirm=decisive)
    victim = Victim(
        model, part, seed=seed, eot_draws=substitute.eot_draws, restart=_RESTART, rows=rows, aim=aim
    )
    start = KeyedRandom(seed, Stream.ATTACK, f"start/{substitute.label}")
    found = substitute.run(victim, part.images, start, 0)
    worst = Worst(part, passes)
    worst.count(victim)
    draws = Draws(seed, Stream.SELECT, range(attack.select_draws))
    points = [("", perturbed.images[here]), (substitute.label, found)]
    looks = []
    for name, images in points:
        log_probs = log_probabilities(model, images, part.ids, draws, rows=rows)
        margin, error = aim.margin_and_error(log_probs)
        looks.append((images, margin, error))
        worst.update(name, images, margin, torch.zeros_like(margin, dtype=torch.bool), passes=len(log_probs))
    best = worst.result(0)
    if attack.eps is None:
        images, names = _nearest(attack.norm, part.images, looks, [name for name, _ in points])
        best = replace(best, images=images, chosen=names)
    margins = perturbed.margins
    if margins is not None and best.margins is not None:
        margins = margins.index_copy(0, here, best.margins)
    chosen = list(perturbed.chosen or (attack.label,) * len(batch))
    for row, name in zip(dead.tolist(), best.chosen, strict=True):
        chosen[row] = name or chosen[row]
    return replace(
        perturbed,
        images=perturbed.images.index_copy(0, here, best.images),
        forward_passes=perturbed.forward_passes.index_add(0, dead, best.forward_passes),
        chosen=tuple(chosen),
        margins=margins,
    )


def _nearest(
    norm: str, clean: Tensor, looks: Sequence[tuple[Tensor, Tensor, Tensor]], names: Sequence[str]
) -> tuple[Tensor, tuple[str, ...]]:
    """Choose among (images, margins, errors) of several attacks the nearest that fool; also who made them."""
    nearest = Nearest(clean)
    by = torch.zeros(len(clean), dtype=torch.int64, device=clean.device)
    for place, (images, margin, error) in enumerate(looks):
        better = nearest.update(
            images, get_norm(norm).size(images - clean), margin, margin + _SURE * error < 0
        )
        by = torch.where(better, place, by)
    return nearest.images, tuple(names[place] for place in by.tolist())
