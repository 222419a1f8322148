"""The heap of the C library."""

import ctypes


def return_freed_memory() -> None:
    """Give what is freed back to the system; nothing where the C library is not glibc.

    glibc cannot use the hole of a block again for an aligned one of the same size: what a loop keeps and
    frees in turn grows by holes, unless their pages go back in between. The next block there has them mapped
    anew, which costs time: not for every pass.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
