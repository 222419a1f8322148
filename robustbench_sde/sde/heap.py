"""Set how the heap of the C library (glibc) keeps and returns memory; nothing happens under another one."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def return_freed_memory() -> None:
    """Give what is freed back to the system; nothing where the C library is not glibc.

    glibc cannot use the hole of a block again for an aligned one of the same size: what a loop keeps and
    frees in turn grows by holes, unless their pages go back in between. The next block there has them mapped
    anew, which costs time: not for every pass.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to 1 GiB, for the next pass; other C libraries have no such setting.

    As it comes, it returns the graph of every gradient to the system, and gets the same pages back zeroed
    one by one: a tenth of the time of an attack (docs/performance.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**26)
        mallopt(_M_TRIM_THRESHOLD, 2**30)
