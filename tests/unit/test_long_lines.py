"""Lines and items beyond the limit: clipped where they enter, known again whichever way they come, and never part of
another one."""

from __future__ import annotations

from io import BytesIO

import pytest

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.binary import ITEM_LIMIT, encode, encode_payload
from margin_stream.schemas.ndjson import LINE_LIMIT, clipped, decode_line, read_lines
from margin_stream.schemas.records import decode_raw, raw_items
from margin_stream.schemas.refusals import Refusal, RefusedInput
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day

GOOD = Day().opened().lines[-1]
BOM = b"\xef\xbb\xbf"


def padded(length: int) -> bytes:
    """Return a good line of so many bytes."""
    return GOOD + b" " * (length - len(GOOD))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", BOM])
def test_a_line_at_the_limit_is_read_and_one_byte_more_is_not(mark: bytes, end: bytes) -> None:
    (line,) = read_lines(BytesIO(mark + padded(LINE_LIMIT) + end))
    assert decode_line(line, LATEST) == decode_line(GOOD, LATEST)
    for length in (LINE_LIMIT + 1, LINE_LIMIT + 2, LINE_LIMIT + 3, LINE_LIMIT + 7, 3 * LINE_LIMIT):
        (line,) = read_lines(BytesIO(mark + padded(length) + end))
        assert line == clipped(padded(length))
        with pytest.raises(RefusedInput) as refused:
            decode_line(line, LATEST)
        assert refused.value.refusal is Refusal.TOO_LONG


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("place", range(LINE_LIMIT - 4, LINE_LIMIT + 8))
def test_the_start_of_a_line_that_is_too_long_is_never_taken_for_a_line(mark: bytes, place: int) -> None:
    """A good line, then carriage returns where the reader cuts, then more: the rest may not be dropped as if it had
    never come."""
    lines = list(read_lines(BytesIO(mark + padded(place - 4) + b"\r\r\r\r" + b"{}" * 20 + b"\n" + GOOD)))
    assert len(lines) == 2
    with pytest.raises(RefusedInput):
        decode_line(lines[0], LATEST)
    assert lines[1] == GOOD


def test_a_long_line_is_one_input_whichever_way_it_comes() -> None:
    long = b"x" * (5 * LINE_LIMIT)
    (read,) = read_lines(BytesIO(long))
    (record,) = raw_items(long)
    (packed,) = raw_items(encode_payload([encode(b"L" + long)]))
    assert record == packed == b"L" + read
    system = StoreFold(1, rules_version=LATEST)
    assert system.admission.line(long).value == "refused"
    assert system.admission.line(read).value == "duplicate"
    assert system.admission.item(record).duplicate == 1


@pytest.mark.parametrize("make", [lambda data: b"\x81" + data, lambda data: b"\xdd\x00\x00\x00\x02\xc4" + data])
def test_an_item_of_msgpack_over_the_limit_is_clipped_and_refused(make: object) -> None:
    assert callable(make)
    (raw,) = raw_items(make(b"\xa1" * (5 * ITEM_LIMIT)))
    assert len(raw) == ITEM_LIMIT + 2
    with pytest.raises(RefusedInput) as refused:
        decode_raw(raw, LATEST)
    assert refused.value.refusal is Refusal.TOO_LONG
