"""A store's folder: where its parts lie, its manifest, its lock."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from hashlib import sha256
from pathlib import Path
from typing import IO

import msgspec

from margin_stream.core.digests import SLOTS
from margin_stream.core.intake import ENGINE_VERSION
from margin_stream.journal.disk import Disk
from margin_stream.tables.checkpoints import INTAKE_NAME, partition_name

FORMAT = 1
PARTITIONS_LIMIT = 256


class StoreError(Exception):
    """A store cannot be used as asked; the text says why and what to do."""


class StoreMissing(StoreError):
    """There is no store at the path."""


class StoreLocked(StoreError):
    """Another process writes to the store."""


class CorruptManifest(StoreError):
    """The manifest is damaged."""


class Manifest(msgspec.Struct, frozen=True):
    """What a store is: fixed when it is made."""

    format: int
    store_id: str
    partitions: int
    slots: int
    engine_version: int
    clock_source: str
    """``input``: clocks come with the inputs."""

    @property
    def identity(self) -> bytes:
        """The store id as 16 bytes."""
        return bytes.fromhex(self.store_id)


class Layout:
    """The places in a store's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / "manifest.json"
        self.lock = root / "lock"
        self.journal = root / "journal"
        self.digests = root / "digests"
        self.tables = root / "tables"
        self.effects = root / "effects"

    def effects_logs(self, partitions: int) -> list[Path]:
        """Return the effects logs: the intake's, then one a partition."""
        return [self.effects / INTAKE_NAME, *(self.effects / partition_name(n) for n in range(partitions))]

    def table(self, name: str) -> Path:
        """Return the folder of a table."""
        return self.tables / name


def _checksum(fields: dict[str, object]) -> str:
    return sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_manifest(layout: Layout, partitions: int, disk: Disk) -> Manifest:
    """Make a manifest for a new store."""
    if not 1 <= partitions <= PARTITIONS_LIMIT:
        raise StoreError(f"--partitions: from 1 to {PARTITIONS_LIMIT}, not {partitions}")
    manifest = Manifest(FORMAT, secrets.token_hex(16), partitions, SLOTS, ENGINE_VERSION, "input")
    fields = msgspec.to_builtins(manifest)
    disk.replace(layout.manifest, json.dumps({**fields, "sha256": _checksum(fields)}, indent=1).encode() + b"\n")
    return manifest


def read_manifest(layout: Layout) -> Manifest:
    """Read the manifest.

    Raises:
        StoreMissing: there is none.
        CorruptManifest: it does not match its checksum.
        StoreError: the store is of a newer format or engine.
    """
    try:
        data = layout.manifest.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreMissing(
            f"{layout.root}: no store here (no manifest.json); `margin-stream ingest` makes one, --store names another"
        ) from None
    try:
        fields = json.loads(data)
        checksum = fields.pop("sha256")
        if json.dumps({**fields, "sha256": checksum}, indent=1).encode() + b"\n" != data or checksum != _checksum(fields):
            raise ValueError("it does not match its checksum")
        if fields["format"] > FORMAT or fields["engine_version"] > ENGINE_VERSION:
            raise StoreError(
                f"{layout.root}: made by a newer margin-stream (format {fields['format']}, engine {fields['engine_version']}); "
                f"this one knows format {FORMAT}, engine {ENGINE_VERSION}: upgrade it"
            )
        return msgspec.convert(fields, Manifest)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CorruptManifest(f"{layout.manifest}: offset 0: the manifest is damaged: {error}") from None


class Lock:
    """One writer a store: holds an advisory lock, with the holder's name in the file."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            StoreLocked: another process holds it; the text names it.
        """
        self._file: IO[str] = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held open as long as the lock)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "an unnamed process"
            self._file.close()
            raise StoreLocked(f"{path.parent}: another process writes to this store: {holder}") from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let the next writer in."""
        self._file.truncate(0)
        self._file.close()
