"""Keyed noise: a draw is a function of (seed, stream, image id, draw index) alone.

Batch size, order, sharding, resuming and the number of workers change no number (docs/protocol.md).
Nothing here reads or writes a global random state.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor

from robustbench_sde.choices import NoiseBackend
from robustbench_sde.limits import usable_processors
from robustbench_sde.sde import philox, philox_device
from robustbench_sde.sde.keyed import KeyedNumbers, KeyedRows, Numbers, has_kernels, make_on_device

#: Numbers that `BrownianPaths` makes at once, where a step has fewer (4 MiB of float32): enough to outweigh
#: what a call costs, and few enough that the allocator hands out the same memory again.
_CHUNK = 2**20


#: Site of the Gaussian noise that randomised smoothing adds to an image (`models.smoothed`): beyond the
#: sites of all terms of all flows of a network.
SMOOTHING_SITE = 2**48


class Stream(StrEnum):
    """Purpose of random numbers; two streams never share a number."""

    TRAIN = "train"
    #: gradients and progress decisions of an attack
    ATTACK = "attack"
    #: choosing the worst of several attacks or restarts
    SELECT = "select"
    #: the numbers that are reported
    SCORE = "score"
    #: diagnostics that must share nothing with any of the above
    AUDIT = "audit"
    #: counting for a certificate the votes of a class that was picked on `select` draws
    CERTIFY = "certify"

    @property
    def paired(self) -> bool:
        """Whether draw 2j + 1 of a path is draw 2j mirrored (`sde.philox`)."""
        return self in _PAIRED


#: Streams with pairs. Training must not change, and the votes of a certificate must be independent.
_PAIRED = frozenset({Stream.ATTACK, Stream.SELECT, Stream.SCORE})


@dataclass(frozen=True)
class Draws:
    """Realisations of the noise: a range of draw indices of one stream.

    On a paired stream draws 2j and 2j + 1 mirror each other; different pairs are independent. `independent`
    makes draws that have no partner among each other.
    """

    seed: int
    stream: Stream
    indices: range = range(1)

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def independent(cls, seed: int, stream: Stream, first: int, count: int) -> "Draws":
        """Return `count` draws that are independent of each other: of pairs `first` onwards, the even ones.

        On a stream without pairs they are the draws `first` onwards.
        """
        step = 2 if stream.paired else 1
        return cls(seed, stream, range(step * first, step * (first + count), step))

    def chunks(self, size: int) -> Iterator["Draws"]:
        """Cut these draws into consecutive pieces of at most `size`."""
        for start in range(0, len(self), size):
            yield replace(self, indices=self.indices[start : start + size])


@dataclass(frozen=True)
class KeyedRandom:
    """Random numbers by image id, for everything that is not a Brownian path (starts, crops, corruptions).

    `purpose` separates the uses within a stream: two purposes never share a number.
    """

    seed: int
    stream: Stream
    purpose: str

    def uniforms(self, image_ids: Sequence[int] | Tensor, shape: Sequence[int], *, draw: int = 0) -> Tensor:
        """Return uniforms in [0, 1): (images, *shape) float32 on the CPU."""
        return self._numbers(philox.to_uniforms, image_ids, shape, draw)

    def normals(self, image_ids: Sequence[int] | Tensor, shape: Sequence[int], *, draw: int = 0) -> Tensor:
        """Return standard normals: (images, *shape) float32 on the CPU."""
        return self._numbers(philox.to_normals, image_ids, shape, draw)

    def permutation(self, size: int, *, draw: int = 0) -> Tensor:
        """Return a random order of range(size), the same for all images: (size,) int64."""
        words = philox.words(self._key, [(draw, 0)], -(-size // 4))
        return torch.from_numpy(words.view("<u8")[0, :size].argsort(kind="stable"))

    def words(self, image_ids: Sequence[int] | Tensor, size: int, *, draw: int = 0) -> Tensor:
        """Return the words behind `size` numbers, in whole blocks: (images, at least `size`) int32."""
        rows = [(draw, image) for image in _listed(image_ids)]
        return philox.signed(philox.words(self._key, rows, -(-size // philox.WORDS_PER_BLOCK)))

    @property
    def _key(self) -> philox.Key:
        return philox.key(self.seed, self.stream, self.purpose)

    def _numbers(
        self,
        convert: philox.Law,
        image_ids: Sequence[int] | Tensor,
        shape: Sequence[int],
        draw: int,
    ) -> Tensor:
        size = math.prod(shape)
        raw = self.words(image_ids, size, draw=draw)
        return convert(raw)[:, :size].reshape(len(raw), *shape)


class BrownianPaths:
    """The random numbers of a noise term in a solve: the normals behind dB = sqrt(dt) z, or what `law` gives.

    One path per (draw, image): (draws, images, *shape) for each step. `site` tells the flows and terms of one
    network apart. Nothing is stored: iterating, or `paths[a:b]`, generates the steps again, in order, and
    moves them to `device`. Where a core of the host is idle, a thread of its own makes them there, one chunk
    ahead of who asks: numpy and torch let go of the interpreter meanwhile. No number depends on the time.

    Args:
        draws, image_ids: draw indices and image ids; each pair has a path of its own.
        shape: shape of the numbers of one image in one step.
        steps: number of steps.
        site: number of the noise term and its flow (`term_site`).
        law: function from random words to numbers.
        words: number of random words that a number takes.
        device: device on which the numbers are wanted.
        backend: generator of the numbers (`choices.NoiseBackend`).
        rows: `draws` and `image_ids` as they already lie on the device, in place of both.
    """

    def __init__(
        self,
        draws: Draws,
        image_ids: Sequence[int] | Tensor,
        shape: Sequence[int],
        *,
        steps: int,
        site: int = 0,
        law: philox.Law = philox.to_normals,
        words: int = 1,
        device: torch.device | str = "cpu",
        backend: NoiseBackend = "auto",
        rows: KeyedRows | None = None,
    ) -> None:
        self._key = path_key(draws)
        self._backend = chosen(backend, device)
        self._kernels = self._backend == "device" and has_kernels(device)
        if self._backend == "host":
            self._bases, self._sources = _bases(draws)
            self._listed = [(draw, image) for draw in self._bases for image in _listed(image_ids)]
        elif rows is None:
            self._keyed = KeyedRows.of(self._key, draws.indices, image_ids, device, draws.stream.paired)
        else:
            self._keyed = rows
        self._shape = (len(draws), len(image_ids), *shape)
        self._size = math.prod(shape)
        self._blocks = -(-self._size * words // philox.WORDS_PER_BLOCK)
        self._steps, self._site, self._device = steps, site, torch.device(device)
        self._law, self._words_each = law, words

    def __iter__(self) -> Iterator[Tensor]:
        """Yield a (draws, images, *shape) float32 tensor for each step."""
        return self[:]

    def __getitem__(self, steps: slice) -> Iterator[Tensor]:
        """Return the numbers of a range of consecutive steps."""
        return self._generate(range(self._steps)[steps])

    def unmade(self, steps: slice) -> Iterator[Numbers]:
        """Return a range of steps as `KeyedNumbers` if kernels of the device make them."""
        if not self._kernels:
            return self[steps]
        return (
            KeyedNumbers(
                self._keyed, self._shape, step * self._blocks, self._site, self._law, self._words_each
            )
            for step in range(self._steps)[steps]
        )

    def _generate(self, steps: range) -> Iterator[Tensor]:
        per_step = max(1, self._shape[0] * self._shape[1] * self._blocks * philox.WORDS_PER_BLOCK)
        size = max(1, _CHUNK // per_step)
        chunks = [steps[start : start + size] for start in range(0, len(steps), size)]
        if len(chunks) < 2 or self._backend != "host" or not _has_spare_core(self._device):
            for chunk in chunks:
                yield from self._by_step(self._numbers(chunk))
            return
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self._numbers, chunks[0])
            for chunk in chunks[1:]:
                numbers, following = following.result(), ahead.submit(self._numbers, chunk)
                yield from self._by_step(numbers)
            yield from self._by_step(following.result())

    def _numbers(self, steps: range) -> Tensor:
        """Make the numbers of some steps in one piece: (rows, steps, numbers of a step)."""
        if self._kernels:
            return make_on_device(
                self._keyed,
                self._size,
                steps=len(steps),
                first_block=steps.start * self._blocks,
                site=self._site,
                law=self._law,
                words=self._words_each,
            ).transpose(0, 1)
        words = self._words(len(steps) * self._blocks, steps.start * self._blocks)
        numbers = self._law(words.view(len(words), len(steps), -1))[..., : self._size]
        numbers = self._of_draws(numbers)
        # a copy from pinned memory does not hold up the host; from any other it does
        return numbers.pin_memory() if self._device.type == "cuda" and numbers.is_cpu else numbers

    def _of_draws(self, numbers: Tensor) -> Tensor:
        """Return the numbers of all rows, from those of the distinct rows: (rows, steps, numbers of a step).

        The host has made those of even draws alone; elsewhere the table says which rows are mirrored.
        """
        if self._backend != "host":
            return self._keyed.mirror(self._law, numbers, 0)
        if not any(mirrored for _, mirrored in self._sources):
            return numbers
        each: Tensor = numbers.unflatten(0, (len(self._bases), -1))
        whole: Tensor = each.new_empty((len(self._sources), *each.shape[1:]))
        for own, (place, mirrored) in zip(whole, self._sources, strict=True):
            if mirrored:
                philox.mirrored(self._law, each[place], out=own)
            else:
                own.copy_(each[place])
        return whole.flatten(0, 1)

    def _by_step(self, numbers: Tensor) -> Iterator[Tensor]:
        # moved by the thread that computes: its stream is the one that must wait
        for step in numbers.to(self._device, non_blocking=True).unbind(1):
            yield step.reshape(self._shape)

    def _words(self, blocks: int, first_block: int) -> Tensor:
        if self._backend != "host":
            draws, images = self._keyed.draws_and_images()
            return philox_device.words(
                self._keyed.key, draws, images, blocks, first_block=first_block, site=self._site
            )
        raw = philox.words(self._key, self._listed, blocks, first_block=first_block, site=self._site)
        return philox.signed(raw)


def _has_spare_core(device: torch.device) -> bool:
    """Whether the threads that compute a pass leave a core of the host idle.

    Where they do not, another thread holds up all of them: each operation waits for the slowest of its parts.
    """
    return device.type != "cpu" or torch.get_num_threads() < usable_processors()


def chosen(backend: NoiseBackend, device: torch.device | str) -> NoiseBackend:
    """Return the backend that `auto` means on a device; any other backend is returned as it is."""
    if backend != "auto":
        return backend
    return "device" if has_kernels(device) else "host"


def path_key(draws: Draws) -> philox.Key:
    """Return the key of the Brownian paths of a seed and a stream."""
    return philox.key(draws.seed, draws.stream, "path")


def _bases(draws: Draws) -> tuple[list[int], list[tuple[int, bool]]]:
    """Return the draws whose numbers are generated, and of each draw the place of its own and the mirror.

    On a stream with pairs these are the even draws; the second value has, for each draw, the place among them
    and whether the draw is the mirrored one.
    """
    paired = draws.stream.paired
    base = [draw & ~1 if paired else draw for draw in draws.indices]
    places = {draw: place for place, draw in enumerate(dict.fromkeys(base))}
    sources = [(places[own], own != draw) for own, draw in zip(base, draws.indices, strict=True)]
    return list(places), sources


def _listed(image_ids: Sequence[int] | Tensor) -> Sequence[int]:
    return image_ids.tolist() if isinstance(image_ids, Tensor) else image_ids


def term_site(flow: int, term: int) -> int:
    """Return the site of a noise term of a flow: no two terms or flows of a network share numbers."""
    return term * 2**16 + flow
