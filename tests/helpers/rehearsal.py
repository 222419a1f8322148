"""A rehearsal of what needs a GPU, on a CPU.

    PYTHONPATH=tests/helpers python -m pytest -p rehearsal -m gpu tests/gpu
    PYTHONPATH=tests/helpers:. python -m rehearsal --only noise passes

Torch is told that there is a CUDA GPU. Its tensors lie on the CPU and are marked; the mark goes on to all
that is computed from them, and `device` and `is_cuda` tell it. As on a GPU, an operation on tensors of both
devices fails, and so does a recording in which the host waits for a number. CUDA graphs are lists of
operations that are done again with the tensors of the recording; a number that Python wrote into an operation
stays what it was. TF32 rounds the inputs of convolutions to ten bits. Triton kernels are replaced by
operations of torch (tests/sde/test_interpreted.py has the kernels).

So tests and benchmarks of GPUs can be executed where there is none, with small numbers of images, and fail
where they have lost touch with the code. Their numbers and times mean nothing.
"""

import contextlib
import time
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
#: operations of one tensor of each device that CUDA allows
_ACROSS = {"copy_", "_to_copy", "index", "index_put_", "set_"}
#: operations whose result the host waits for
_WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "_unique2"}
MEMORY = 80 * 2**30
#: bytes of a tensor that do not fit, if a process may take a part of the memory only
_TOO_LARGE = 5 * 2**19


def marked(tensor):
    """Whether a tensor lies on the pretended GPU: its storage has the mark, which views share."""
    if tensor.layout is not torch.strided:
        return False
    with torch._C.DisableTorchFunction():
        return getattr(tensor.untyped_storage(), "_on_gpu", False)


def mark(tensor, there=True):
    """Put the mark on the storage of a tensor, or take it off; returns the tensor."""
    with torch._C.DisableTorchFunction():
        tensor.untyped_storage()._on_gpu = there
    return tensor


