"""Find out the kind of a module, and which of the usual mistakes are in it (table in docs/your-model.md).

A mistake that makes numbers wrong is an error; what only may do so is a note. Only images of the data set can
refuse a module: where inputs of another scale make it raise, nothing is said.
"""

import hashlib
from dataclasses import replace
from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.models.modules.adapter import Interface, KeyedNoise, Normalisation, evaluating
from robustbench_sde.models.modules.independence import check_independence
from robustbench_sde.models.modules.outputs import ClassMap, shape_fault
from robustbench_sde.models.modules.probe import Probe, distance, weighted
from robustbench_sde.models.modules.randomness import generators_move

#: Images that show what kind of module it is, and at most so many that show how good it is.
_FEW, _MANY = 4, 128
#: Outputs that differ by less, relative to the largest, are the same.
_ROUNDING = 1e-6
#: Outputs with and without gradients that differ by more are those of two networks.
_OTHER_NETWORK = 1e-2
#: False alarm rate of "another normalisation is better", and of "no better than chance".
_BETTER, _CHANCE = 1e-3, 0.05
_IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SCALES = {
    "in [-1, 1]": Normalisation((0.5,), (0.5,)),
    "from 0 to 255": Normalisation((0.0,), (1 / 255,)),
    "with ImageNet's mean and deviation": _IMAGENET,
    "in [0, 1] as they are": Normalisation(),
}


class Examined(NamedTuple):
    """How to evaluate a module, and what its owner should know."""

    interface: Interface
    notes: tuple[str, ...]


def examine(
    module: nn.Module,
    data: ImageDataset,
    *,
    name: str,
    normalisation: Normalisation | None = None,
    classes: int | None = None,
    class_map: ClassMap | None = None,
) -> Examined:
    """Find out what a module does on the first images of `data`.

    Args:
        module: (B, C, H, W) floats to logits (B, classes).
        data: images that it is for; a few are put through it.
        name: what tables call it.
        normalisation: of images in [0, 1], in front of the module.
        classes: number of classes of the module, if it has more than `data`, whose classes are the first.
        class_map: outputs of the module that stand for the classes of `data`.

    Raises:
        BenchError: the module cannot be evaluated as it is; says why.
    """
    if classes is not None and class_map is not None:
        raise BenchError(
            "`classes` is the number of outputs, of which `class_map` takes some: give one of them"
        )
    if classes is not None and classes < data.classes:
        raise BenchError(f"`classes` is {classes}, {data.name} has {data.classes}")
    probe = Probe(
        module,
        data,
        name,
        normalisation or Normalisation(),
        classes or data.classes,
        class_map,
        _dtype(module),
    )
    probe.normalisation.check(data.image_shape[0])
    notes = []
    if module.training:
        notes.append(
            f"{name} was in train(): it is evaluated in eval(). For dropout at test time call eval() and "
            "then train() on those layers"
        )
    with evaluating(module):
        _refuse_batch_norm(probe)
        probe = _typed(probe)
        _check_outputs(probe)
        interface = _interface(probe)
        batching = check_independence(probe, interface)
        interface = batching.apply(interface)
        _check_same_under_gradients(probe)
        notes += [*_gradient(probe), *_accuracy(probe)]
    if batching.alone:
        notes.append(
            f"{name} is batch-dependent: {batching.alone} (an adaptive solver?); each image has a pass of "
            "its own, so that no number depends on the batch"
        )
    if interface.dtype is not None:
        notes.append(
            f"{name} is in {str(interface.dtype).removeprefix('torch.')}: images are given to it as such"
        )
    if interface.noise == "opaque":
        rows = f"{interface.draws_per_pass} draws" if interface.draws_per_pass > 1 else "one draw"
        notes.append(f"{name} has noise of its own (opaque): a pass is {rows} of one image, seeded")
    return Examined(interface, tuple(notes))


def _refuse_batch_norm(probe: Probe) -> None:
    for name, part in probe.module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            raise BenchError(
                f"{probe.name}: BatchNorm {name!r} uses the statistics of the batch, so that the class of an "
                "image depends on the images beside it; call eval() on it"
            )


def _dtype(module: nn.Module) -> torch.dtype | None:
    """Return the type of all parameters that are floats; None if it is float32 or there are several."""
    kinds = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    return kinds.pop() if len(kinds) == 1 and torch.float32 not in kinds else None


def _typed(probe: Probe) -> Probe:
    """Give images in another type to a module only if it refuses them in float32."""
    if probe.dtype is None:
        return probe
    plain = replace(probe, dtype=None)
    try:
        plain.run(probe.images(_FEW))
    except BenchError:
        return probe
    return plain


def _check_outputs(probe: Probe) -> None:
    images = probe.images(_FEW)
    outputs = probe.run(images, mapped=False)
    fits = probe.class_map is not None and outputs.ndim == 2
    fault = shape_fault(
        outputs.shape, len(images), outputs.shape[1] if fits else probe.classes, probe.data.name
    )
    if fault:
        raise BenchError(f"{probe.name} {fault}")
    if probe.class_map is not None:
        probe.class_map.check(outputs.shape[1], probe.data.classes, probe.data.name)
    if not outputs.isfinite().all():
        raise BenchError(f"{probe.name} returns logits that are not finite")
    if bool((outputs >= 0).all()) and torch.allclose(outputs.sum(1), outputs.new_ones(()), atol=1e-3):
        raise BenchError(
            f"{probe.name} returns probabilities: leave the softmax at its end out, or return the "
            "logarithm of what is an average of probabilities; a softmax flattens the gradients that attacks "
            "follow, and would be averaged as logits"
        )


