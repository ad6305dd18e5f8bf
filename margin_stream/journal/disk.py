"""Every call to the disk that a log makes, in one place, so that a test can count them, fail them, or stop the world at
each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """The real disk. Errors are OSError with the file's name, and are never retried here."""

    def __init__(self) -> None:
        self._paths: dict[int, Path] = {}

    @contextmanager
    def _named(self, descriptor: int) -> Iterator[None]:
        """Put the file's name to an error, which a call on a descriptor does not know."""
        try:
            yield
        except OSError as error:
            path = self._paths.get(descriptor)
            raise OSError(error.errno, error.strerror, None if path is None else str(path)) from error

    def open(self, path: Path, *, create: bool = False) -> int:
        """Return a descriptor for reading and writing; ``create`` demands that the file is new."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        descriptor = os.open(path, flags, 0o600)
        self._paths[descriptor] = path
        return descriptor

    @contextmanager
    def opened(self, path: Path, *, create: bool = False) -> Iterator[int]:
        """Open a file for a few calls."""
        descriptor = self.open(path, create=create)
        try:
            yield descriptor
        finally:
            self.close(descriptor)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of the data at an offset."""
        view = memoryview(data)
        with self._named(descriptor):
            while view:
                done = os.pwrite(descriptor, view, offset)
                view = view[done:]
                offset += done

    def sync(self, descriptor: int) -> None:
        """Return once what was written survives a power cut. The interpreter lock is released meanwhile."""
        with self._named(descriptor):
            os.fdatasync(descriptor)

    def sync_file(self, path: Path) -> None:
        """Make durable what was ever written to a file."""
        with self.opened(path) as descriptor:
            self.sync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut a file."""
        with self._named(descriptor):
            os.ftruncate(descriptor, length)

    def cut(self, path: Path, offset: int) -> None:
        """Cut a file for good; at 0 the file goes. Done again after a crash in the middle, it comes to the same."""
        if offset == 0:
            self.remove(path)
            self.sync_folder(path.parent)
            return
        with self.opened(path) as descriptor:
            self.truncate(descriptor, offset)
            self.sync(descriptor)

    def make_folder(self, path: Path) -> None:
        """Make a folder, and those above it that are missing, for good."""
        if not path.exists():
            self.make_folder(path.parent)
            path.mkdir(mode=0o700)
            self.sync_folder(path.parent)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        self._paths.pop(descriptor, None)
        os.close(descriptor)

    def replace(self, path: Path, data: bytes) -> None:
        """Write a small file as a whole: either the old or the new content is there."""
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        with self.opened(fresh, create=True) as descriptor:
            self.write(descriptor, data, 0)
            self.sync(descriptor)
        self.rename(fresh, path)
        self.sync_folder(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file over another."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def sync_folder(self, folder: Path) -> None:
        """Return once the names in a folder survive a power cut."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        finally:
            os.close(descriptor)
