"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of glibc's parameters, of its malloc.h."""

KEPT_BYTES = 2**31 - 1
"""The most that mallopt takes."""


@cache
def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors for the next ones.

    On its own it maps large blocks one by one and gives them back when they are freed, and often the heap's
    end too, so the kernel would clear the same memory anew, page by page, for each batch: a third of the
    simulator's time, up to a seventh of a training step's. It is told so for the whole process (mallopt(3)),
    which then stays at about its peak: of the heap's end up to 2 GiB are kept, and all that is freed below
    memory in use. In other threads than the main one blocks of 64 MiB and more are still mapped. Where the C
    library is another one, this does nothing.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
