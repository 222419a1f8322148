"""`--score-draws auto`: stop drawing where more draws would decide the same."""

import torch
from torch import Tensor

#: Draws that every image gets, and the most that one may get; in between their number doubles.
FEWEST, MOST = 8, 256
#: Standard errors by which the class that leads has to be ahead of each other.
Z = 3.0


def stages() -> list[range]:
    """Consecutive ranges of draw indices; after each of them images may be decided."""
    ends = [FEWEST]
    while ends[-1] < MOST:
        ends.append(min(2 * ends[-1], MOST))
    return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def decided(values: Tensor) -> Tensor:
    """Whether the class that leads over these draws is sure to lead over the first `MOST`: (B,) bool.

    The lead over another class is a mean of n draws; over N it will be that mean, give or take
    s sqrt(1/n - 1/N) with s the standard deviation of a draw. It has to be `Z` times that. A draw as bad as
    can be is added before it is computed, for what n draws that all agree have not shown. Of images whose
    draws are votes, half of them for either class, six in a thousand are decided otherwise than by all draws;
    of others fewer.

    Args:
        values: (n, B, classes) in [0, 1], whose mean over draws decides: probabilities, or votes.
    """
    count = len(values)
    if count >= MOST:
        return torch.ones(values.shape[1], dtype=torch.bool)
    values = values.double()
    leader = values.mean(0).argmax(1)
    lead = values.gather(2, leader.expand(count, -1)[..., None]) - values
    mean = (lead.sum(0) - 1) / (count + 1)
    variance = (lead.square().sum(0) + 1) / (count + 1) - mean.square()
    ahead = mean > Z * (variance * (1 / count - 1 / MOST)).sqrt()
    return ahead.scatter(1, leader[:, None], True).all(1)
