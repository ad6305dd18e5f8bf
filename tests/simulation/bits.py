"""Every bit of a store's files, one at a time: the readers that everything rests on must name each, and whole stores a
sample of them.

A class is every ``CLASSES``-th byte of every file, all eight bits of it: classes 1 to ``CLASSES`` are all bits, each
once. A bit is flipped in place, shown to the readers of its file, and put back: that is quick enough for all. ``FULL``
bits a class are flipped in a copy, which is verified, opened for writing, given its inputs again, and judged by
``damage.judge``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest import mock

from margin_stream.journal import highwater
from margin_stream.journal import log as logs
from margin_stream.journal.layout import CorruptManifest, Layout, read_manifest
from margin_stream.journal.log_end import durable_cut, find_end
from margin_stream.journal.records import CorruptLog, Cut, Record, segment_name
from margin_stream.replay.verification import verify
from margin_stream.tables import rocks
from margin_stream.tables.rocks import TableError
from tests.days import random_day
from tests.simulation import checker, damage
from tests.simulation.damage import Damage
from tests.simulation.stores import Made, _durable
from tests.simulation.workloads import Workload

CLASSES = 251
"""A prime: slots and records of any length are met at every place of theirs."""
FULL = 8
SEGMENT = 64 << 10
NOBODYS = ("LOG", "OPTIONS-")
"""RocksDB's text logs and notes of options: written by it, read by nobody; ``without_nobodys_files`` proves it."""


class Log(NamedTuple):
    """A log as it was written."""

    records: list[Record]
    end: Cut


class Whole(NamedTuple):
    """An undamaged store, and what its readers say of it."""

    made: Made
    identity: bytes
    logs: dict[Path, Log]
    files: dict[Path, bytes]


@lru_cache(maxsize=1)
def whole() -> Whole:
    """Make the store: a journal segment of 64 KiB that is closed, one that is open, a checkpoint at its end; the same
    bytes each time, but for the tables."""
    lines = random_day(7, accounts=9, steps=800, noisy=True)
    work = Workload(0, lines, partitions=2, group=15, checkpoint=400, segment_limit=SEGMENT)
    path = Path(tempfile.mkdtemp(prefix="bits-")) / "s"
    with (
        mock.patch("margin_stream.journal.layout.secrets.token_hex", lambda length: "5a" * length),
        work.open(path) as host,
    ):
        host.ingest(lines)
    identity = read_manifest(Layout(path)).identity
    found = {}
    for folder in sorted({segment.parent for segment in path.rglob("*.seg")}):
        records = list(logs.read(folder, identity))
        found[folder] = Log(records, highwater.read(folder / highwater.NAME, identity).cut)
    assert (path / "journal" / segment_name(1)).stat().st_size >= SEGMENT, "the journal has no segment of 64 KiB"
    checker.check(path, lines, len(lines))
    files = {name: (path / name).read_bytes() for name in damage.files_of(path)}
    return Whole(Made(path, path, work, len(lines), work.reference(), _durable(path), "closed"), identity, found, files)


