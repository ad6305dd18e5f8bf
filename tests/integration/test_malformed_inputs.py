"""Malformed inputs, 5,000 of every kind: each is quarantined with its reason, nothing else is lost, memory stays
bounded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from margin_stream.core.intake.fold import Verdict
from margin_stream.core.store_fold import StoreFold
from margin_stream.host.embedded import Host
from margin_stream.kafka.address import MESSAGE_LIMIT, Topics
from margin_stream.kafka.shards import IntakeShard
from margin_stream.schemas.binary import encode, encode_payload
from margin_stream.schemas.ndjson import LINE_LIMIT
from margin_stream.schemas.records import raw_items
from margin_stream.schemas.refusals import Refusal
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.views.journal import quarantine
from margin_stream.views.source import StoreReader
from tests.counts import TIMES
from tests.days import Day, random_day
from tests.folding import fold, of_groups
from tests.malformed import KINDS, Made, malformed

COUNT = 5000
LINES = random_day(8, accounts=6, steps=120)
BAD = malformed(Random(13), COUNT)
FIFTY_MB = 50 << 20


def mixed(good: list[bytes], bad: list[Made], seed: int = 1) -> list[tuple[bytes, set[Refusal]]]:
    """Return good lines in their order with bad ones anywhere between; a good one has no reasons."""
    rng = Random(seed)
    places = sorted(rng.randrange(len(good) + 1) for _ in bad)
    found: list[tuple[bytes, set[Refusal]]] = []
    waiting = list(bad)
    for n, line in enumerate([*good, b""]):
        while places and places[0] == n:
            places.pop(0)
            found.append(waiting.pop())
        if n < len(good):
            found.append((line, set()))
    return found


def said_of_accounts(effects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in effect.items() if key != "sequence"} for effect in of_groups(effects)]


@pytest.mark.slow(reason="very large inputs")
@pytest.mark.parametrize("turn", range(TIMES))
def test_each_is_refused_for_its_reason_and_nothing_else_is_lost(turn: int) -> None:
    system = StoreFold(3, rules_version=LATEST)
    bad = malformed(Random(13 + turn), COUNT)
    lines = mixed(LINES, bad, turn)
    for line, reasons in lines:
        verdict = system.admission.line(line)
        assert verdict is (Verdict.REFUSED if reasons else Verdict.ACCEPTED), line[:300]
        if reasons:
            assert system.intake.last_refusal is not None
            reason, detail = system.intake.last_refusal
            assert reason in reasons, (reason, detail, line[:300])
            assert 0 < len(detail) < 1000
    assert system.intake.accepted == len(LINES)
    assert {system.admission.line(line) for line, _ in bad} == {Verdict.DUPLICATE}
    _, effects = fold([line for line, _ in lines])
    assert said_of_accounts(effects) == said_of_accounts(fold(LINES)[1])
    refused = [effect for effect in effects if effect["type"] == "input_refused"]
    assert sorted(effect["digest"] for effect in refused) == sorted(sha256(line).hexdigest() for line, _ in bad)


def test_every_kind_is_among_them() -> None:
    reached = {reason for _, reasons in BAD for reason in reasons}
    decoding = list(Refusal)[: list(Refusal).index(Refusal.SOURCE_KIND_MIXED)]
    # Too long has its own tests (50 MB below); not_msgpack is for records.
    assert reached == set(decoding) - {Refusal.TOO_LONG, Refusal.NOT_MSGPACK}
    assert len({line for line, _ in BAD}) == COUNT
    assert len(KINDS) > 15


@pytest.mark.slow(reason="very large inputs")
def test_a_store_keeps_all_of_them_and_is_rebuilt_from_its_journal(tmp_path: Path) -> None:
    lines = [line for line, _ in mixed(LINES, BAD)]
    expected = fold(lines)[0]
    with Host(tmp_path / "s", partitions=2) as host:
        counts = host.ingest(lines)
        assert host.checkpoint() == expected
    assert counts == (len(LINES), 0, COUNT)
    shutil.rmtree(tmp_path / "s" / "tables")
    with Host(tmp_path / "s") as again:
        assert again.checkpoint() == expected
    rows = {row["digest"]: row["reason"] for row in quarantine(StoreReader(tmp_path / "s"))}
    assert len(rows) == COUNT
    for line, reasons in BAD:
        assert rows[sha256(line).hexdigest()] in reasons


@pytest.mark.slow(reason="very large inputs")
def test_records_of_a_topic_with_them_keep_all_and_quarantine_messages_have_their_size() -> None:
    """As NDJSON and as msgpack, several a record; every reason is sent on, and no message is larger than a topic
    takes."""
    rng = Random(3)
    shard = IntakeShard(Topics("s"), "0" * 16, 2, rules_version=LATEST)
    lines = mixed(LINES, BAD[:1500])
    quarantined: list[dict[str, Any]] = []
    offset = 0
    while lines:
        count = rng.randrange(1, 12)
        group, lines = [line for line, _ in lines[:count]], lines[count:]
        # A line of NDJSON that begins like a msgpack container would be read as one.
        text = rng.randrange(2) and all(line[0] < 0x80 for line in group)
        shard.accept(offset, b"\n".join(group) if text else encode_payload([encode(b"L" + line) for line in group]))
        offset += 1
        for send in shard.drain():
            assert len(send.value or b"") < MESSAGE_LIMIT
            if send.topic.endswith("quarantine"):
                quarantined.append(json.loads(send.value or b""))
    assert shard.intake.accepted == len(LINES)
    found = {row["digest"]: row["reason"] for row in quarantined}
    assert len(found) == 1500
    assert all(found[sha256(line).hexdigest()] in reasons for line, reasons in BAD[:1500])


def foreign(rng: Random) -> bytes:
    """Return a record that claims to be msgpack."""
    good = encode(
        {"type": "clock_ticked.v1", "source": "f", "source_seq": rng.randrange(10**9), "event_time": 1, "time": 2}
    )
    deep = rng.choice((40, 1000, 100_000))
    return rng.choice(
        (
            good[: rng.randrange(1, len(good))],
            b"\x91" * deep + b"\xc0",
            b"\x81\xa1a" * deep + b"\xc0",
            b"\xdf\xff\xff\xff\xff" + good,
            b"\xdd\xff\xff\xff\xff" + good,
            b"\x81\xa4type\xcb\x7f\xf8" + bytes(6),
            b"\x81\xc0\xc0",
            b"\x81\x01\x02",
            b"\x82\xa4type\xa1x\xa4type\xa1x",
            b"\x81\xa4type\xd8\x05" + bytes(16),
            b"\x81\xa4type\xaeclock_ticked.v9",
            b"\x81\xa4type\xa8ticks.v1",
            good[:-1] + b"\xcb\x7f\xef" + b"\xff" * 6,
            good[:-1] + b"\xc7\x08\xff" + bytes(8),
            good[:-1] + b"\xcf" + b"\xff" * 8,
            bytes([rng.randrange(0x80, 0x90)]) + rng.randbytes(rng.randrange(1, 60)),
        )
    )


def test_msgpack_that_is_none_is_refused_and_the_records_around_it_are_not() -> None:
    rng = Random(5)
    system = StoreFold(1, rules_version=LATEST)
    for line in LINES[:40]:
        system.admission.line(line)
    offered = 0
    for n in range(1500):
        for raw in raw_items(foreign(rng)):
            offered += 1
            before = system.intake.accepted
            system.admission.item(raw)
            assert system.intake.accepted == before, raw[:200]
        if n % 50 == 0:
            assert system.admission.line(LINES[40 + n // 50]) is Verdict.ACCEPTED
    assert offered >= 1500


def test_a_record_of_fifty_megabytes_is_one_refused_input_and_takes_little_room() -> None:
    shard = IntakeShard(Topics("s"), "0" * 16, 2, rules_version=LATEST)
    shard.accept(0, b"\n".join(LINES[:50]))
    shard.drain()
    for offset, value in enumerate((b"x" * FIFTY_MB, b"\x81" + b"\xa1" * FIFTY_MB), start=1):
        tracemalloc.start()
        shard.accept(offset, value)
        sends = shard.drain()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 24 << 20
        assert shard.intake.last_refusal is not None
        assert shard.intake.last_refusal[0] is Refusal.TOO_LONG
        assert max(len(send.value or b"") for send in sends) < MESSAGE_LIMIT
    shard.accept(3, b"\n".join(LINES[50:]))
    assert (shard.intake.accepted, shard.intake.refused) == (len(LINES), 2)


PEAK = """
import sys
from margin_stream.cli.__main__ import main
try:
    main()
