"""Find out whether the logits of an image depend on more than the image: its neighbours, its place.

Images are run alone and in batches that are reversed, permuted, split and repeated, up to the size of an
attack's. A large difference is refused, and the message says what the logits depend on. A small one, or a
gradient that reaches other images, is what an adaptive solver has: each image then gets a pass of its own.
So it does where only images that an attack could make, dark or noisy ones, act on the others.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from scipy.stats import f
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.modules.adapter import DRAWS_PER_PASS, Interface
from robustbench_sde.models.modules.passes import check_rows
from robustbench_sde.models.modules.probe import Probe, distance, weighted
from robustbench_sde.sde.draws import KeyedRandom, Stream

#: Images in a batch of the examination, rows in the largest one, and the most numbers that may have.
_BATCH, _ATTACK_ROWS, _MOST_NUMBERS = 64, 256, 2**24
#: Places of the batch whose images are run alone as well, and images of a gradient test.
_ALONE, _GRADIENTS = 8, 6
#: Differences relative to the largest output: above the first, one image a pass. Above the second, refused:
#: adaptive solvers with a tolerance of 1e-1 were seen to have 2e-2.
_NOTED, _REFUSED = 1e-4, 5e-2
#: Difference that refuses a module with noise of its own, whose passes have one image each anyway.
_REFUSED_UNDER_SEEDS = 1e-2
#: Share of its own gradient that an image may have in another's, which is exactly 0 without a leak.
_LEAK = 1e-9
#: Passes that show whether the rows of one share noise, and the false alarm rate of that (it costs speed).
_PASSES, _ALPHA = 32, 1e-5


@dataclass(frozen=True)
class Batching:
    """How passes of a module are to be made up."""

    #: reason to give each image a pass of its own; empty if batches are safe
    alone: str = ""
    #: change that other images make to logits or gradients, relative to the largest; NaN: none
    amount: float = math.nan
    #: True if the rows of a pass share noise
    shared: bool = False

    def apply(self, interface: Interface) -> Interface:
        """Return the interface with these passes."""
        opaque = interface.noise == "opaque"
        size = 1 if opaque and (self.shared or self.alone) else interface.draws_per_pass
        return replace(interface, alone=bool(self.alone), draws_per_pass=size, batch_dependence=self.amount)


def check_independence(probe: Probe, interface: Interface) -> Batching:
    """Compare the logits of images in different batches.

    Raises:
        BenchError: the logits of an image depend on the others, on its place or on the size of the batch by
            more than a few per cent of the largest logit, or its noise is the same in every pass.
    """
    opaque = interface.noise == "opaque"
    shared = opaque and _rows_share_noise(probe)
    largest = _under_equal_seeds(probe) if opaque else _in_other_batches(probe)
    if largest > _NOTED:
        reason = f"the logits of an image depend on the images beside it by {largest:.1e}"
        return Batching(reason, largest, shared)
    made_up = _beside_made_up_images(probe, DRAWS_PER_PASS if opaque else _BATCH)
    if made_up > _NOTED:
        reason = f"the logits of an image depend on dark or noisy images beside it by {made_up:.1e}"
        return Batching(reason, made_up, shared)
    leak = _gradient_leak(probe)
    if leak > _LEAK:
        reason = f"the gradient of an image's logits reaches the images beside it (by {leak:.1e} of its own)"
        return Batching(reason, leak, shared)
    return Batching(shared=shared)


def _in_other_batches(probe: Probe) -> float:
    """Return the largest difference between arrangements; the noise of a module is none or keyed."""
    images = probe.images(_BATCH)
    count = len(images)
    ids = torch.arange(count)
    whole = _run(probe, images, ids)
    largest = 0.0
    for position in _spread(count):
        one = slice(position, position + 1)
        alone = _run(probe, images[one], ids[one])
        largest = max(largest, distance(alone, whole[one], whole))
    for order in _arrangements(count):
        pieces = [_run(probe, images[piece], piece) for piece in order]
        largest = max(largest, distance(torch.cat(pieces), whole[torch.cat(order)], whole))
    largest = max(largest, _at_attack_size(probe, images, whole))
    if largest > _REFUSED:
        raise BenchError(f"{probe.name}: {_cause(probe, images)} (by {largest:.0%}); {_DEMAND}")
    return largest


_DEMAND = "every image must be classified by itself"


def _arrangements(count: int) -> Iterator[list[Tensor]]:
    """Yield orders of the images, each in the pieces that are run: reversed, permuted, split unevenly."""
    order = torch.arange(count)
    yield [order.flip(0)]
    permuted = KeyedRandom(0, Stream.AUDIT, "examine").permutation(count)
    yield [permuted]
    if count > 3:
        yield list(permuted.flip(0).split([1, 2, count - 3]))
    yield list(order.split(7))


def _at_attack_size(probe: Probe, images: Tensor, whole: Tensor) -> float:
    """Return the largest difference in a batch as large as an attack's, of images repeated; 0 if it fails.

    The images are those of the data set, but nobody has asked for so many rows: memory may not suffice.
    """
    if _ATTACK_ROWS * images[0].numel() > _MOST_NUMBERS:
        return 0.0
    order = torch.arange(_ATTACK_ROWS).flip(0) % len(images)
    try:
        repeated = probe.run(images[order], order)
    except BenchError:
        return 0.0
    check_rows(probe.name, repeated, len(order))
    return distance(repeated, whole[order], whole)


def _run(probe: Probe, images: Tensor, ids: Tensor) -> Tensor:
    outputs = probe.run(images, ids)
    check_rows(probe.name, outputs, len(images))
    return outputs


def _beside_made_up_images(probe: Probe, count: int) -> float:
    """Return by how much every other image changes with what the rest are: images that an attack could make.

    All are in [0, 1]: black, white, of low contrast, and noise. A batch that is scaled by its largest value,
    say, shows nothing where every image of the data has the same. If the module raises, 0.
    """
    images = probe.images(count)
    order = torch.arange(len(images))
    kept = order % 2 == 0
    flat = 0.4 + 0.2 * images
    noise = KeyedRandom(0, Stream.AUDIT, "examine").uniforms(order, images.shape[1:]).to(images)
    largest = 0.0
    for watched in (images, flat):
        found = []
        for others in (images, flat, torch.zeros_like(images), torch.ones_like(images), noise):
            mixed = torch.where(kept.to(images.device).view(-1, 1, 1, 1), watched, others)
            try:
                found.append(probe.run(mixed, order))
            except BenchError:  # nobody has promised to take such images
                continue
        changes = (distance(found[0][kept], other[kept], found[0]) for other in found[1:])
        largest = max(largest, *changes, 0.0)
    return largest


def _cause(probe: Probe, images: Tensor) -> str:
    """Return what the logits of an image depend on, from passes that change one thing at a time."""
    count = len(images)
    order = torch.arange(count)
    whole = probe.run(images, order)
    if count == 1:
        return "the logits of an image depend on the size of the batch"

    def changes(kept: int, others: slice) -> bool:
        """Whether row `kept` changes when these rows become copies of it, at the same place and size."""
        moved = order.clone()
        moved[others] = kept
        return distance(probe.run(images[moved], moved)[kept], whole[kept], whole) > _REFUSED

    before = any(changes(kept, slice(0, kept)) for kept in (count - 1, count // 2) if kept)
    after = any(changes(kept, slice(kept + 1, count)) for kept in (0, count // 2) if kept + 1 < count)
    if before or after:
        where = "beside it" if before and after else "before it" if before else "after it"
        return f"the logits of an image depend on the images {where}"
    copies = probe.run(images[:1].expand_as(images), torch.zeros(count, dtype=torch.int64))
    if distance(copies, copies[:1].expand_as(copies), whole) > _REFUSED:
        return (
            "the logits of an image depend on its place in the batch (noise of a generator that starts anew "
            "in every pass?)"
        )
    return "the logits of an image depend on the size of the batch"


def _under_equal_seeds(probe: Probe) -> float:
    """Return the largest difference that neighbours make to a row of a module with its own noise."""
    images = probe.images(DRAWS_PER_PASS)
    count = len(images)
    largest = 0.0
    for seed, kept in enumerate(sorted({0, count // 2, count - 1})):
        copies = images[kept : kept + 1].expand_as(images)
        one, two = (probe.run(rows, seed=seed) for rows in (images, copies))
        largest = max(largest, distance(one[kept], two[kept], one))
    if largest > _REFUSED_UNDER_SEEDS:
        raise BenchError(
            f"{probe.name}: under equal seeds the logits of an image depend on the images beside it (by "
            f"{largest:.0%}; an average over the wrong axis?); {_DEMAND}"
        )
    return largest


def _rows_share_noise(probe: Probe) -> bool:
    """Whether copies of an image in one pass have noise in common: an analysis of variance.

    Random weights, say. It finds what is a third of the variance or more.

    Raises:
        BenchError: part of the noise belongs to the place in the batch and is the same in every pass.
    """
    copies = probe.images(1).repeat(DRAWS_PER_PASS, 1, 1, 1)
    outputs = torch.stack([probe.run(copies, seed=seed) for seed in range(_PASSES)]).double()
    within = outputs.var(1).mean(0)
    between = DRAWS_PER_PASS * outputs.mean(1).var(0)
    shared = _significant(between, within, _PASSES - 1, _PASSES * (DRAWS_PER_PASS - 1))
    rest = outputs - outputs.mean(0) - outputs.mean(1, keepdim=True) + outputs.mean((0, 1))
    free = (_PASSES - 1) * (DRAWS_PER_PASS - 1)
    places = _PASSES * outputs.mean(0).var(0)
    rounding = (1e-5 * outputs.abs().max()) ** 2
    if _significant(places, rest.square().sum((0, 1)) / free + rounding, DRAWS_PER_PASS - 1, free):
        raise BenchError(
            f"{probe.name}: part of its noise belongs to the place in the batch and is the same in every "
            "pass (a generator that starts anew in forward?); draw it from torch's global generator"
        )
    return shared


def _significant(variance: Tensor, residual: Tensor, free: int, free_residual: int) -> bool:
    """Whether a variance of any class exceeds the residual one by more than chance: an F test."""
    ratio = float(torch.where(variance > 0, variance / residual, 0).max())  # no residual: infinite
    return bool(f.sf(ratio, free, free_residual) * len(variance) < _ALPHA)


def _gradient_leak(probe: Probe) -> float:
    """Return d logit(image i) / d image j relative to d / d image i; 0 without gradient, or if it raises."""
    images = probe.images(_GRADIENTS).requires_grad_()
    if len(images) < 2:
        return 0.0
    try:
        outputs = probe.run(images, gradient=True)
        return max(_reaches_others(outputs, images, kept) for kept in sorted({0, len(images) // 2}))
    except (BenchError, RuntimeError):
        return 0.0


def _reaches_others(outputs: Tensor, images: Tensor, kept: int) -> float:
    if not outputs.requires_grad:
        return 0.0
    with torch.enable_grad():
        score = weighted(outputs[kept])
    (found,) = torch.autograd.grad(score, images, retain_graph=True, allow_unused=True)
    if found is None:
        return 0.0
    sizes = found.nan_to_num(0, 0, 0).flatten(1).abs().amax(1)
    own, others = float(sizes[kept]), float(torch.cat([sizes[:kept], sizes[kept + 1 :]]).max())
    return others / own if own else math.inf if others else 0.0


def _spread(count: int) -> list[int]:
    """Return places over the whole batch, the first and the last among them."""
    return sorted({round(place) for place in torch.linspace(0, count - 1, _ALONE).tolist()})
