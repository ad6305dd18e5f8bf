"""The bytes of a log: what docs/journal.md says of them, and what a reader says of every kind of damage, with its
place."""

from __future__ import annotations

import struct
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from margin_stream.journal import records
from margin_stream.journal.records import (
    CorruptLog,
    Cut,
    Record,
    RecordTooLarge,
    Tail,
    chained,
    read_header,
    read_segment,
    record_bytes,
    segment_header,
    segment_name,
    segments,
)

STORE = bytes(range(16))
CHAIN = bytes(range(100, 132))
PAYLOADS = [b"first", b"", b"the third"]


def written(folder: Path, *, first: int = 1, chain: bytes = bytes(32), payloads: list[bytes] | None = None) -> Path:
    """Write a segment as docs/journal.md describes it, without the code under test."""
    head = struct.pack("<8s16sQ32s", b"MSLOG001", STORE, first, chain)
    data = head + struct.pack("<I", zlib.crc32(head))
    for n, payload in enumerate(PAYLOADS if payloads is None else payloads):
        checked = struct.pack("<IQ", len(payload), first + n)
        data += checked + struct.pack("<I", zlib.crc32(payload, zlib.crc32(checked))) + payload
    path = folder / f"{first:020d}.seg"
    path.write_bytes(data)
    return path


def test_a_segment_is_what_the_page_on_the_journal_says(tmp_path: Path) -> None:
    data = written(tmp_path, first=7, chain=CHAIN).read_bytes()
    made = segment_header(STORE, 7, CHAIN)
    assert len(made) == records.HEADER.size == 68
    for n, payload in enumerate(PAYLOADS):
        made += record_bytes(7 + n, payload)
    assert made == data
    assert segment_name(7) == "00000000000000000007.seg"


def test_segments_are_listed_in_order_of_their_first_record(tmp_path: Path) -> None:
    for first in (30, 4, 1000):
        written(tmp_path, first=first)
    (tmp_path / "highwater").write_bytes(b"")
    assert segments(tmp_path) == [4, 30, 1000]


