"""``python -m tests.purity``: check the tree; exit 1 and name each fault."""

from __future__ import annotations

import sys

from tests.purity.rules import RULES, faults, sources


def main() -> int:
    """Check the tree."""
    files = sources()
    found = faults(files)
    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{len(files)} files, {len(RULES)} rules, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