except SystemExit as end:
    code = end.code
print([row.split()[1] for row in open("/proc/self/status") if row.startswith("VmHWM")][0], file=sys.stderr)
sys.exit(code)
"""


def ingest_with_peak(path: str, store: Path, data: bytes = b"") -> tuple[dict[str, Any], int, bytes]:
    command = [sys.executable, "-c", PEAK, "ingest", path, "--store", str(store), "--json"]
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=120, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    *said, peak = done.stderr.splitlines()
    return json.loads(done.stdout), int(peak) << 10, b"\n".join(said)


@pytest.mark.slow(reason="very large inputs")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_a_line_of_fifty_megabytes_is_refused_in_a_file_and_on_standard_input_in_bounded_memory(tmp_path: Path) -> None:
    """With and without a line end; the lines before and behind it are taken."""
    small = tmp_path / "small.ndjson"
    small.write_bytes(b"\n".join(LINES))
    _, without, _ = ingest_with_peak(str(small), tmp_path / "a")
    middle, last = tmp_path / "middle.ndjson", tmp_path / "last.ndjson"
    long = b'{"type":"' + b"x" * FIFTY_MB
    middle.write_bytes(b"\n".join([*LINES[:60], long, *LINES[60:]]))
    last.write_bytes(b"\n".join([*LINES, long]))
    for path, store in ((middle, "b"), (last, "c")):
        found, peak, said = ingest_with_peak(str(path), tmp_path / store)
        assert (found["accepted"], found["refused"]) == (len(LINES), 1)
        assert b"too_long" in said
        assert peak < without + (24 << 20)
    again, peak, _ = ingest_with_peak("-", tmp_path / "b", middle.read_bytes())
    assert (again["accepted"], again["duplicate"]) == (0, len(LINES) + 1)
    assert peak < without + (24 << 20)
    assert (tmp_path / "b" / "journal" / f"{1:020d}.seg").stat().st_size < 2 * LINE_LIMIT


def test_what_could_not_be_decoded_leaves_its_number_free() -> None:
    """It is known by its bytes; the corrected line may carry the same number."""
    day = Day().opened()
    day.account("A")
    day.money("A", "5")
    good = day.lines[-1]
    bad = good.replace(b'"5"', b"5.5")
    system = StoreFold(1, rules_version=LATEST)
    assert [system.admission.line(line).value for line in [*day.lines[:-1], bad, good, bad]][-3:] == [
        "refused",
        "accepted",
        "duplicate",
    ]


def test_packed_refusals_are_the_same_input_as_their_line() -> None:
    bad = BAD[0][0]
    system = StoreFold(1, rules_version=LATEST)
    assert system.admission.line(bad) is Verdict.REFUSED
    assert system.admission.item(b"L" + bad).duplicate == 1
    assert system.admission.item(raw_items(msgspec.msgpack.encode([b"L" + bad]))[0]).duplicate == 1
