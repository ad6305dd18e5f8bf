"""Whether memory is short; imports next to nothing itself."""

from __future__ import annotations

import mmap
import resource

PROBE_BYTES = 64 << 20


def memory_is_short() -> bool:
    """Return whether so little memory is left that it explains any failure to start: without it imports fail in many
    ways."""
    try:
        mmap.mmap(-1, PROBE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return True
    return False


def is_limited() -> bool:
    """Return whether the process may have only so much memory (``ulimit -v``, ``-d``)."""
    limits = map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(soft != resource.RLIM_INFINITY for soft, _ in limits)
