"""The command ``margin-stream``, and ``python -m margin_stream.cli``. Imports next to nothing itself, so that it can say why the rest cannot be."""

from __future__ import annotations

import mmap
import resource
import sys

FAILED = 1
WHAT = "not enough memory to start"
NEXT = "Let the process have more memory (`ulimit -v`, the limit of its service or container), then run the command again: nothing acknowledged is lost."
PROBE_BYTES = 64 << 20


def _memory_is_short() -> bool:
    """Say whether so little memory is left that it explains any failure to start: without it imports fail in many ways."""
    try:
        mmap.mmap(-1, PROBE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return True
    return False


def _is_limited() -> bool:
    """Say whether the process may have only so much memory (``ulimit -v``, ``-d``)."""
    limits = map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(soft != resource.RLIM_INFINITY for soft, _ in limits)


def main() -> None:
    """Run this process's command line and leave with its exit code."""
    # Asked first: a library in C++ that finds no memory while it is loaded ends the process without a word that helps.
    if not (_is_limited() and _memory_is_short()):
        try:
            from margin_stream.cli.main import main as command
        except Exception:
            if not _memory_is_short():
                raise
        else:
            command()
            return
    if "--json" in sys.argv:
        sys.stderr.write(f'{{"code":"memory_short","message":"{WHAT}","where":null,"next":"{NEXT}"}}\n')
    else:
        sys.stderr.write(f"margin-stream: {WHAT} [memory_short]\n  next: {NEXT}\n")
    sys.exit(FAILED)


if __name__ == "__main__":
    main()
