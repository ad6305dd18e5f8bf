"""Checks of a store in a folder: manifest, lock, journal, effects, tables. Read-only, and no lock is taken, not even
for a moment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from margin_stream.doctor.findings import Finding, ok, problem, skipped, warning
from margin_stream.host.lock import holder_of
from margin_stream.journal import FORMAT, highwater
from margin_stream.journal.layout import (
    INTAKE_NAME,
    CorruptManifest,
    Layout,
    Manifest,
    StoreError,
    StoreMissing,
    partition_name,
    read_manifest,
)
from margin_stream.journal.records import CorruptLog, segments
from margin_stream.replay.verification import Verified, verify
from margin_stream.tables.rocks import SEAL
from margin_stream.views.clock import standing_in_journal
from margin_stream.views.source import source_of

SHOWN = 3


def store(folder: Path) -> Iterator[Finding]:
    """Check the store in a folder."""
    layout = Layout(folder)
    try:
        manifest = read_manifest(layout)
    except StoreMissing:
        yield skipped(
            "store.manifest", f"{folder}: no store here yet", "`margin-stream ingest` makes one; --store names another."
        )
        return
    except CorruptManifest as error:
        yield problem("store.manifest", str(error), "Restore manifest.json from a copy of the store.")
        return
    except StoreError as error:
        yield problem("store.manifest", str(error), "Upgrade margin-stream on this machine.")
        return
    except OSError as error:
        yield problem(
            "store.manifest", f"{folder}: {error.strerror or error}", "Give this user the right to read the store."
        )
        return
    text = (
        f"format {manifest.format} (this margin-stream: {FORMAT}), rules version {manifest.rules_version}, "
        f"{manifest.partitions} partitions"
    )
    yield ok("store.manifest", f"{folder}: {text}")
    holder = holder_of(layout.lock)
    yield ok("store.lock", "no process writes to it" if holder is None else f"written to by {holder}")
    yield _journal(layout, manifest)
    yield _verified(_looked_at(folder, busy=holder is not None))
    yield _clock(folder)
    yield _tables(layout, manifest, busy=holder is not None)


def _clock(folder: Path) -> Finding:
    """Say whether the clock moves with the quotes."""
    name = "store.clock"
    try:
        found = standing_in_journal(source_of(folder))
    except (StoreError, CorruptLog) as error:
        return skipped(name, str(error), "Mend what the other findings name first.")
    if found is None:
        return ok(name, "it moves with the quotes")
    advice = "Send clock_ticked, or run `margin-stream ingest` with --clock event-time or --clock wall."
    return warning(name, str(found), advice)


def _journal(layout: Layout, manifest: Manifest) -> Finding:
    """Say how far the journal is durable; its format is named by its first bytes, which reading checks."""
    name = "store.journal"
    try:
        mark = highwater.read(layout.journal / highwater.NAME, manifest.identity)
    except CorruptLog as damage:
        return problem(
            name,
            str(damage),
            "`margin-stream verify` reports what else is damaged, `margin-stream repair` what can be repaired.",
        )
    found = [path for first in segments(layout.journal) for path in layout.journal.glob(f"{first:020d}.seg")]
    size = sum(path.stat().st_size for path in found)
    text = f"durable up to record {mark.cut.number:,}, {len(found)} segments, {size / (1 << 20):,.1f} MiB"
    if mark.damaged:
        return warning(
            name,
            f"{text}; {'; '.join(f'offset {offset}: {what}' for offset, what in mark.damaged)}",
            "The next writer mends the high-water file; look at the disk.",
        )
    return ok(name, text)


def _looked_at(folder: Path, *, busy: bool) -> Verified:
    """Verify; beside a writer only what two looks agree on is damage: a log may have grown between the reading of
    two."""
    found = verify(folder, fold=False, tables=False)
    if found.ok or not busy:
        return found
    again = verify(folder, fold=False, tables=False)
    both = [row for row in again.problems if row in found.problems]
    return msgspec.structs.replace(again, ok=not both, problems=both)


def _verified(found: Verified) -> Finding:
    """Say what a verification without folding and without tables found."""
    name = "store.verify"
    if not found.problems:
        tail = (
            f"; {found.torn_tail_bytes:,} bytes behind the durable end, never acknowledged"
            if found.torn_tail_bytes
            else ""
        )
        text = (
            f"{found.records:,} records, {found.items:,} items, {found.effects:,} effects: checksums, chains "
            f"and order hold{tail}"
        )
        return ok(name, text)
    places = "; ".join(
        f"{row.file}{'' if row.offset is None else f': offset {row.offset}'}: {row.what}"
        for row in found.problems[:SHOWN]
    )
    more = f"; and {len(found.problems) - SHOWN} more" if len(found.problems) > SHOWN else ""
    return problem(name, places + more, "`margin-stream verify` reports all; restore the named files from a copy.")


def _tables(layout: Layout, manifest: Manifest, *, busy: bool) -> Finding:
    """Compare the tables' files with the checksums of their seals. They are not opened: RocksDB writes, even where it
    only reads."""
    name = "store.tables"
    mend = "Nothing is lost: the next `margin-stream ingest` rebuilds them from the journal."
    if busy:
        return skipped(name, "a writer is at work: its tables are not sealed", "Look again when it has stopped.")
    for table in (INTAKE_NAME, *(partition_name(number) for number in range(manifest.partitions))):
        folder = layout.table(table)
        if not folder.exists():
            return skipped(name, f"{folder}: not there yet", mend)
        try:
            noted = json.loads((folder / SEAL).read_bytes())
        except FileNotFoundError:
            return warning(name, f"{folder}: not sealed: the writer ended without closing it", mend)
        except ValueError:
            return warning(name, f"{folder / SEAL}: the seal is damaged", mend)
        for file, checksum in sorted(noted.items()):
            path = folder / file
            if not path.exists() or sha256(path.read_bytes()).hexdigest() != checksum:
                return warning(name, f"{path}: does not match its checksum", mend)
    return ok(name, f"{manifest.partitions + 1} tables, each as it was sealed")
