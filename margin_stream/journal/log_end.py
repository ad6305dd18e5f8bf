"""How a log ends: what of it is whole, and what lies behind it that no acknowledgement ever covered.

The writer cuts by this on opening, ``verify`` reports by it, ``repair`` shows it first. Bytes are loose only where a
crash explains them: a record torn behind the durable mark, or a segment that was being made. Whatever no crash explains
is damage, wherever it lies.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from margin_stream.journal import highwater
from margin_stream.journal.highwater import HighWater
from margin_stream.journal.records import (
    HEADER,
    START,
    UNREADABLE,
    CorruptLog,
    Cut,
    Tail,
    read_head,
    read_header,
    segment_name,
    segments,
    walk,
)


class Loose(NamedTuple):
    """Bytes behind the end of a log, written and never acknowledged."""

    path: Path
    offset: int
    """From here to the end of the file; 0 where the whole file goes."""
    length: int
    what: str


class Ending(NamedTuple):
    """The end of a log."""

    cut: Cut
    loose: tuple[Loose, ...]


class NotInLog(CorruptLog):
    """A checkpoint speaks of a place that the log, sound in itself, does not have: the checkpoint is another log's."""


def find_end(folder: Path, store_id: bytes, mark: HighWater, after: Cut = START) -> Ending:
    """Find the end of a log.

    Args:
        folder: the log.
        store_id: 16 bytes.
        mark: what its high-water file states.
        after: a cut that a checkpoint knows. The segment that holds it is read whole, those before it are not read
            again.

    Raises:
        NotInLog: the log is sound as far as it was read, and the cut is not one of its places.
        CorruptLog: damage at or below the durable mark, or bytes behind it that no crash explains.
    """
    durable = mark.cut
    if after.number > durable.number and not mark.certain:
        # The slot that is left is the older one. The tables were written after the newer, so the log must reach to what
        # they know.
        durable = after
    if after.number > durable.number:
        path = folder / highwater.NAME
        raise CorruptLog(
            path,
            0,
            f"the tables know record {after.number}, the high-water mark is at {durable.number}: acknowledged records "
            f"are gone, or the file is of an earlier time",
        )
    begin = after
    if after != START:
        path = folder / segment_name(after.segment)
        if not path.exists():
            raise CorruptLog(path, 0, "the segment is missing")
        begin = Cut(after.segment - 1, after.segment, 0, read_header(read_head(path), path, store_id, after.segment))
    tail = Tail(begin, "")
    # Before a segment has records its header stands for the place behind the record before.
    chains = {begin.number: Cut(begin.number, begin.segment, HEADER.size, begin.chain)}
    unmade: Path | None = None
    read = {begin.segment}
    try:
        for found in walk(folder, store_id, begin):
            read.add(found.cut.segment)
            tail = found if isinstance(found, Tail) else Tail(found.cut, "")
            if tail.cut.number in (after.number, durable.number):
                chains.setdefault(tail.cut.number, tail.cut)
    except CorruptLog as damage:
        if not _in_the_making(damage.path, tail.cut, durable, after):
            raise
        unmade = damage.path
    path = folder / segment_name(tail.cut.segment)
    if tail.cut.number < durable.number:
        what = tail.what or f"the log ends at record {tail.cut.number}, but record {durable.number} was durable"
        raise CorruptLog(path, tail.cut.offset, what)
    known = chains.get(durable.number)
    if durable is mark.cut and durable.number and known is not None and known.chain != durable.chain:
        raise CorruptLog(path, known.offset, f"record {durable.number} does not have the chain of the high-water mark")
    if after != START and (after.number not in chains or chains[after.number] != after):
        raise NotInLog(path, after.offset, f"record {after.number} is not the one that the tables know")
    cut = tail.cut if tail.cut.offset else Cut(tail.cut.number, tail.cut.segment, HEADER.size, tail.cut.chain)
    for first in segments(folder):
        if begin.segment < first <= cut.number and first not in read:
            raise CorruptLog(
                folder / segment_name(first), 0, "the segment is not part of the log: its records lie in another one"
            )
    return Ending(cut, _loose(folder, mark, cut, tail.what, unmade))


def durable_cut(folder: Path, store_id: bytes) -> Cut:
    """Return up to where readers may read: the mark, or where it is in doubt (a slot is damaged) the end of what is
    whole.

    Raises:
        CorruptLog: the high-water file cannot be used, or the log is damaged.
    """
    mark = highwater.read(folder / highwater.NAME, store_id)
    return mark.cut if mark.certain else find_end(folder, store_id, mark).cut


LOOKED_THROUGH = 32 << 20


def look(folder: Path, store_id: bytes) -> CorruptLog | None:
    """Return damage of a log that shows quickly: high-water file, headers, lengths; of a log of up to 32 MiB every
    record is read. ``verify`` reads all of any."""
    try:
        mark = highwater.read(folder / highwater.NAME, store_id)
        firsts = [first for first in segments(folder) if first <= max(1, mark.cut.segment)]
        whole = sum((folder / segment_name(first)).stat().st_size for first in firsts) <= LOOKED_THROUGH
        if whole or not firsts or firsts[0] != 1:
            find_end(folder, store_id, mark)
            return None
        for first in firsts:
            path = folder / segment_name(first)
            read_header(read_head(path), path, store_id, first)
        if firsts[-1] != mark.cut.segment or path.stat().st_size < mark.cut.offset:
            return CorruptLog(path, path.stat().st_size, f"the log ends before record {mark.cut.number}")
    except CorruptLog as damage:
        return damage
    except FileNotFoundError:
        return None  # A writer is at work.
    return None


def _in_the_making(path: Path, end: Cut, durable: Cut, after: Cut) -> bool:
    """Say whether a segment that cannot be read was being made when the writer died.

    The header is durable before a record follows it, and the mark is at the end of the segment before, so such a file
    holds no more than a header.
    """
    return (
        path.name == segment_name(end.number + 1)
        and end.number >= durable.number
        and end.number + 1 > max(durable.segment, after.segment)
        and path.exists()
        and path.stat().st_size <= HEADER.size
    )


def _loose(folder: Path, mark: HighWater, cut: Cut, what: str, unmade: Path | None) -> tuple[Loose, ...]:
    loose = []
    path = folder / segment_name(cut.segment)
    length = path.stat().st_size - cut.offset
    if length > 0:
        if what.startswith(UNREADABLE):
            raise CorruptLog(path, cut.offset, what)
        if not mark.certain:
            # The mark is written only after what it covers is durable, and nothing is written meanwhile: no crash
            # leaves both torn.
            raise CorruptLog(
                path,
                cut.offset,
                f"{what}, and a slot of the high-water file is damaged, so it may have been acknowledged",
            )
        loose.append(Loose(path, cut.offset, length, what))
    for first in segments(folder):
        extra = folder / segment_name(first)
        if first > cut.number and first != cut.segment:
            if extra != unmade or loose:
                raise CorruptLog(extra, 0, f"the segment is not part of the log, which ends at record {cut.number}")
            loose.append(Loose(extra, 0, extra.stat().st_size, "the segment was being made"))
    return tuple(loose)
