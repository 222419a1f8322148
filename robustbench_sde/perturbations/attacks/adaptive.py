"""Choose how many draws the gradient of each image needs: `eot_draws="auto"`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.looks import Aim
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch, Perturbed, joined_targets
from robustbench_sde.perturbations.norms import Ball

#: Cosine between two independent estimates of the gradient that is enough.
AGREEMENT = 0.9
#: Draws that an image may get: powers of two from the first to the last.
FEWEST, MOST = 2, 64
#: Draws of the pilot at each of its points.
PILOT = 8
#: The pilot's place in the `attack` stream; no restart comes near it.
_RESTART = 2**29


def pilot_passes(ball: Ball | None) -> int:
    """Passes that `draws_needed` takes for an image."""
    return PILOT if ball is None else 2 * PILOT


def draws_needed(
    model: RandomClassifier, batch: Batch, aim: Aim, ball: Ball | None, *, seed: int
) -> tuple[Tensor, int]:
    """Count the draws that the gradient of each image needs, (B,) on the CPU; also the passes this took.

    The gradient of n pairs of draws is its expectation m with noise of variance V / n on top, so that two of
    them have the expected cosine |m|^2 / (|m|^2 + V / n). A pilot of single draws estimates |m|^2 and the
    variance V of a pair at the image and, where there is a ball, after one full step in it; the point that
    needs more decides.
    """
    victim = Victim(model, batch, seed=seed, eot_draws=1, restart=_RESTART, rows=len(batch), aim=aim)
    gradients = victim.gradients_of_draws(batch.images, 0, PILOT)
    needed = _enough(gradients)
    if ball is not None:
        step = ball.eps * ball.norm.steepest(gradients.mean(0))
        moved = ball.project(batch.images, batch.images + step)
        needed = needed.maximum(_enough(victim.gradients_of_draws(moved, PILOT, PILOT)))
    return needed.cpu(), int(victim.backward_passes.max())


def _enough(gradients: Tensor) -> Tensor:
    """Find the power of two for which the expected cosine is `AGREEMENT`: (draws, B, ...) to (B,).

    Two consecutive draws are a pair, so that the number is even.
    """
    flat: Tensor = gradients.flatten(2).unflatten(0, (-1, 2)).mean(1)
    noise = flat.var(0).sum(1)
    signal = (flat.mean(0).square().sum(1) - noise / len(flat)).clamp_min(0)
    draws = 2 * AGREEMENT / (1 - AGREEMENT) * noise / signal
    powers = draws.nan_to_num(MOST).clamp(FEWEST, MOST).log2().ceil()
    return (2**powers).long()


def merged(parts: Sequence[tuple[Tensor, Perturbed]], *, forward: int, backward: int) -> Perturbed:
    """Join parts of a batch, each with the positions of its images; every image gets more passes."""
    where = torch.cat([rows for rows, _ in parts])
    back = where.argsort()

    def whole(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for _, part in parts])[
            back.to(getattr(parts[0][1], name).device)
        ]

    chosen = [name for _, part in parts for name in part.chosen]
    targets = joined_targets([part for _, part in parts])
    return Perturbed(
        whole("images"),
        whole("forward_passes") + forward,
        whole("backward_passes") + backward,
        whole("eot_draws"),
        tuple(chosen[row] for row in back.tolist()) if chosen else (),
        gradients=whole("counted"),
        margins=None if parts[0][1].margins is None else whole("margins"),
        targets=None if targets is None else targets[back],
    )