def _interface(probe: Probe) -> Interface:
    """Find out the kind of noise: none if passes agree and draw no numbers, keyed, or that of the seeds."""
    images = probe.images(_FEW)
    first, other, again = (probe.run(images, seed=seed) for seed in (0, 1, 0))
    facts = Interface(
        probe.name,
        probe.data.image_shape,
        probe.classes,
        "none",
        probe.normalisation,
        fingerprint=_fingerprint(first),
        class_map=probe.class_map,
        dtype=probe.dtype,
    )
    same = distance(first, other) <= _ROUNDING
    if isinstance(probe.module, KeyedNoise):
        if not same or probe.draws_numbers(images):
            raise BenchError(f"{probe.name} gets its noise as an argument, but has other randomness as well")
        return replace(facts, noise="keyed")
    if same and not probe.draws_numbers(images) and not generators_move(probe, _FEW):
        return facts
    if distance(first, again) > _ROUNDING or generators_move(probe, _FEW):
        raise BenchError(
            f"{probe.name} is random in a way that the seeds of torch, numpy and Python do not reach (a "
            "torch.Generator of its own, a state that changes): its results could not be reproduced"
        )
    return replace(facts, noise="opaque")


def _fingerprint(outputs: Tensor) -> str:
    """Return a digest of outputs, rounded to a thousandth of the largest: other devices mostly agree."""
    exponent = float(outputs.abs().max().clamp_min(1e-12).log2().ceil())
    levels = (outputs / 2 ** (exponent - 10)).round().flatten().cpu().to(torch.int32)
    return hashlib.sha256(f"{exponent} {levels.tolist()}".encode()).hexdigest()[:16]


def _check_same_under_gradients(probe: Probe) -> None:
    """Raise BenchError if logits differ where gradients are computed: attacks would see another network."""
    images = probe.images(_FEW)
    plain = probe.run(images)
    try:
        watched = probe.run(images.requires_grad_(), gradient=True)
    except BenchError:  # attacks with gradients will say so
        return
    by = distance(plain, watched.detach())
    if by > _OTHER_NETWORK:
        raise BenchError(
            f"{probe.name} returns other logits where gradients are computed (by {by:.0%}): an attack would "
            "see another network than the one that is scored; let nothing in forward depend on grad mode"
        )


def _gradient(probe: Probe) -> list[str]:
    images = probe.images(_FEW).requires_grad_()
    found = None
    try:
        outputs = probe.run(images, gradient=True)
        if outputs.requires_grad:
            with torch.enable_grad():
                score = weighted(outputs)
            (found,) = torch.autograd.grad(score, images, allow_unused=True)
    except (BenchError, RuntimeError):  # a backward pass of somebody's own may raise
        found = None
    if found is not None and bool(found.any()):
        return []
    what = "no gradient" if found is None else "only a gradient of zeros"
    return [
        f"{what} of {probe.name} reaches the images (detach, no_grad, rounding): only attacks without "
        "gradients, square and noise say, mean anything"
    ]


def _accuracy(probe: Probe) -> list[str]:
    """Is it better on inputs of another scale, or as bad as chance?"""
    labels = probe.data.labels[:_MANY]
    images = probe.images(_MANY)

    def right(normalisation: Normalisation) -> Tensor:
        other = replace(probe, normalisation=normalisation)
        outputs = torch.cat([other.run(piece) for piece in images.split(32)]).cpu()
        return (outputs.argmax(1) == labels) & outputs.isfinite().all(1)

    own = right(probe.normalisation)
    better: list[tuple[int, str, Normalisation]] = []
    for scale, normalisation in _SCALES.items():
        if normalisation == probe.normalisation or len(normalisation.mean) not in (1, images.shape[1]):
            continue
        try:
            other = right(normalisation)
        except BenchError:  # inputs that nobody has promised to take: it cannot be told
            continue
        won, lost = int((other & ~own).sum()), int((own & ~other).sum())
        if won > lost and _p(won, won + lost, 0.5) < _BETTER / len(_SCALES):
            better.append((int(other.sum()), scale, normalisation))
    accuracy = f"{int(own.sum())} of {len(own)} clean images are right"
    if better:
        count, scale, normalisation = max(better, key=lambda found: found[0])
        return [f"{probe.name}: {accuracy}, {count} with inputs {scale}: normalize {normalisation}?"]
    if len(own) >= 20 and _p(int(own.sum()), len(own), 1 / probe.classes) > _CHANCE:
        return [f"{probe.name}: {accuracy}, which is chance: untrained, or another order of the classes?"]
    return []


def _p(count: int, of: int, share: float) -> float:
    return float(binomtest(count, of, share, alternative="greater").pvalue)
