"""Set how the heap of the C library (glibc) keeps and returns memory; nothing happens under another one."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def return_freed_memory() -> None:
    """Return freed memory to the system; does nothing if the C library is not glibc.

    glibc cannot reuse the space of a freed block for an aligned block of the same size. The memory of a loop
    that allocates and frees in turn therefore grows, unless the pages of freed blocks are returned in
    between. The system must then map new pages for the next block, which takes too long to do in every pass.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_freed_memory() -> None:
    """Have glibc keep up to 1 GiB of freed memory for the next pass; other C libraries have no such setting.

    Without this, glibc returns the memory of every gradient's graph to the system and gets the same pages
    back, zeroed one by one, which takes a tenth of the time of an attack (docs/performance.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**26)
        mallopt(_M_TRIM_THRESHOLD, 2**30)
