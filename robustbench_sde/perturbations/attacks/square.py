"""Square Attack (Andriushchenko et al., ECCV 2020): random search by squares, without any gradient."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import BudgetAttack
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, NotNegative
from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.victim import CONFIRM_DRAWS, Victim
from robustbench_sde.perturbations.norms import Ball, per_image
from robustbench_sde.sde.draws import KeyedRandom

#: Queries, of 10,000, at which the side of the squares shrinks.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True, kw_only=True)
class Square(BudgetAttack):
    """Random search over squares, a black-box attack that uses only probabilities.

    A change is accepted if it lowers the mean margin. On a random model the best point so far is evaluated
    again on the draws of the new point. An image is finished once its best point is misclassified by `z`
    standard errors, and again over fresh draws.
    """

    name = "square"
    gradients = False

    #: number of queries
    steps: AtLeastOne = 500
    #: share of the pixels that the first squares cover
    share: float = 0.8
    #: number of standard errors by which an image must be misclassified before it is finished
    z: NotNegative = 3.0
    #: number of fresh draws that confirm that an image is misclassified
    confirm: AtLeastOne = CONFIRM_DRAWS

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise BenchError(f"`share` is {self.share}; it must be above 0 and at most 1")

    def gradients_per_step(self, model: RandomClassifier) -> int:
        return 2 if model.stochastic else 1  # the incumbent is looked at again, on the challenger's draws

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        proposal = _Linf(ball) if ball.norm.name == "linf" else _L2(ball)
        result = proposal.first(images, _Numbers(start, victim.ids, restart * (self.steps + 1), images))
        active = torch.arange(len(images), device=images.device)
        margin = torch.full((len(images),), math.inf, device=images.device)
        for query in range(1, self.steps + 1):
            part = victim.only(active)
            x, clean = result[active], images[active]
            step = query * (1 + victim.steps_of(self.confirm))
            if victim.stochastic or query == 1:
                look = part.look(x, step)
                margin[active] = look.margin
                done = part.confirmed(x, look, step + 1, partial(Look.fooled, z=self.z), self.confirm)
                left = (~done).nonzero()[:, 0]
                active, x, clean, part = active[left], x[left], clean[left], part.only(left)
                if not len(active):
                    break
            numbers = _Numbers(start, part.ids, restart * (self.steps + 1) + query, images)
            side = _side(self.share, query, self.steps, images)
            challenger = proposal.next(clean, x, side, numbers)
            value = part.look(challenger, step).margin
            better = value < margin[active]
            result[active] = torch.where(per_image(better), challenger, x)
            margin[active] = torch.where(better, value, margin[active])
            if not victim.stochastic:
                active = active[margin[active] >= 0]
            if not len(active):
                break
        return result


def _side(share: float, query: int, queries: int, images: Tensor) -> int:
    """Return the side of the squares at a query; their area is halved at the published queries."""
    reached = 10_000 * query / queries
    covered = share / 2 ** sum(reached > halving for halving in _HALVINGS)
    height, width = images.shape[2:]
    side = round(math.sqrt(covered * height * width))
    return max(1, min(side, min(height, width) - 1))


class _Numbers:
    """The random numbers of one query, by image."""

    def __init__(self, start: KeyedRandom, ids: Tensor, draw: int, like: Tensor) -> None:
        self._start, self._ids, self._draw, self._like = start, ids, draw, like

    def uniforms(self, *shape: int) -> Tensor:
        """Return (B, *shape) numbers in [0, 1); call it once for each query."""
        return self._start.uniforms(self._ids, shape, draw=self._draw).to(self._like)


def _signs(uniforms: Tensor) -> Tensor:
    return torch.where(uniforms < 0.5, -1.0, 1.0)


def _window(corners: Tensor, side: int, images: Tensor) -> Tensor:
    """(B, 1, H, W) bool: a square in each image, its corner from two uniforms (B, 2)."""
    spans = []
    for axis, length in enumerate(images.shape[2:]):
        first = (corners[:, axis] * (length - side + 1)).floor()[:, None]
        position = torch.arange(length, device=images.device)
        spans.append((position >= first) & (position < first + side))
    return (spans[0][:, :, None] & spans[1][:, None, :])[:, None]


class _Linf:
    """Stripes first, then squares of +-eps in each channel."""

    def __init__(self, ball: Ball) -> None:
        self._ball = ball

    def first(self, images: Tensor, numbers: _Numbers) -> Tensor:
        """Return the images with vertical stripes of +-eps."""
        signs = _signs(numbers.uniforms(images.shape[1], 1, images.shape[3]))
        return self._ball.project(images, images + self._ball.eps * signs)

    def next(self, clean: Tensor, x: Tensor, side: int, numbers: _Numbers) -> Tensor:
        """Return `x` with a square of `clean` +- eps; if it would change nothing, its signs are reversed."""
        uniforms = numbers.uniforms(2 + x.shape[1])
        window = _window(uniforms[:, :2], side, x)
        step = self._ball.eps * _signs(uniforms[:, 2:])[:, :, None, None]
        changed = torch.where(window, self._ball.project(clean, clean + step), x)
        turned = torch.where(window, self._ball.project(clean, clean - step), x)
        return torch.where(per_image((changed == x).flatten(1).all(1)), turned, changed)


class _L2:
    """Bumps on a grid first; then the mass of one window moves into a bump in another."""

    def __init__(self, ball: Ball) -> None:
        self._ball = ball

    def first(self, images: Tensor, numbers: _Numbers) -> Tensor:
        """Return the images with a grid of five by five bumps, with a sign for each bump and channel."""
        channels, height, width = images.shape[1:]
        side = max(1, min(height, width) // 5)
        bump = _bump(side, images)
        rows, columns = -(-height // side), -(-width // side)
        signs = _signs(numbers.uniforms(channels, rows, columns))
        grid = torch.kron(signs, bump)[..., :height, :width]
        return self._fill(images, grid)

    def next(self, clean: Tensor, x: Tensor, side: int, numbers: _Numbers) -> Tensor:
        """Apply Algorithm 3 of the paper, with squares of odd side, at least 3 if the image allows it."""
        height, width = x.shape[2:]
        side = min(max(side, 3), height, width)
        side -= 1 - side % 2
        uniforms = numbers.uniforms(4 + x.shape[1])
        target, source = (_window(uniforms[:, k : k + 2], side, x) for k in (0, 2))
        delta = x - clean
        inside = torch.where(target, delta, torch.zeros_like(delta))
        size = inside.flatten(2).norm(dim=2)[:, :, None, None]
        bump = _place(_bump(side, x), target) * _signs(uniforms[:, 4:])[:, :, None, None]
        fresh = bump + inside / size.clamp_min(1e-12)
        fresh = fresh / fresh.flatten(2).norm(dim=2)[:, :, None, None].clamp_min(1e-12)
        both = torch.where(target | source, delta, torch.zeros_like(delta))
        spare = (self._ball.eps**2 - self._ball.norm.size(delta) ** 2).clamp_min(0) / x.shape[1]
        mass = both.flatten(2).square().sum(2)[:, :, None, None] + per_image(spare)
        moved = torch.where(target | source, torch.zeros_like(delta), delta) + fresh * mass.sqrt()
        return self._fill(clean, moved)

    def _fill(self, clean: Tensor, delta: Tensor) -> Tensor:
        """Return the images plus `delta`, scaled to length eps and clipped to [0, 1]."""
        return self._ball.project(clean, clean + self._ball.eps * self._ball.norm.steepest(delta))


def _bump(side: int, like: Tensor) -> Tensor:
    """Two pyramids of opposite sign, one above the other: (side, side) of length 1."""
    half = (side + 1) // 2
    pattern = torch.zeros(side, side, device=like.device)
    for rows, sign in ((range(half), 1.0), (range(half, side), -1.0)):
        if len(rows):
            pattern[rows.start : rows.stop] = sign * _pyramid(len(rows), side, like)
    length: Tensor = pattern.norm()
    return pattern / length


def _pyramid(height: int, width: int, like: Tensor) -> Tensor:
    """Nested rectangles around the middle, the k-th weighted by 1 / (n + 1 - k)^2."""
    row = torch.arange(height, device=like.device)[:, None]
    column = torch.arange(width, device=like.device)[None]
    depth = torch.minimum(torch.minimum(row, height - 1 - row), torch.minimum(column, width - 1 - column))
    deepest = int(depth.max())
    weights = torch.tensor(
        [sum(1 / (deepest + 1 - k) ** 2 for k in range(level + 1)) for level in range(deepest + 1)],
        device=like.device,
    )
    pyramid: Tensor = weights[depth]
    return pyramid


def _place(pattern: Tensor, window: Tensor) -> Tensor:
    """`pattern` (side, side) put into the window of each image: (B, 1, H, W)."""
    flat = torch.zeros(window.shape, device=window.device)
    # the window of an image lists its entries row by row, as the pattern does
    flat[window] = pattern.flatten().repeat(len(window))
    return flat
