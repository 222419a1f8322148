"""Time on a GPU, by its own clock."""

import statistics
import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object], budget: float = 0.4, most: int = 30) -> float:
    """Median seconds of one call, between CUDA events; at least 3 calls, after 3 that warm up.

    Args:
        work: leaves its results on the GPU.
        budget: seconds for all timed calls together.
        most: calls at most.
    """
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < 3 or (len(taken) < most and time.perf_counter() - began < budget):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        stop.synchronize()
        taken.append(start.elapsed_time(stop) / 1e3)
    return statistics.median(taken)


def replayed(work: Callable[[], object]) -> float:
    """Seconds of a call on the GPU alone: recorded as a CUDA graph, without what launching takes."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return seconds(graph.replay)


def launches(work: Callable[[], object]) -> int:
    """Kernels, copies and graphs that one call has the host put on the GPU, counted by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    work()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as measured:
        work()
        torch.cuda.synchronize()
    names = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
    return sum(event.name.startswith(names) for event in measured.events())
