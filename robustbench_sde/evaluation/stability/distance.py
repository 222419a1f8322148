"""Measure how far solves from perturbed images are from that of the clean image, on one Brownian path."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustbench_sde.evaluation.stability.linear import norms
from robustbench_sde.sde.draws import Draws
from robustbench_sde.sde.integrate import Equation

#: Function of images, their ids and draws that returns the starts and equations of a pass
#: (`Classifier.chains`).
Chains = Callable[[Tensor, Tensor, Draws], list[tuple[Tensor, list[Equation]]]]


def distances(chains: Chains, images: Sequence[Tensor], image_ids: Tensor, draws: Draws) -> Tensor:
    """Return |h(x)| and |h(x + e) - h(x)| for each perturbation e, at the start and after every step.

    Flows side by side count as one state.

    Args:
        chains: starts and equations of the classifier.
        images: (B, C, H, W) in [0, 1], the clean ones first, then perturbed ones.
        image_ids: (B,) keys of the noise; a perturbed image has the key of its clean image.
        draws: Brownian paths.

    Returns:
        (1 + perturbations, steps + 1, draws, B) float64.
    """
    several = [chains(same, image_ids, draws) for same in images]
    squares = []
    for same in zip(*several, strict=True):
        states = [h0.expand(len(draws), *h0.shape[1:]) for h0, _ in same]
        along = [_squares(states)]
        for equation in same[0][1]:
            for step in equation.walk():
                states = [step(h) for h in states]
                along.append(_squares(states))
        squares.append(torch.stack(along, 1))
    return torch.stack(squares).sum(0).sqrt()


def _squares(states: Sequence[Tensor]) -> Tensor:
    """Return |h|^2 of the first state, then |h' - h|^2 of the others: (1 + perturbations, draws, images)."""
    clean, *others = states
    return torch.stack([norms(clean), *(norms(h - clean) for h in others)]).square()
