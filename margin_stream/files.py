"""Files that a command names to be read: any of them may be standard input."""

from __future__ import annotations

import errno
import sys
from contextlib import AbstractContextManager, nullcontext
from gzip import GzipFile
from pathlib import Path
from typing import IO, BinaryIO

STDIN = Path("/dev/stdin")
"""What ``-`` stands for; ``./-`` is a file of that name."""


def opened(path: Path) -> AbstractContextManager[BinaryIO]:
    """Return a file to be read, to be closed by ``with``. Standard input is this process's own: its device cannot
    always be opened again."""
    return nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb")


def content(path: Path, limit: int) -> bytes:
    """Return the bytes of a file, unpacked by nobody.

    Args:
        path: of the file.
        limit: the most bytes that it may have.

    Raises:
        OSError: it cannot be read, or has more.
    """
    with opened(path) as stream:
        return read_within(stream, limit, str(path))


def read_within(stream: IO[bytes] | GzipFile, limit: int, name: str) -> bytes:
    """Return all that a stream has; of one that has more than ``limit`` bytes no more is read.

    Raises:
        OSError: it has more (EFBIG).
    """
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"more than {limit >> 20} MiB", name)
    return data
