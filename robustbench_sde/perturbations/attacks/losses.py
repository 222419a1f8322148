"""Losses of the mean probability, which attacks make large."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustbench_sde.models.probabilities import split_label
from robustbench_sde.perturbations.attacks.health import SATURATED

#: (log of the mean probabilities (B, classes), labels (B,)) to a loss (B,) that an attack makes large
Objective = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return -log of the mean probability of the label, which is the loss of the mean, not the mean loss.

    If it has saturated (`SATURATED`), its gradient vanishes in float32. Then the loss is the log odds
    against the label, log(1 - p) - log p, whose gradient has the same direction and does not vanish. The
    loss of other images does not change in any bit.
    """
    at_label, largest, _ = split_label(log_probs, labels)
    return torch.where(at_label - largest > SATURATED, log_odds_against(log_probs, labels), -at_label)


def log_odds_against(log_probs: Tensor, labels: Tensor) -> Tensor:
    """log(1 - p) - log p of the label's mean probability p: (B, classes) to (B,), exact near 0 and 1."""
    others = log_probs.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    return others - log_probs.gather(1, labels[:, None])[:, 0]


def margin_loss(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return max_{j != y} log p_j - log p_y of the mean probabilities; for one draw the logit difference."""
    at_label, largest, _ = split_label(log_probs, labels)
    return largest - at_label


def part_of(objective: Objective, log_probs: Tensor, classes: Tensor, rows: Tensor) -> Objective:
    """Restrict a loss of all images, whose log-probabilities and classes are given, to some of them."""

    def part(of_rows: Tensor, _: Tensor) -> Tensor:
        return objective(log_probs.index_put((rows,), of_rows), classes)[rows]

    return part


def weights_of_draws(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Compute what each draw's gradient of its loss counts in that of the mean probability p: (draws, B).

    That is p of the draw, up to a factor of the image. Where the loss of a draw has saturated (`SATURATED`),
    its gradient is 1 / (1 - p) times as long, and the draw counts with p (1 - p).

    Args:
        log_probs: (draws, B, classes).
        labels: (B,) classes whose probability it is.
    """
    at_label = log_probs.gather(2, labels.expand(len(log_probs), -1)[..., None])[..., 0]
    others = log_probs.scatter(2, labels.expand(len(log_probs), -1)[..., None], -torch.inf)
    rest, saturated = others.logsumexp(2), at_label - others.amax(2) > SATURATED
    weights = at_label + torch.where(saturated, rest, 0.0)
    largest = torch.where(saturated.any(0), at_label + rest, at_label).amax(0)
    return (weights - largest).exp().nan_to_num(0.0)  # no other class has any probability
