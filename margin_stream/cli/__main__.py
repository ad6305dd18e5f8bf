"""The command ``margin-stream``, and ``python -m margin_stream.cli``. Imports next to nothing itself, so that it can
report why the rest cannot be."""

from __future__ import annotations

import sys

from margin_stream.cli.memory import is_limited, memory_is_short

FAILED = 1
WHAT = "not enough memory to start"
NEXT = (
    "Let the process have more memory (`ulimit -v`, the limit of its service or container), then run the "
    "command again: nothing acknowledged is lost."
)


def main() -> None:
    """Run this process's command line and leave with its exit code."""
    # Asked first: a library in C++ that finds no memory while it is loaded ends the process without a word that helps.
    if not (is_limited() and memory_is_short()):
        try:
            if sys.argv[1:] == ["--version"]:
                from margin_stream.cli.version import version_line

                return print(version_line())
            from margin_stream.cli.main import run
        except Exception:
            if not memory_is_short():
                raise
        else:
            from margin_stream.cli.signals import leave_at_once

            leave_at_once()
            sys.exit(run())
    if "--json" in sys.argv:
        sys.stderr.write(f'{{"code":"memory_short","message":"{WHAT}","where":null,"next":"{NEXT}"}}\n')
    else:
        sys.stderr.write(f"margin-stream: {WHAT} [memory_short]\n  next: {NEXT}\n")
    sys.exit(FAILED)


if __name__ == "__main__":
    main()