@contextmanager
def flipped(path: Path, offset: int, mask: int, byte: int) -> Iterator[None]:
    """Flip bits of one byte in place, and put it back."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.pwrite(descriptor, bytes([byte ^ mask]), offset)
        yield
    finally:
        os.pwrite(descriptor, bytes([byte]), offset)
        os.close(descriptor)


def look(store: Whole, file: Path, offset: int) -> Counter[str]:
    """Flip each bit of a byte and let the readers of its file look; return what noticed it.

    Raises:
        AssertionError: nothing noticed, another place was named, or what was read is not what was written.
    """
    path, counts = store.made.path / file, Counter[str]()
    for bit in range(8):
        with flipped(path, offset, 1 << bit, store.files[file][offset]):
            try:
                counts[_seen(store, path, offset)] += 1
            except AssertionError as error:
                raise AssertionError(f"{file} offset {offset} bit {bit}: {error}") from None
    return counts


def _seen(store: Whole, path: Path, offset: int) -> str:
    if path.suffix == ".seg":
        return _in_segment(store, path, offset)
    if path.name == highwater.NAME:
        return _in_mark(store, path, offset)
    if path.name == "manifest.json":
        return _in_manifest(store, path)
    return _in_table(path)


def _in_segment(store: Whole, path: Path, offset: int) -> str:
    log = store.logs[path.parent]
    first = int(path.stem)
    # The record that the bit lies in, or the segment's header.
    inside = max(
        (record.offset for record in log.records if record.cut.segment == first and record.offset <= offset), default=0
    )
    before = sum(
        record.cut.segment < first or (record.cut.segment == first and record.cut.offset <= offset)
        for record in log.records
    )
    read = 0
    try:
        for record in logs.read(path.parent, store.identity):
            assert read < before, "a record was read that holds the bit"
            assert record == log.records[read], "a record was read otherwise than it was written"
            read += 1
    except CorruptLog as found:
        _named(found, path, inside, offset)
        assert read == before, f"{read} of {before} records before the bit were read"
    else:
        raise AssertionError("the reader noticed nothing")
    # The writer reads from the segment of its checkpoint on.
    mark = highwater.read(path.parent / highwater.NAME, store.identity)
    try:
        ending = find_end(path.parent, store.identity, mark, log.end)
    except CorruptLog as found:
        _named(found, path, inside, offset)
        return "segment: reader and writer"
    assert first < log.end.segment, "the writer noticed nothing"
    assert ending == (log.end, ()), "the writer would write elsewhere"
    return "segment: reader (the writer does not read it)"


def _named(found: CorruptLog, path: Path, inside: int, offset: int) -> None:
    assert found.path == path, f"{found.path} was named"
    assert inside <= found.offset <= offset, f"offset {found.offset} was named, the record begins at {inside}"


def _in_mark(store: Whole, path: Path, offset: int) -> str:
    true = store.logs[path.parent].end
    try:
        mark = highwater.read(path, store.identity)
    except CorruptLog as found:
        raise AssertionError(f"one bit, and neither slot is believed: {found}") from found
    assert mark.damaged, "the reader noticed nothing"
    slot = offset // highwater.SLOT_SPACING * highwater.SLOT_SPACING
    assert all(slot <= at <= offset for at, _ in mark.damaged), f"{mark.damaged} was named"
    assert mark.cut == true or not mark.certain, "an older mark is believed"
    assert durable_cut(path.parent, store.identity) == true, "readers would read less, or more"
    return "mark: the slot is named, the end is known"


def _in_manifest(store: Whole, path: Path) -> str:
    said = ""
    try:
        read_manifest(Layout(store.made.path))
    except CorruptManifest as found:
        said = str(found)
    assert said.startswith(f"{path}: offset 0"), f"the reader said {said!r}"
    return "manifest"


def _in_table(path: Path) -> str:
    named: Path | None = None
    try:
        rocks._examine([path.parent])
    except TableError as found:
        named = Path(found.where["file"])
    # A bit of a seal shows as a file that does not have its sum.
    assert named is not None, "the reader noticed nothing"
    assert path.name == rocks.SEAL or named == path, f"{named} was named"
    return "table: rebuilt from the journal"


def judge(store: Whole, file: Path, offset: int, bit: int) -> str:
    """Flip a bit in a copy of the store, verify it, open it for writing, and give it its inputs again; return what
    became of it.

    Raises:
        AssertionError, Lost: it was not named, or something is lost, doubled or otherwise.
    """
    folder = Path(tempfile.mkdtemp(prefix="bit-"))
    try:
        root = folder / "s"
        shutil.copytree(store.made.path, root)
        path = root / file
        data = bytearray(path.read_bytes())
        data[offset] ^= 1 << bit
        path.write_bytes(data)
        nobodys = path.name.startswith(NOBODYS)
        problems = verify(root, fold=False).problems
        places = [problem for problem in problems if problem.file == str(path) and (problem.offset or 0) <= offset]
        seal = path.name == rocks.SEAL and any(problem.file.startswith(str(path.parent)) for problem in problems)
        assert places or seal or nobodys, f"{file} offset {offset} bit {bit}: verify named {problems}"
        assert not (nobodys and problems), f"{file} is read by nobody, and verify named {problems}"
        return damage.judge(store.made, root, Damage(file, offset, f"bit {bit}", not nobodys, 1 << bit))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def without_nobodys_files(store: Whole) -> int:
    """Remove the files that nobody reads from a copy; return how many bits that were.

    Raises:
        AssertionError: the store is not what it was.
    """
    with tempfile.TemporaryDirectory(prefix="bits-") as folder:
        root = Path(folder) / "s"
        shutil.copytree(store.made.path, root)
        bits = 0
        for path in [path for path in root.rglob("*") if path.is_file() and path.name.startswith(NOBODYS)]:
            bits += 8 * path.stat().st_size
            path.unlink()
        assert verify(root, fold=False).ok, "verify read a file that nobody reads"
        with store.made.work.open(root) as host:
            assert not host.recovery.notes, f"the writer read a file that nobody reads: {host.recovery.notes}"
            assert host.system.digests() == store.made.reference
    return bits


def trial(seed: int, *, full: int = FULL) -> dict[str, int]:
    """Flip every bit of one class; verify and open the store with some bits of it flipped."""
    store = whole()
    counts = Counter[str]()
    place = (seed - 1) % CLASSES
    for file, data in store.files.items():
        for offset in range(place, len(data), CLASSES):
            counts.update(look(store, file, offset))
            counts["bits"] += 8
            counts["bits of the 64 KiB segment"] += 8 * (file == Path("journal") / segment_name(1))
    changed = [str(file) for file, data in store.files.items() if (store.made.path / file).read_bytes() != data]
    assert not changed, f"looking changed {changed}"
    rng = Random(f"bits {seed}")
    everything = {
        **store.files,
        **{
            path.relative_to(store.made.path): path.read_bytes()
            for path in store.made.path.rglob("LOG")
            if path.is_file()
        },
    }
    names = sorted(everything)
    for file in rng.choices(
        names, [min(len(everything[name]), 20_000) if name in store.files else 50 for name in names], k=full
    ):
        ended = judge(store, file, rng.randrange(len(everything[file])), rng.randrange(8))
        counts.update(
            {
                f"opened: {ended}": 1,
                "verified and opened": 1,
                "of these in files that nobody reads": int(file not in store.files),
            }
        )
    if place == 0:
        counts["bits of files that nobody reads"] += without_nobodys_files(store)
    return dict(counts)
