"""The memory of this process: what it may use, what it uses, and giving back what it does not."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
from typing import Any, Final

_malloc_trim: Final[Any] = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's


def memory_limit() -> int:
    """Bytes that the container may use, 0 where nobody says."""
    for path in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(f"/sys/fs/cgroup/{path}") as file:
            limit = int(file.read())
            return limit if limit < 1 << 60 else 0
    return 0


def resident_bytes() -> int:
    """Memory of this process that is in RAM, now."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def settle() -> None:
    """Once the start is over: what it made is looked at no more by the garbage collector, and the
    oldest generation of the rest five times as often as by default: the ends of tunnels that are
    over lie in cycles there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 2)


def give_back() -> None:
    """Return free pages of the C heap to the system, which takes about a millisecond.

    A peak of connections leaves them between blocks that stay. glibc by itself gives back only
    what is free at the heap's end.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)
