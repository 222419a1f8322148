"""Forward passes and their gradients as CUDA graphs: one launch for hundreds.

A small network's kernels take less time than Python takes to launch them. A CUDA graph is a recording of all
launches of a pass with the addresses they work at; keyed noise is a function of the keys and counters that
lie at such addresses, so that a replay with other counters takes other draws.

The memory of graphs is shared: a replay overwrites what the pass before it has kept for its gradient. A
gradient that comes too late finds this out by a number, and its pass is replayed first, with the same result.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import torch
from torch import Tensor

from robustbench_sde.sde.keyed import KeyedRows

#: uses of a shape before it is recorded, which costs about three passes; and how many shapes are kept
_BEFORE_RECORDING, _MOST_SHAPES = 2, 8

#: logits of images, with the rows of their noise
Pass = Callable[[Tensor, KeyedRows], Tensor]


@dataclass(eq=False)
class _Memory:
    """What all graphs of a device share."""

    pool: Any
    #: number of the latest replay: tensors that it kept are valid
    latest: int = 0


#: lives as long as a graph that uses it: torch gives a pool up with its last graph
_MEMORY: WeakValueDictionary[torch.device, _Memory] = WeakValueDictionary()


def _memory(device: torch.device) -> _Memory:
    memory = _MEMORY.get(device)
    if memory is None:
        memory = _MEMORY[device] = _Memory(torch.cuda.graph_pool_handle())
    return memory


class GraphedPasses:
    """The recorded passes of one network with one way of computing, by shape."""

    def __init__(self) -> None:
        #: recordings, and before there is one how often its shape has come; None: it cannot be recorded
        self.recorded: OrderedDict[Any, int | _Recording | None] = OrderedDict()
        _ALL.add(self)

    def __call__(self, run: Pass, images: Tensor, rows: KeyedRows, weights: tuple[int, ...]) -> Tensor:
        """Do what `run` does; record it once a shape has come often enough.

        Args:
            run: the pass; nothing in it reads a number back or looks at the host.
            images: (B, C, H, W) on a CUDA device.
            rows: of every draw with every image.
            weights: where the weights are; recordings are of one place.
        """
        wanted = torch.is_grad_enabled() and images.requires_grad
        key = (tuple(images.shape), images.dtype, rows.draws, wanted, weights)
        known = self.recorded.pop(key, 0)
        if isinstance(known, int) and known >= _BEFORE_RECORDING:
            known = _recorded(run, images, rows, wanted)
        self.recorded[key] = known + 1 if isinstance(known, int) else known
        while len(self.recorded) > _MOST_SHAPES:
            self.recorded.popitem(last=False)
        if not isinstance(known, _Recording):
            return run(images, rows)
        out: Tensor = _Replayed.apply(images, rows, known) if wanted else known.forward(images, rows).clone()
        return out


#: graphs that are alive
_ALL: WeakSet[GraphedPasses] = WeakSet()


def forget_recordings() -> None:
    """Give the memory of all recordings back."""
    for passes in _ALL:
        passes.recorded.clear()


def _recorded(run: Pass, images: Tensor, rows: KeyedRows, wanted: bool) -> "_Recording | None":
    """A recording; None where there is no memory for one, and then none is tried again."""
    try:
        with torch.cuda.device(images.device):
            return _Recording(run, images, rows, wanted)
    except RuntimeError:
        torch.cuda.empty_cache()
        return None


class _Recording:
    """The graph of a pass, and that of its gradient."""

    def __init__(self, run: Pass, images: Tensor, rows: KeyedRows, gradient: bool) -> None:
        self.run = run
        self.memory = _memory(images.device)
        self._images = images.detach().clone().requires_grad_(gradient)
        self._rows = KeyedRows(rows.table.clone(), rows.draws, rows.images)
        side = torch.cuda.Stream(images.device)
        side.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(side):  # libraries set themselves up before anything is recorded
            out = run(self._images, self._rows)
            if gradient:
                torch.autograd.grad(out, self._images, torch.ones_like(out))
            del out
        torch.cuda.current_stream(images.device).wait_stream(side)
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._forward, pool=self.memory.pool):
            out = run(self._images, self._rows)
        if gradient:
            self._wanted = torch.zeros_like(out)
            with torch.cuda.graph(self._backward, pool=self.memory.pool):
                (self._gradient,) = torch.autograd.grad(out, self._images, self._wanted)
        self._out = out.detach()

    def forward(self, images: Tensor, rows: KeyedRows) -> Tensor:
        """The logits, in memory that the next replay overwrites."""
        with torch.no_grad():
            self._images.copy_(images)
            self._rows.table.copy_(rows.table)
        self._forward.replay()
        self.memory.latest += 1
        return self._out

    def backward(self, wanted: Tensor) -> Tensor:
        """The gradient at the images of the latest replay; in memory that is overwritten."""
        self._wanted.copy_(wanted)
        self._backward.replay()
        return self._gradient


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, rows: KeyedRows, recording: _Recording) -> Tensor:
        out = recording.forward(images, rows).clone()
        ctx.recording, ctx.rows, ctx.at = recording, rows, recording.memory.latest
        ctx.save_for_backward(images)
        return out

    @staticmethod
    def backward(ctx: Any, wanted: Tensor) -> Any:
        (images,) = ctx.saved_tensors
        recording = ctx.recording
        if torch.is_grad_enabled():  # somebody differentiates this again
            out = recording.run(images, ctx.rows)
            return torch.autograd.grad(out, images, wanted, create_graph=True)[0], None, None
        if recording.memory.latest != ctx.at:
            recording.forward(images, ctx.rows)
            ctx.at = recording.memory.latest
        return recording.backward(wanted).clone(), None, None
