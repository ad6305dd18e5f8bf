"""Where an import was cut off: the sequence number at which its differences were taken, kept until it is done."""

from __future__ import annotations

from pathlib import Path

import msgspec

from margin_stream.errors import Error
from margin_stream.journal.disk import Disk


class ImportUnfinished(Error, code="import_unfinished"):
    """An import was cut off, and another one is asked for."""


class Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An import that began."""

    kind: str
    digest: str
    """Of its files and of how they are read."""
    sequence: int
    """N: the store's last sequence number when its differences were taken."""
    files: list[str]
    collateral: list[str]


class PendingImport:
    """The file of a store that has it."""

    def __init__(self, root: Path) -> None:
        self._path = root / "imports" / "unfinished.json"

    def read(self) -> Pending | None:
        """Return what began and did not end; None where nothing did."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Pending)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            return None  # Cut off while it was written, so before anything was sent.

    def write(self, pending: Pending) -> None:
        """Keep it, durable."""
        disk = Disk()
        if not self._path.parent.exists():
            disk.make_folder(self._path.parent)
        disk.replace(self._path, msgspec.json.encode(pending) + b"\n")

    def done(self) -> None:
        """It ended."""
        if self._path.exists():
            Disk().remove(self._path)
