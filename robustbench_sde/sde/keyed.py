"""Keyed numbers that lie on a device as keys and counters, and are made by kernels where they are used."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from robustbench_sde.errors import BenchWarning
from robustbench_sde.sde import philox

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def has_kernels(device: torch.device | str) -> bool:
    """Whether Triton makes kernels for a device: on CUDA, where it is installed and works."""
    import torch

    kind = torch.device(device).type
    return kind == "cuda" and _kernels_run(kind)


@cache
def _kernels_run(device: str) -> bool:
    """Whether a kernel runs on the current GPU. Triton comes with torch for CUDA; it needs a C compiler."""
    import torch

    if importlib.util.find_spec("triton") is None:
        return False
    try:
        rows = KeyedRows(torch.zeros(2, 2, dtype=torch.int64, device=device), 1, 1)
        KeyedNumbers(rows, (1, 1, 16), 0, 0).make()
    except Exception as error:  # of Triton, of the compiler, of the driver
        text = " ".join(str(error).split())[:200]
        message = f"no Triton kernels here, the host makes the noise and passes are slower: {text}"
        warnings.warn(message, BenchWarning, stacklevel=2)
        return False
    return True


@dataclass(frozen=True, eq=False)
class KeyedRows:
    """Key and counters of the rows (draws x images) of a pass, on its device.

    They decide all random numbers of a pass: with other values in the same tensors, the same computation has
    other draws.
    """

    #: (1 + draws * images, 2) int64: the bits of a `philox.Key`, then draw and image of each row; -1 - d
    #: stands for draw d mirrored
    table: Tensor
    draws: int
    images: int

    @classmethod
    def of(
        cls,
        key: philox.Key,
        draws: range,
        image_ids: Sequence[int] | Tensor,
        device: torch.device | str,
        paired: bool = False,
    ) -> KeyedRows:
        """Make the rows of every draw with every image, draw after draw.

        Args:
            key: key of the paths.
            draws: draw indices, 0 to 2**63 - 1.
            image_ids: ids of the images.
            device: device of the table.
            paired: whether draw 2j + 1 is draw 2j mirrored.
        """
        import torch

        listed = image_ids.cpu() if isinstance(image_ids, torch.Tensor) else image_ids
        images = np.asarray(listed, dtype=np.int64)
        table = np.empty((1 + len(draws) * len(images), 2), dtype=np.int64)
        table[0] = key.view("<i8")
        rows = table[1:].reshape(len(draws), len(images), 2)
        indices = np.arange(draws.start, draws.stop, draws.step, dtype=np.int64)
        rows[..., 0] = (np.where(indices % 2 == 1, -indices, indices) if paired else indices)[:, None]
        rows[..., 1] = images
        return cls(torch.from_numpy(table).to(device, non_blocking=True), len(draws), len(images))

    @property
    def key(self) -> Tensor:
        """Key, (2,) int64."""
        return self.table[0]

    @property
    def counters(self) -> Tensor:
        """Draw and image of each row, (draws * images, 2) int64; -1 - d stands for draw d mirrored."""
        return self.table[1:]

    def draws_and_images(self) -> tuple[Tensor, Tensor]:
        """Return the draw and the image in the counter of each row, (rows,) int64 each."""
        draws, images = self.counters.unbind(1)
        return draws ^ (draws >> 63), images

    def mirror(self, law: philox.Law, numbers: Tensor, at: int) -> Tensor:
        """Mirror the numbers of the rows that the table says, in numbers of draws that it names.

        Args:
            law: law of the numbers.
            numbers: float32.
            at: dimension of the rows.
        """
        import torch

        shape = [1] * numbers.ndim
        shape[at] = -1
        return torch.where((self.counters[:, 0] < 0).view(shape), philox.mirrored(law, numbers), numbers)


@dataclass(frozen=True, eq=False)
class KeyedNumbers:
    """The numbers of one noise term in one step, described and not made: (draws, images, ...)."""

    rows: KeyedRows
    #: (draws, images, ...)
    shape: tuple[int, ...]
    #: first block of the step
    first_block: int
    #: flow and term
    site: int
    law: philox.Law = philox.to_normals
    #: number of random words that a number takes
    words: int = 1

    @property
    def size(self) -> int:
        """Number of random numbers of a row."""
        return math.prod(self.shape[2:])

    def make(self) -> Tensor:
        """Generate the numbers: `shape`, float32."""
        made = make_on_device(
            self.rows, self.size, first_block=self.first_block, site=self.site, law=self.law, words=self.words
        )
        return made.reshape(self.shape)


def make_on_device(
    rows: KeyedRows,
    size: int,
    *,
    steps: int = 1,
    first_block: int = 0,
    site: int = 0,
    law: philox.Law = philox.to_normals,
    words: int = 1,
) -> Tensor:
    """Generate the numbers of consecutive steps by kernels: (steps, rows, size) float32.

    Normals and uniforms come from one kernel. For any other law the kernel makes the random words, and
    torch operations turn them into numbers, and mirror those of mirrored draws.

    Args:
        rows: key and counters.
        size: number of random numbers of a row in a step.
        steps, first_block, site: as in the written definition of `sde.philox`; `first_block` is that of the
            first of the steps.
        law: function from random words to numbers.
        words: number of random words that a number takes.
    """
    from robustbench_sde.sde.kernels import numbers

    place = {"steps": steps, "first_block": first_block, "site": site}
    if law in numbers.LAWS:
        return numbers.make_numbers(rows.key, rows.counters, size, law=law, **place)
    whole = -(-size * words // philox.WORDS_PER_BLOCK) * philox.WORDS_PER_BLOCK
    made = law(numbers.make_numbers(rows.key, rows.counters, whole, law=None, **place))[..., :size]
    return rows.mirror(law, made, 1)


#: Random numbers of a step: made, or to be made on the device.
Numbers: TypeAlias = "Tensor | KeyedNumbers"


def made(numbers: Numbers) -> Tensor:
    """Return the numbers of a step as a tensor (draws, images, ...)."""
    return numbers.make() if isinstance(numbers, KeyedNumbers) else numbers
