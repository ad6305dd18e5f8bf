"""Whatever is acknowledged can be read again: no record of a log is larger than a reader takes."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from margin_stream import Store
from margin_stream.core.intake.fold import Verdict
from margin_stream.host.embedded import Host
from margin_stream.journal import log as logs
from margin_stream.journal import record_builder
from margin_stream.journal.records import PAYLOAD_LIMIT, Record, RecordTooLarge, record_bytes, segment_name, walk
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import verify
from margin_stream.schemas.binary import decode_payload, encode
from margin_stream.schemas.ndjson import LINE_LIMIT
from tests.days import Day, random_day
from tests.folding import fold

LINES = random_day(31, accounts=12, steps=120)


def test_lines_of_seventy_megabytes_leave_a_store_that_opens(tmp_path: Path) -> None:
    long = b"x" * (70 << 20)
    with Host(tmp_path / "s") as host:
        host.ingest([*LINES[:50], long, *LINES[50:], long])
        assert host.system.intake.refused == 1
        position = host.system.sequence
    assert sum(path.stat().st_size for path in (tmp_path / "s" / "journal").iterdir()) < 2 * LINE_LIMIT
    assert position == fold(LINES)[0].sequence + 1
    assert verify(tmp_path / "s").ok
    assert replay(tmp_path / "s").sequence == position


@pytest.mark.slow(reason="records near their largest size")
async def test_many_callers_with_long_lines_at_once_leave_a_store_that_opens(tmp_path: Path) -> None:
    """They share a disk write, and more than one record may hold."""
    callers = PAYLOAD_LIMIT // LINE_LIMIT + 6
    store = Store.open(tmp_path / "s")
    acks = await asyncio.gather(*(store.append(b"%04d" % n + b"x" * (LINE_LIMIT - 4)) for n in range(callers)))
    assert {ack.verdict for ack in acks} == {Verdict.REFUSED}
    store.close()
    assert verify(tmp_path / "s").ok
    assert replay(tmp_path / "s").sequence == callers


def test_effects_of_one_item_beyond_a_record_are_kept_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tick can say something of every account of a partition."""
    monkeypatch.setattr(record_builder, "RECORD_BYTES", 1000)
    day = Day().opened()
    for n in range(60):
        day.account(f"A{n}")
        day.money(f"A{n}", "1", "BTC")
        day.money(f"A{n}", "-25000")
    day.tick("BTCUSDT", "36000")
    expected = fold(day.lines)[0]
    host = Host(tmp_path / "s", group_items=10_000)
    host.ingest(day.lines)
    host.abandon()
    with Host(tmp_path / "s") as again:
        assert again.checkpoint() == expected
    for log in ("journal", "effects/p0000"):
        records = list(logs.read(tmp_path / "s" / log, host.manifest.identity))
        assert len(records) > 5
        assert max(len(record.payload) for record in records) < 2500
    assert replay(tmp_path / "s").equal
    assert verify(tmp_path / "s").ok


@pytest.mark.slow(reason="records near their largest size")
def test_a_crash_between_two_records_of_the_effects_of_one_item_loses_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Effects are written behind the journal and not synced with it: a machine that dies may keep any part of them."""
    monkeypatch.setattr(record_builder, "RECORD_BYTES", 1000)
    day = Day().opened()
    for n in range(60):
        day.account(f"A{n}")
        day.money(f"A{n}", "1", "BTC")
        day.money(f"A{n}", "-25000")
    day.tick("BTCUSDT", "36000")
    expected = fold(day.lines)[0]
    whole = tmp_path / "s"
    host = Host(whole, group_items=10_000)
    host.ingest(day.lines)
    host.abandon()
    log = Path("effects", "p0000")
    ends = [found.cut for found in walk(whole / log, host.manifest.identity, logs.START) if isinstance(found, Record)]
    assert len(ends) > 5
    for n, cut in enumerate(ends):
        torn = tmp_path / f"torn{n}"
        shutil.copytree(whole, torn)
        os.truncate(torn / log / segment_name(cut.segment), cut.offset + n % 3)
        with Host(torn) as again:
            assert again.checkpoint() == expected
        assert replay(torn).equal
        assert verify(torn).ok


def test_a_record_that_no_reader_takes_is_not_written() -> None:
    with pytest.raises(RecordTooLarge, match="a reader takes"):
        record_bytes(1, bytes(PAYLOAD_LIMIT + 1))
    assert len(record_bytes(1, bytes(PAYLOAD_LIMIT))) > PAYLOAD_LIMIT


def test_payloads_end_at_whole_items() -> None:
    items = [bytes(n) for n in (3, record_builder.RECORD_BYTES, 1, record_builder.RECORD_BYTES - 1, 5, 6)]
    made = list(record_builder.payloads([encode(item) for item in items]))
    assert len(made) == 5
    assert [item for payload in made for item in decode_payload(payload)] == items
    assert list(record_builder.payloads([])) == []
