"""Disks that count, stop, forget and lie, for tests."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from margin_stream.journal.disk import Disk


class Stopped(BaseException):
    """The world ends here: raised in place of a call to the disk."""


class StoppingDisk(Disk):
    """Stops at the n-th call, before or after doing it; for a write perhaps in the middle."""

    def __init__(self, stop_at: int | None = None, *, torn: int | None = None) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._stop_at = stop_at
        self._torn = torn

    def _step(self, name: str) -> bool:
        self.calls.append(name)
        return self._stop_at is not None and len(self.calls) == self._stop_at

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        if self._step("write"):
            if self._torn is not None:
                super().write(descriptor, data[: len(data) * self._torn // 100], offset)
            raise Stopped
        super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        if self._step("sync"):
            raise Stopped
        super().sync(descriptor)

    def open(self, path: Path, *, create: bool = False) -> int:
        if self._step("create" if create else "open"):
            raise Stopped
        return super().open(path, create=create)

    def rename(self, source: Path, target: Path) -> None:
        if self._step("rename"):
            raise Stopped
        super().rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        if self._step("sync_folder"):
            raise Stopped
        super().sync_folder(folder)

    def truncate(self, descriptor: int, length: int) -> None:
        if self._step("truncate"):
            raise Stopped
        super().truncate(descriptor, length)


class ForgetfulDisk(Disk):
    """Remembers what was synced, and can take back what was not, as a power cut does."""

    def __init__(self) -> None:
        super().__init__()
        self._unsynced: dict[tuple[int, int], list[tuple[int, bytes, int]]] = {}

    @staticmethod
    def _key(descriptor: int) -> tuple[int, int]:
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        before = os.pread(descriptor, len(data), offset)
        self._unsynced.setdefault(self._key(descriptor), []).append((offset, before, os.fstat(descriptor).st_size))
        super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self._unsynced.pop(self._key(descriptor), None)

    def cut_power(self, folder: Path) -> None:
        """Undo every write that was not synced."""
        for path in folder.rglob("*"):
            if not path.is_file():
                continue
            status = path.stat()
            key = status.st_dev, status.st_ino
            if key in self._unsynced:
                with path.open("r+b") as file:
                    self._take_back(key, file.fileno())

    def _take_back(self, key: tuple[int, int], descriptor: int) -> None:
        for offset, before, size in reversed(self._unsynced.pop(key, [])):
            os.pwrite(descriptor, before, offset)
            os.ftruncate(descriptor, size)


class FaultyDisk(ForgetfulDisk):
    """Fails at the n-th call. Ways: ``killed`` and ``power`` end the world there, a write perhaps half done;
    ``refused`` raises EIO or ENOSPC once and then works again, having forgotten what was not synced, as disks do after
    a failed sync."""

    def __init__(self, stop_at: int | None, way: str, *, torn: int = 0) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._stop_at = stop_at
        self._way = way
        self._torn = torn
        self._dead = False

    def step(self, name: str) -> bool:
        """Count a call. Returns whether it is the one that fails; after the end of the world every call is."""
        self.calls.append(name)
        if self._dead:
            raise Stopped
        if len(self.calls) != self._stop_at:
            return False
        if name not in ("write", "sync"):
            self._fail()
        return True

    def _fail(self) -> None:
        if self._way == "refused":
            number = (errno.EIO, errno.ENOSPC)[len(self.calls) % 2]
            raise OSError(number, os.strerror(number))
        self._dead = True
        raise Stopped

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        if self.step("write"):
            super().write(descriptor, data[: len(data) * self._torn // 100], offset)
            self._fail()
        super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        if self.step("sync"):
            if self._way == "refused":
                self._take_back(self._key(descriptor), descriptor)
            self._fail()
        super().sync(descriptor)

    def open(self, path: Path, *, create: bool = False) -> int:
        self.step("create" if create else "open")
        return super().open(path, create=create)

    def rename(self, source: Path, target: Path) -> None:
        self.step("rename")
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self.step("remove")
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        self.step("sync_folder")
        super().sync_folder(folder)

    def truncate(self, descriptor: int, length: int) -> None:
        self.step("truncate")
        super().truncate(descriptor, length)
