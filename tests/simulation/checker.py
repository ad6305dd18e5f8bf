"""What must be in a journal, judged apart from the engine: by the page ``docs/journal.md``, the standard library and
msgpack alone.

An input is acknowledged in order, so the journal must hold the inputs of a prefix of the lines, each once, in order,
and the prefix must reach at least to what was acknowledged.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgpack

Identity = tuple[str, int] | bytes
FEEDS = ("price_ticked", "clock_ticked")


class Lost(AssertionError):
    """The journal does not hold what was acknowledged, or holds something twice."""


def payloads(folder: Path) -> list[bytes]:
    """Return the whole records of a log, checksums, numbers and chain compared; what follows the first that is not
    whole is left."""
    found: list[bytes] = []
    chain = bytes(32)
    for path in sorted(folder.glob("*.seg")):
        data, at = path.read_bytes(), 68
        if len(data) < 68 or zlib.crc32(data[:64]) != int.from_bytes(data[64:68], "little"):
            break
        if data[32:64] != chain or int.from_bytes(data[24:32], "little") != len(found) + 1:
            raise Lost(f"{path.name} does not follow the segment before")
        while at + 16 <= len(data):
            length, number, crc = struct.unpack_from("<IQI", data, at)
            payload = data[at + 16 : at + 16 + length]
            if (
                len(payload) < length
                or crc != zlib.crc32(payload, zlib.crc32(data[at : at + 12]))
                or number != len(found) + 1
            ):
                return found
            chain = hashlib.sha256(chain + data[at : at + 16 + length]).digest()
            found.append(payload)
            at += 16 + length
    return found


def journalled(store: Path) -> list[Identity]:
    """Return the identities of a store's journal, in order."""
    return identities(payloads(store / "journal"))


def identities(records: Iterable[bytes]) -> list[Identity]:
    """Return the identities of what records hold, in order."""
    found: list[Identity] = []
    for payload in records:
        for item in msgpack.unpackb(payload, strict_map_key=False):
            if isinstance(item, bytes):
                found.append(_of_line(item[1:])[0])
            elif item["type"] == "ticks.v1":
                sequences = item["sequence"]
                found.extend((item["source"], sequence) for (sequence,) in struct.iter_unpack("<q", sequences))
            else:
                found.append((item["source"], item["source_seq"]))
    return found


def _of_line(line: bytes) -> tuple[Identity, bool]:
    """Return a line's identity, and whether its source is a feed."""
    try:
        fields: Any = json.loads(line)
        return (fields["source"], fields["source_seq"]), fields["type"] in FEEDS
    except (ValueError, KeyError, TypeError):
        # Of a line that is too long so much is kept.
        return hashlib.sha256(line[:1_048_577]).digest(), False


def expected(lines: Iterable[bytes]) -> tuple[list[Identity], list[int]]:
    """Return what a journal of these lines must hold, and how much of it after each line: feeds rise, books and raw
    lines come once."""
    found: list[Identity] = []
    counts: list[int] = []
    seen: set[Identity] = set()
    highest: dict[str, int] = {}
    for line in lines:
        identity, feed = _of_line(line)
        if feed and isinstance(identity, tuple):
            new = identity[1] > highest.get(identity[0], -1)
            highest[identity[0]] = max(identity[1], highest.get(identity[0], -1))
        else:
            new = identity not in seen
            seen.add(identity)
        if new:
            found.append(identity)
        counts.append(len(found))
    return found, counts


def check(store: Path, lines: list[bytes], acknowledged: int) -> None:
    """Compare a store's journal with the lines it was given.

    Args:
        store: the folder.
        lines: in the order in which they were sent, from the first; they may have been sent many times.
        acknowledged: how many of them, from the first, were acknowledged.

    Raises:
        Lost: something that was acknowledged is not there, or anything is there twice, or out of order.
    """
    must, counts = expected(lines)
    got = journalled(store)
    at_least = counts[acknowledged - 1] if acknowledged else 0
    if len(got) < at_least:
        raise Lost(f"{at_least} inputs were acknowledged, the journal holds {len(got)}")
    for place, (one, other) in enumerate(zip(got, must, strict=False)):
        if one != other:
            raise Lost(f"place {place + 1} of the journal holds {one!r}, {other!r} was sent there")
    if len(got) > len(must):
        raise Lost(f"the journal holds {len(got)} inputs, {len(must)} were sent")
