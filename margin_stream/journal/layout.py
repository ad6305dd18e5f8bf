"""A store's folder: where its parts lie, its manifest."""

from __future__ import annotations

import json
import os
import secrets
from hashlib import sha256
from pathlib import Path

import msgspec

from margin_stream.core.digests import SLOTS
from margin_stream.errors import Error
from margin_stream.journal import FORMAT
from margin_stream.journal.disk import Disk
from margin_stream.schemas.rules_versions import latest

INTAKE_NAME = "intake"
PARTITIONS_LIMIT = 256


def partition_name(number: int) -> str:
    """Return the name of a partition's table and effects log."""
    return f"p{number:04d}"


class StoreError(Error, code="store_unusable"):
    """A store cannot be used as asked; the text states why and what to do."""


class StoreMissing(StoreError, code="store_missing"):
    """There is no store at the path."""


class StoreNewer(StoreError, code="store_newer"):
    """The store was made by a later version."""


class StoreOlder(StoreError, code="store_older"):
    """The store was made by an earlier version, whose rules are others."""


class PartitionsOutOfRange(StoreError, code="partitions_out_of_range"):
    """A store cannot have so many partitions, or so few."""


class FolderTaken(StoreError, code="folder_taken"):
    """The folder holds something else."""


class StoreLocked(StoreError, code="store_locked"):
    """Another process writes to the store."""


class MemoryShort(StoreError, code="memory_short"):
    """There is not enough memory to go on with a store; nothing acknowledged is lost."""


class ForeignFile(StoreError, code="store_file_foreign"):
    """A folder holds, in a store's place, what no store has: a link, a pipe, a device, a file that is too large."""


class CorruptManifest(StoreError, code="manifest_damaged"):
    """The manifest is damaged."""


class ManifestMissing(CorruptManifest, code="manifest_missing"):
    """The folder holds a journal, and no manifest."""


class Manifest(msgspec.Struct, frozen=True, rename={"rules_version": "engine_version"}):
    """What a store is: fixed when it is made."""

    format: int
    store_id: str
    partitions: int
    slots: int
    rules_version: int
    """With which it began."""
    clock_source: str
    """``input``: clocks come with the inputs."""

    @property
    def identity(self) -> bytes:
        """The store id as 16 bytes."""
        return bytes.fromhex(self.store_id)


class RecordedDigest(msgspec.Struct, frozen=True, array_like=True):
    """Digests as they were recorded at a checkpoint, in the log ``digests``."""

    sequence: int
    journal_record: int
    state: str
    effects: str


class Layout:
    """The places in a store's folder, in full: they stay where the working folder changes, and name the same in a child
    process."""

    def __init__(self, root: Path) -> None:
        self.root = root = root.absolute()
        self.manifest = root / "manifest.json"
        self.lock = root / "lock"
        self.making = root / "making"
        self.journal = root / "journal"
        self.digests = root / "digests"
        self.tables = root / "tables"
        self.kept = self.tables / "kept"
        self.effects = root / "effects"

    def effects_logs(self, partitions: int) -> list[Path]:
        """Return the effects logs: the intake's, then one a partition."""
        return [self.effects / INTAKE_NAME, *(self.effects / partition_name(n) for n in range(partitions))]

    def table(self, name: str) -> Path:
        """Return the folder of a table."""
        return self.tables / name


def _checksum(fields: dict[str, object]) -> str:
    return sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def new_manifest(partitions: int, rules_version: int) -> Manifest:
    """Return the manifest of a new store.

    Raises:
        StoreError: the number of partitions is out of range.
    """
    if not 1 <= partitions <= PARTITIONS_LIMIT:
        raise PartitionsOutOfRange(
            f"--partitions: from 1 to {PARTITIONS_LIMIT}, not {partitions}", option="--partitions"
        )
    return Manifest(FORMAT, secrets.token_hex(16), partitions, SLOTS, rules_version, "input")


def write_manifest(layout: Layout, manifest: Manifest, disk: Disk) -> None:
    """Write the manifest: from here on there is a store."""
    fields = msgspec.to_builtins(manifest)
    disk.replace(layout.manifest, json.dumps({**fields, "sha256": _checksum(fields)}, indent=1).encode() + b"\n")


LARGEST = {"manifest.json": 1 << 20, "highwater": 1 << 20, "lock": 1 << 20, "seal.json": 64 << 20}
"""The most bytes of files that are read whole; each has far less."""
LARGEST_BY_SUFFIX = {".seg": 1 << 30, ".kept": 16 << 30}


def check_files(layout: Layout) -> None:
    """Look at every file of a store's folder, and open none: a folder may come from a stranger.

    Raises:
        ForeignFile: a link, a pipe, a device, or a file that is larger than such a file can be.
    """
    folders = [layout.root] if any(map(os.path.lexists, (layout.manifest, layout.journal))) else []
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                entries = list(found)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
                continue
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # A writer is at work.
            if not entry.is_file(follow_symlinks=False):
                what = "it is a link" if entry.is_symlink() else "it is no regular file"
            elif size > LARGEST.get(entry.name, LARGEST_BY_SUFFIX.get(Path(entry.name).suffix, size)):
                what = f"it has {size:,} bytes"
            else:
                continue
            raise ForeignFile(f"{entry.path}: no file of a store: {what}", file=entry.path, store=layout.root)


def read_manifest(layout: Layout) -> Manifest:
    """Read the manifest.

    Raises:
        StoreMissing: there is none.
        CorruptManifest: it does not match its checksum, or is missing beside a journal.
        ForeignFile: see ``check_files``.
        StoreError: the store is of another format, or of a newer rules version.
    """
    check_files(layout)
    try:
        data = layout.manifest.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if layout.journal.exists() and not layout.making.exists():
            raise ManifestMissing(
                f"{layout.manifest}: offset 0: the manifest is missing, and the folder holds a journal",
                file=layout.manifest,
                offset=0,
                store=layout.root,
            ) from None
        raise StoreMissing(f"{layout.root}: no store here (no manifest.json)", store=layout.root) from None
    try:
        fields = json.loads(data)
        checksum = fields.pop("sha256")
        if json.dumps({**fields, "sha256": checksum}, indent=1).encode() + b"\n" != data or checksum != _checksum(
            fields
        ):
            raise ValueError("it does not match its checksum")
        if fields["format"] < FORMAT:
            raise StoreOlder(
                f"{layout.root}: made by an earlier margin-stream (format {fields['format']}; this one knows {FORMAT}), "
                "whose rules are others",
                store=layout.root,
            )
        if fields["format"] > FORMAT or fields["engine_version"] > latest():
            raise StoreNewer(
                f"{layout.root}: made by a newer margin-stream (format {fields['format']}, rules version "
                f"{fields['engine_version']}); "
                f"this one knows format {FORMAT}, rules version {latest()}",
                store=layout.root,
            )
        return msgspec.convert(fields, Manifest)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CorruptManifest(
            f"{layout.manifest}: offset 0: the manifest is damaged: {error}",
            file=layout.manifest,
            offset=0,
            store=layout.root,
        ) from None
