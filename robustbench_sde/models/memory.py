"""How much memory a gradient takes, and how many rows (images x draws) fit into what there is."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError, counted
from robustbench_sde.limits import memory_left
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.sde.draws import Draws, Stream

#: Share of the memory that is counted on. Graphs were seen to take up to 1.7 times what they keep: what they
#: are made of in passing, and the holes that glibc leaves between aligned blocks (benchmarks/memory.py).
_SHARE = 0.5
#: copies of its images in float32 that an attack keeps, whatever the network keeps itself, and those that
#: other work keeps; seen with images of 3x3000x3000 (docs/scale.md)
_COPIES_OF_ATTACK, _COPIES = 16, 10
#: images that an attack holds for each row (`Attack.images_per_batch`)
_IMAGES_PER_ROW = 4


def rows_that_fit(model: RandomClassifier, limit: int | None = None, share: float = 1.0) -> int | None:
    """Return how many rows the graph of a gradient may have, a power of two; None if unknown.

    Args:
        model: the classifier; of one that is not ours only the images are known, so that large ones come in
            smaller batches.
        limit: bytes that the whole process may take; None: what is free.
        share: of that, where other processes do the same at the same time.
    """
    budget, network = memory_budget(model.device, limit), model.built_in
    if budget is None:
        return None
    if network is None:
        whole = _IMAGES_PER_ROW * bytes_of_images(model.image_shape, 1, is_attack=True)
        return 1 << max(0, int(share * budget / whole).bit_length() - 1)
    return 1 << max(0, int(_SHARE * share * budget / bytes_per_row(network)).bit_length() - 1)


def bytes_of_images(shape: Sequence[int], count: int, *, is_attack: bool) -> int:
    """Return the bytes that so many images of a shape take while they are perturbed or scored."""
    return (_COPIES_OF_ATTACK if is_attack else _COPIES) * 4 * math.prod(shape) * count


def check_images_fit(
    shape: Sequence[int], count: int, what: str, budget: int | None, *, is_attack: bool
) -> None:
    """Refuse work on images that are too large for the memory, before the system ends the process.

    Args:
        shape: (C, H, W) of an image.
        count: number of images in the smallest batch.
        what: the work in words.
        budget: bytes that there are; None: nobody knows.
        is_attack: whether the images are attacked.

    Raises:
        BenchError: there is too little memory for the smallest batch.
    """
    needed = bytes_of_images(shape, count, is_attack=is_attack)
    if budget is not None and needed > budget:
        raise BenchError(
            f"{what} takes about {needed / 1e9:.1f} GB for {counted(count, 'image')} of "
            f"{'x'.join(map(str, shape))}, and there are {budget / 1e9:.1f} GB; give fewer, or smaller ones "
            "by `image_size`"
        )


def bytes_per_row(model: Classifier) -> int:
    """Return the bytes that the graph of a gradient keeps for one image and draw, without weights.

    Found by such a pass, so that it holds for every architecture, noise and solver.
    """
    weights = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold the graph that holds it, for ever

    image = torch.full((1, *model.image_shape), 0.5, device=model.device, requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = model.with_recomputation(False).logits(image, [0], Draws(0, Stream.AUDIT))
    del logits  # till here all that was noted was alive, and no address was used twice
    return sum(size for address, size in kept.items() if address not in weights)


@cache
def memory_budget(device: torch.device, limit: int | None) -> int | None:
    """Bytes that passes may take on a device; None where nobody knows.

    Asked once a process: what it has freed since, it may have kept.
    """
    free, used = _free_and_used(device)
    left = None if limit is None or used is None else max(0, limit - used)
    known = [size for size in (free, left) if size is not None]
    return min(known) if known else None


def _free_and_used(device: torch.device) -> tuple[int | None, int | None]:
    """Bytes that are left on a device, and that this process has taken there."""
    if device.type == "cuda":
        used = torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - used, used
    if device.type == "mps":
        used = torch.mps.current_allocated_memory()
        return torch.mps.recommended_max_memory() - used, used
    left = (_sizes("/proc/meminfo").get("MemAvailable"), memory_left())
    free = min((size for size in left if size is not None), default=None)
    return free, _sizes("/proc/self/status").get("VmRSS")


def _sizes(name: str) -> dict[str, int]:
    """Sizes in a file of /proc, ``Name:  123 kB``, in bytes; none where there is no such file."""
    path = Path(name)
    lines = path.read_text().splitlines() if path.exists() else []
    words = (line.split() for line in lines if line.endswith(" kB"))
    return {label.rstrip(":"): int(size) * 1024 for label, size, _ in words}
