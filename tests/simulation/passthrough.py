"""A file system that passes everything on to a folder, and fails what a switch file names: a disk that breaks under a
running writer.

``python -m tests.simulation.passthrough FOLDER MOUNTPOINT SWITCH``. The switch holds a JSON object: ``{"write": 5}``
fails writes with errno 5; ``fsync``, ``read`` and ``change`` (whatever makes or removes a file) likewise; ``{"bad":
["NAME", 4096, 8192]}`` cannot read these bytes of files that end in NAME.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import mfusepy


class Passthrough(mfusepy.Operations):  # type: ignore[misc]
    """Passes calls on, but for those that the switch fails."""

    use_ns = True

    def __init__(self, folder: str, switch: str) -> None:
        self._folder = folder
        self._switch = Path(switch)

    def _at(self, path: str) -> str:
        return self._folder + path

    def _check(self, kind: str) -> dict[str, Any]:
        switch: dict[str, Any] = json.loads(self._switch.read_text())
        if kind in switch:
            raise mfusepy.FuseOSError(switch[kind])
        return switch

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        try:
            status = os.lstat(self._at(path))
        except FileNotFoundError:
            raise mfusepy.FuseOSError(errno.ENOENT) from None
        names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size")
        times = {f"st_{kind}time": getattr(status, f"st_{kind}time_ns") for kind in "acm"}
        return {name: getattr(status, name) for name in names} | times

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._at(path))]

    def mkdir(self, path: str, mode: int) -> None:
        self._check("change")
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        self._check("change")
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        self._check("change")
        os.unlink(self._at(path))

    def rename(self, old: str, new: str) -> None:
        self._check("change")
        os.rename(self._at(old), self._at(new))

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._check("change")
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self._at(path), flags & ~(os.O_CREAT | os.O_EXCL | os.O_APPEND))

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        bad = self._check("read").get("bad")
        if bad and path.endswith(bad[0]) and offset < bad[2] and offset + size > bad[1]:
            raise mfusepy.FuseOSError(errno.EIO)
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._check("write")
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        self._check("write")
        os.truncate(self._at(path), length)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._check("fsync")
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._check("fsync")
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def utimens(self, path: str, times: Any = None) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, Any]:
        found = os.statvfs(self._at(path))
        return {
            name: getattr(found, name)
            for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")
        }


if __name__ == "__main__":
    folder, mountpoint, switch = sys.argv[1:]
    # One thread, and no cache of the kernel's: each call is seen, and fails when the switch says so.
    mfusepy.FUSE(
        Passthrough(folder, switch), mountpoint, foreground=True, nothreads=True, direct_io=True, use_ino=False
    )
