"""How glibc's malloc deals with freed memory; torch-free, so that every command may ask."""

from __future__ import annotations

import ctypes
import os
import sys

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_TOP_PAD = 64 << 20
_kept = False  # this process keeps what it frees


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep freed memory instead of handing it back to the kernel; False where it is another.

    A training step frees and asks again for the same large blocks; given back each time, they cost tens of thousands
    of page faults a step (17 % of the time when measured). Batches of text are no different: 12 % of `tokenize` and
    7 % of `clean` with one worker, and more with several threads, which wait for each other in the kernel.
    """
    global _kept
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or "MALLOC_MMAP_MAX_" in os.environ:
        return False
    _kept = all(
        mallopt(ctypes.c_int(key), ctypes.c_int(value)) == 1
        for key, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD))
    )
    return _kept


def give_back_freed_memory() -> bool:
    """Hands back what is free by now, where it is kept; False where it is not.

    For when other blocks will be asked for from here on: those of before would lie between them, of no use.
    """
    return _kept and bool(ctypes.CDLL(None).malloc_trim(0))