def _tensors(values):
    """Tensors among values, and in their lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _is_gpu(device):
    return device is not None and not isinstance(device, bool) and torch.device(device).type == "cuda"


def _rounded(tensor):
    """Round to the ten bits of TF32's mantissa."""
    if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32:
        return tensor
    return ((tensor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32).view_as(tensor)


class Operations(TorchDispatchMode):
    """Passes the mark on, refuses what CUDA refuses, and writes down what a graph consists of."""

    def __init__(self):
        super().__init__()
        self.recording = None
        #: share of the memory that the process may take
        self.share = 1.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        given = [*_tensors(args), *_tensors(kwargs.values())]
        there = any(map(marked, given))
        others = [
            one for one in given if not marked(one) and one.dim() and one.device != torch.device("meta")
        ]
        if there and others and name not in _ACROSS:
            raise RuntimeError(f"{name}: expected all tensors on one device")
        if self.recording is not None and there and name in _WAITING:
            raise RuntimeError(f"{name}: not permitted while a stream is recorded")
        convolves = name in ("convolution", "convolution_backward")
        rounds = there and convolves and torch.backends.cudnn.allow_tf32
        out = func(*map(_rounded, args) if rounds else args, **kwargs)
        for leaf in _tensors((out,)) if there else ():
            if not marked(leaf):
                if self.share < 1 and leaf.nbytes > _TOO_LARGE:
                    raise torch.OutOfMemoryError(f"{name}: CUDA out of memory")
                mark(leaf)
        if self.recording is not None:
            self.recording.append((func, args, kwargs, out, rounds))
        return out


OPERATIONS = Operations()


class Devices(TorchFunctionMode):
    """Answers for the device of a tensor, and moves tensors between the CPU and the pretended GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return GPU if marked(args[0]) else func(*args, **kwargs)
        if func == Tensor.is_cuda.__get__:
            return marked(args[0])
        if func == Tensor.is_cpu.__get__:
            return not marked(args[0]) and func(*args, **kwargs)
        if func in (Tensor.pin_memory, Tensor.record_stream):
            return args[0]
        if func is Tensor.get_device:
            return 0 if marked(args[0]) else -1
        if func in (Tensor.cpu, Tensor.cuda):
            return self._moved(args[0], func is Tensor.cuda)
        if func is Tensor.to:
            return self._to(args, kwargs)
        if func in (Tensor.numpy, Tensor.__array__) and marked(args[0]):
            raise TypeError("can't convert a CUDA tensor to numpy; use Tensor.cpu() first")
        if func is Tensor.new_tensor and kwargs.get("device") is None:
            return mark(func(*args, **kwargs), marked(args[0]))
        wanted = _is_gpu(kwargs.get("device"))
        if wanted:
            kwargs["device"] = CPU
        out = func(*args, **kwargs)
        for leaf in _tensors((out,)) if wanted else ():
            mark(leaf)
        return out

    @staticmethod
    def _moved(tensor, there):
        return tensor if marked(tensor) == there else mark(tensor.clone(), there)

    def _to(self, args, kwargs):
        tensor, *rest = args
        target = kwargs.pop("device", None)
        kwargs.pop("non_blocking", None)
        left = []
        for one in rest:
            if isinstance(one, str | torch.device):
                target = one
            elif isinstance(one, Tensor):
                target = GPU if marked(one) else CPU
                left.append(one.dtype)
            elif not isinstance(one, bool):
                left.append(one)
        there = marked(tensor) if target is None else _is_gpu(target)
        if target is not None and torch.device(target).type == "meta":
            return Tensor.to(tensor, "meta", *left, **kwargs)
        same = Tensor.to(tensor, *left, **kwargs) if left or kwargs else tensor
        if same is not tensor:
            return mark(same, there)
        return self._moved(tensor, there)


class Graph:
    """A CUDA graph: operations, which `replay` does again in the memory of the recording."""

    def __init__(self):
        self.operations = []

    def replay(self):
        """Do all operations again."""
        with torch.no_grad(), _disable_current_modes():
            for func, args, kwargs, out, rounds in self.operations:
                again = func(*map(_rounded, args) if rounds else args, **kwargs)
                for old, new in zip(_tensors((out,)), _tensors((again,)), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@contextlib.contextmanager
def record(graph, **_):
    """Write the operations of a block into a graph."""
    OPERATIONS.recording = graph.operations
    try:
        yield
    finally:
        OPERATIONS.recording = None


class Event:
    """A moment on the clock of the host."""

    def __init__(self, **_):
        self.at = 0.0

    def record(self, *_):
        """Note the time."""
        self.at = time.perf_counter()

    def synchronize(self):
        """Do nothing: all is done."""

    def elapsed_time(self, other):
        """Milliseconds until another event."""
        return 1e3 * max(other.at - self.at, 1e-9)


class Stream:
    """A stream that has nothing to wait for."""

    def __init__(self, *_, **__):
        pass

    def wait_stream(self, *_):
        """Do nothing."""

    def synchronize(self):
        """Do nothing."""


class Generator(torch.Generator):
    """A generator of the CPU, for either device."""

    def __new__(cls, *_, **__):
        return super().__new__(cls, "cpu")


def _nothing(*_, **__):
    return None


def _limit(share, *_):
    OPERATIONS.share = share


def _functions():
    """Return what stands in for functions of `torch.cuda`, by name."""
    block = contextlib.nullcontext
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "a pretended GPU",
        "get_device_properties": lambda *_: SimpleNamespace(total_memory=MEMORY, name="a pretended GPU"),
        "get_device_capability": lambda *_: (9, 0),
        "mem_get_info": lambda *_: (MEMORY, MEMORY),
        "memory_allocated": lambda *_: 0,
        "max_memory_allocated": lambda *_: 0,
        "memory_reserved": lambda *_: 0,
        "reset_peak_memory_stats": _nothing,
        "set_per_process_memory_fraction": _limit,
        "empty_cache": _nothing,
        "synchronize": _nothing,
        "manual_seed": _nothing,
        "manual_seed_all": _nothing,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "is_current_stream_capturing": lambda: OPERATIONS.recording is not None,
        "graph_pool_handle": object,
        "current_stream": lambda *_: Stream(),
        "set_device": _nothing,
        "device": lambda *_: block(),
        "stream": lambda *_: block(),
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": record,
    }


#: laws of the numbers that were asked for: an operation's arguments are tensors and numbers
_LAWS = []


@torch.library.custom_op("rehearsal::numbers", mutates_args=())
def _numbers(
    key: Tensor, counters: Tensor, size: int, steps: int, first_block: int, site: int, law: int
) -> Tensor:
    """Make all numbers in one operation, as the kernel does: hundreds would be recorded one by one."""
    from robustbench_sde.sde import philox, philox_device

    with _disable_current_modes(), torch._C.DisableTorchFunction():
        law = _LAWS[law]
        blocks = -(-size // philox.WORDS_PER_BLOCK)
        draws, images = counters.unbind(1)
        mirrored, draws = draws < 0, torch.where(draws < 0, -1 - draws, draws)
        words = philox_device.words(
            key, draws, images, steps * blocks, first_block=first_block, site=site
        ).view(len(counters), steps, -1)
        made = words if law is None else law(words)
        if law is not None:
            made = torch.where(mirrored[:, None, None], philox.mirrored(law, made), made)
        return made[..., :size].transpose(0, 1).clone(memory_format=torch.contiguous_format)


def _kernels():
    """Put operations of torch in the place of Triton kernels."""
    import torch.nn.functional as F

    from robustbench_sde.models.kernels import group_norm as norms
    from robustbench_sde.sde import philox
    from robustbench_sde.sde.kernels import numbers, update

    def make_numbers(key, counters, size, *, steps=1, first_block=0, site=0, law=philox.to_normals):
        if law not in _LAWS:
            _LAWS.append(law)
        return torch.ops.rehearsal.numbers(key, counters, size, steps, first_block, site, _LAWS.index(law))

    def advance(h, drift, z, kind, dt, scale):
        factor = {0: 1.0, 1: h, 2: drift}[kind]
        return h + drift * dt + scale * factor * z.make()

    def group_norm(x, norm, *, relu, offset=None, dtype=torch.float32):
        with torch.autocast("cpu", enabled=False):
            shift = 0 if offset is None else offset.view(-1, *(offset.shape[1:] or (1, 1)))
            end = F.group_norm(x.float() + shift, norm.num_groups, norm.weight, norm.bias, norm.eps)
            return (F.relu(end) if relu else end).to(dtype)

    numbers.make_numbers, update.advance, norms.group_norm = make_numbers, advance, group_norm


def _autocast():
    """Let autocast on CUDA be autocast on the CPU, where the tensors are."""
    real, enabled, dtype = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype

    def here(kind):
        return "cpu" if kind == "cuda" else kind

    torch.autocast = lambda kind, *rest, **more: real(here(kind), *rest, **more)
    torch.is_autocast_enabled = lambda *kind: enabled(*map(here, kind))
    torch.get_autocast_dtype = lambda kind: dtype(here(kind))


def _profiler():
    """Have torch's profiler look at the CPU alone: it would write an error for every operation."""
    real, cpu = torch.profiler.profile, torch.profiler.ProfilerActivity.CPU
    torch.profiler.profile = lambda *, activities, **more: real(activities=[cpu], **more)


#: tests that nothing here can stand in for
NOT_REHEARSED = {
    "test_the_forecast_of_memory_holds": "needs the memory of a GPU",
    "test_two_tasks_of_ray_share_the_gpu": "the workers of Ray are other processes, without the pretence",
    "test_nccl_gives_the_gradient_of_one_process": "needs NCCL",
}
#: most images, draws and steps: a rehearsal is about whether code runs
_IMAGES = 6


def pytest_collection_modifyitems(items):
    """Skip what cannot be rehearsed, and make trainings short."""
    for item in items:
        if item.originalname in NOT_REHEARSED:
            item.add_marker(pytest.mark.skip(reason=NOT_REHEARSED[item.originalname]))
        if hasattr(item.module, "OPTIONS"):
            item.module.OPTIONS |= {"epochs": 2, "steps": 2, "batch_size": 256}
            item.module.INTERRUPTED_AFTER, item.module.ACCURACY = 8, 0.15


def _sizes():
    """Make what tests and benchmarks measure small."""
    from benchmarks.gpu import attacks, decisions, networks, noise, passes
    from robustbench_sde.data import ImageDataset

    subset, differences, cells = ImageDataset.subset, decisions.differences, attacks.cells
    ImageDataset.subset = lambda data, count: subset(data, min(count, _IMAGES))
    decisions.differences = lambda images, *rest: differences(3, *(some[-1:] for some in rest))
    for parameters in decisions.ATTACKS.values():
        parameters |= {"steps": 2, "eot_draws": 2}
    decisions.ATTACKS["cw"] |= {"binary_search_steps": 1}
    short = {name: networks.PRESETS[name] | {"steps": 2} for name in ("digits", "cifar", "liu2020")}
    networks.PRESETS = {**short, "liu2020": short["liu2020"] | {"features": 32, "norm_groups": 8}}
    passes.SMALL, passes.LARGE = (("cifar", 16), ("digits", 16)), (("liu2020", 8),)
    attacks.ROWS, attacks.STEPS, attacks.cells = 16, 2, lambda: cells(_IMAGES)
    scoring, corruptions = attacks.scoring, attacks.corruptions
    attacks.scoring, attacks.corruptions = lambda: scoring(4, 4), lambda: corruptions(3)
    compiled, normals = passes.compiled, noise.normals
    passes.compiled, noise.normals = lambda: compiled(16), lambda: normals(16)
    for module in (attacks, noise, passes):
        module.seconds = lambda work, **_: (work(), work(), work(), 1.0)[-1]


def begin():
    """Pretend that there is a GPU until the process ends."""
    import torch._dynamo  # which looks at all functions of torch, before they are others

    for name, function in _functions().items():
        setattr(torch.cuda, name, function)
    torch.compile, torch.Generator = lambda function, **_: function, Generator
    _autocast()
    _profiler()
    OPERATIONS.__enter__()
    Devices().__enter__()
    _kernels()
    _sizes()


begin()

if __name__ == "__main__":
    from benchmarks.gpu.__main__ import main

    raise SystemExit(main())
