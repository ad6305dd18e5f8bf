"""Files that a command names to be read: any of them may be standard input."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

STDIN = Path("/dev/stdin")
"""What ``-`` stands for; ``./-`` is a file of that name."""


def opened(path: Path) -> AbstractContextManager[BinaryIO]:
    """Return a file to be read, to be closed by ``with``. Standard input is this process's own: its device cannot
    always be opened again."""
    return nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb")


def content(path: Path) -> bytes:
    """Return the bytes of a file."""
    return sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