def test_records_come_back_with_their_places_and_the_chain(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    found = list(read_segment(path, STORE, Cut(0, 1, 0, bytes(32))))
    offset, chain, expected = 68, bytes(32), []
    for n, payload in enumerate(PAYLOADS, start=1):
        end = offset + 16 + len(payload)
        chain = sha256(chain + data[offset:end]).digest()
        expected.append(Record(n, offset, payload, Cut(n, 1, end, chain)))
        offset = end
    assert found == [*expected, Tail(Cut(3, 1, len(data), chain), "")]
    assert chained(bytes(32), data[68 : 68 + 21]) == expected[0].cut.chain
    # From any cut on the rest comes, and the cut's number, place and chain go on.
    for n, record in enumerate(expected):
        assert list(read_segment(path, STORE, record.cut)) == found[n + 1 :]


@pytest.mark.parametrize(
    ("damage", "offset", "what"),
    [
        (lambda data: data[:67], 0, "the segment header is incomplete"),
        (lambda data: b"", 0, "the segment header is incomplete"),
        (lambda data: b"NSLOG001" + data[8:], 0, "not a segment of this format (begins b'NSLOG001')"),
        (
            lambda data: data[:63] + bytes([data[63] ^ 1]) + data[64:],
            0,
            "the segment header does not match its checksum",
        ),
        (
            lambda data: data[:64] + bytes([data[64] ^ 1]) + data[65:],
            0,
            "the segment header does not match its checksum",
        ),
        (lambda data: segment_header(bytes(16), 7, CHAIN), 8, f"the segment belongs to another store ({'00' * 16})"),
        (lambda data: segment_header(STORE, 8, CHAIN), 24, "the segment starts with record 8, its name has 7"),
    ],
)
def test_a_damaged_header_is_named_with_its_place(damage: object, offset: int, what: str) -> None:
    whole = segment_header(STORE, 7, CHAIN)
    path = Path("00000000000000000007.seg")
    assert read_header(whole, path, STORE, 7) == CHAIN
    assert read_header(whole + b"more", path, STORE, 7) == CHAIN
    with pytest.raises(CorruptLog) as caught:
        read_header(damage(whole), path, STORE, 7)  # type: ignore[operator]
    assert (caught.value.path, caught.value.offset, caught.value.what) == (path, offset, what)
    assert str(caught.value) == f"{path}: offset {offset}: {what}"


def test_a_segment_that_does_not_go_on_from_the_one_before_is_damage_of_its_chain(tmp_path: Path) -> None:
    path = written(tmp_path, first=7, chain=CHAIN)
    assert isinstance(next(read_segment(path, STORE, Cut(6, 7, 0, CHAIN))), Record)
    with pytest.raises(CorruptLog) as caught:
        next(read_segment(path, STORE, Cut(6, 7, 0, bytes(32))))
    assert (caught.value.path, caught.value.offset) == (path, 32)
    assert caught.value.what == "the segment does not continue the chain of the one before"
    # From a place behind the header the chain is the cut's; the header is still this store's.
    assert isinstance(next(read_segment(path, STORE, Cut(6, 7, 68, bytes(32)))), Record)
    with pytest.raises(CorruptLog):
        next(read_segment(path, bytes(16), Cut(6, 7, 68, bytes(32))))


def last(path: Path) -> Tail:
    *_, tail = read_segment(path, STORE, Cut(0, 1, 0, bytes(32)))
    assert isinstance(tail, Tail)
    return tail


def test_a_segment_cut_at_any_byte_ends_behind_its_last_whole_record(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    ends = [68, 68 + 16 + 5, 68 + 16 + 5 + 16, len(data)]
    for length in range(68, len(data) + 1):
        path.write_bytes(data[:length])
        tail = last(path)
        number = max(n for n, end in enumerate(ends) if end <= length)
        over = length - ends[number]
        assert (tail.cut.number, tail.cut.offset) == (number, ends[number])
        if over == 0:
            assert tail.what == ""
        elif over < 16:
            assert tail.what == f"record {number + 1} is torn: {over} bytes of its header"
        else:
            assert tail.what == f"record {number + 1} is torn: {over - 16} of {len(PAYLOADS[number])} bytes"


def test_any_flipped_bit_of_a_record_ends_the_segment_before_it(tmp_path: Path) -> None:
    path = written(tmp_path, payloads=[b"x", b"y"])
    data = path.read_bytes()
    second = 68 + 17
    for place in range(second, second + 17):
        for bit in (1, 128):
            flipped = bytearray(data)
            flipped[place] ^= bit
            path.write_bytes(flipped)
            tail = last(path)
            assert (tail.cut.number, tail.cut.offset) == (1, second)
            assert tail.what.startswith("record 2 ")
    flipped = bytearray(data)
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    assert last(path).what == "record 2 does not match its checksum"


def test_a_record_with_another_number_is_damage_though_its_checksum_holds(tmp_path: Path) -> None:
    path = written(tmp_path, payloads=[b"x"])
    path.write_bytes(path.read_bytes() + record_bytes(3, b"y"))
    assert last(path).what == "record 2 was expected, 3 is here"
    assert (last(path).cut.number, last(path).cut.offset) == (1, 68 + 17)
    path.write_bytes(path.read_bytes()[: 68 + 17] + record_bytes(1, b"y"))
    assert last(path).what == "record 2 was expected, 1 is here"


def test_a_payload_has_at_most_sixty_four_mebibytes_for_writer_and_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert records.PAYLOAD_LIMIT == 64 << 20
    monkeypatch.setattr(records, "PAYLOAD_LIMIT", 9)
    path = written(tmp_path, payloads=[b"9 bytes.."])
    assert record_bytes(1, b"9 bytes..") == path.read_bytes()[68:]
    assert last(path).what == ""
    with pytest.raises(RecordTooLarge) as caught:
        record_bytes(1, b"10 bytes..")
    assert str(caught.value) == "record 1 would have 10 bytes, a reader takes 9"
    path = written(tmp_path, payloads=[b"10 bytes.."])
    assert last(path) == Tail(Cut(0, 1, 68, bytes(32)), "record 1 is damaged: its length reads 10")
