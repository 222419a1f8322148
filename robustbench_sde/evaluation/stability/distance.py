"""How far solves from perturbed images stay from that of the clean one, on the same Brownian path."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_sde.evaluation.stability.linear import norms
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.sde.draws import Draws


def distances(model: Classifier, images: Sequence[Tensor], image_ids: Tensor, draws: Draws) -> Tensor:
    """|h(x)| and, for each perturbation e, |h(x + e) - h(x)|, at the start and after every step.

    Flows side by side count as one state.

    Args:
        model: the classifier.
        images: (B, C, H, W) in [0, 1], the clean ones first, then perturbed ones.
        image_ids: keys of the noise, which a perturbed image shares with its clean self.
        draws: the Brownian paths.

    Returns:
        (1 + perturbations, steps + 1, draws, B) float64.
    """
    several = [model.chains(same, image_ids, draws) for same in images]
    squares = []
    for chains in zip(*several, strict=True):
        states = [h0.expand(len(draws), *h0.shape[1:]) for h0, _ in chains]
        along = [_squares(states)]
        for equation in chains[0][1]:
            for step in equation.walk():
                states = [step(h) for h in states]
                along.append(_squares(states))
        squares.append(torch.stack(along, 1))
    return torch.stack(squares).sum(0).sqrt()


def _squares(states: Sequence[Tensor]) -> Tensor:
    """(1 + perturbations, draws, images): |h|^2 of the first, then |h' - h|^2."""
    clean, *others = states
    return torch.stack([norms(clean), *(norms(h - clean) for h in others)]).square()
