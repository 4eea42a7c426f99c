"""How much memory this process holds, as the system counts it."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path


def resident_bytes() -> int:
    """Resident memory of this process. What was freed is given back to the system first, so that a difference of two
    calls is what came to be held between them."""
    gc.collect()
    give_back()
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no Linux: the most it ever held
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    return pages * resource.getpagesize()


def give_back() -> None:
    """Ask the C library to return what it keeps of freed memory; only glibc does."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
