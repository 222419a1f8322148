"""Score with as few draws as decide the same (`score_draws="auto"`): stop where more would change nothing."""

import torch
from torch import Tensor

#: Number of draws that every image gets, and the largest number; in between it doubles.
FEWEST, MOST = 8, 256
#: Number of standard errors by which the leading class has to be ahead of every other class.
Z = 3.0


def stages() -> list[range]:
    """Return consecutive ranges of draw indices; after each of them images may be decided."""
    ends = [FEWEST]
    while ends[-1] < MOST:
        ends.append(min(2 * ends[-1], MOST))
    return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def decided(values: Tensor) -> Tensor:
    """Whether the class that leads over these draws is sure to lead over the first `MOST`: (B,) bool.

    The lead over another class is a mean of n draws; the mean of N draws differs from it by about
    s sqrt(1/n - 1/N), where s is the standard deviation of a draw. The lead must be `Z` times that. One draw
    as bad as possible is added first, because n draws that agree do not show the spread. Draws come in pairs:
    s^2 is twice the variance of the mean of a pair, which is that of a draw if they are independent. How
    often images are decided differently than by all draws: docs/protocol.md.

    Args:
        values: (n, B, classes) in [0, 1], whose mean over draws decides: probabilities, or votes; n is even,
            and two consecutive draws are a pair.
    """
    count = len(values)
    if count >= MOST:
        return torch.ones(values.shape[1], dtype=torch.bool)
    values = values.double()
    leader = values.mean(0).argmax(1)
    lead = values.gather(2, leader.expand(count, -1)[..., None]) - values
    of_pairs = 2 * lead.unflatten(0, (-1, 2)).mean(1).var(0) * (count - 1) / count
    mean = (lead.sum(0) - 1) / (count + 1)
    variance = (of_pairs + (lead.mean(0) + 1).square() / (count + 1)) * count / (count + 1)
    ahead = mean > Z * (variance * (1 / count - 1 / MOST)).sqrt()
    sure: Tensor = ahead.scatter(1, leader[:, None], True).all(1)
    return sure
