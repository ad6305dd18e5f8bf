"""The command line: exit codes, NDJSON, bad input, clean stops. Each test runs the command as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from margin_stream.core.store_fold import StoreFold
from margin_stream.host.embedded import Host
from margin_stream.schemas.refusals import ADVICE, Refusal
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day, random_day
from tests.folding import fold, recorded_data

LINES = random_day(8, accounts=6, steps=120)


def run(*words: str, data: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "margin_stream.cli", *words]
    return subprocess.run(
        command, input=data, capture_output=True, check=False, env={**os.environ, **environment}, timeout=120
    )


def rows(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def store(tmp_path: Path) -> str:
    with Host(tmp_path / "s") as host:
        host.ingest(LINES)
    return str(tmp_path / "s")


def test_ingest_prints_the_summary_and_a_rerun_changes_nothing(tmp_path: Path) -> None:
    day = tmp_path / "day.ndjson"
    day.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(LINES))
    first = rows(run("ingest", str(day), "--store", str(tmp_path / "s"), "--partitions", "3", "--json"))[0]
    assert list(first) == [
        *(
            "accepted",
            "duplicate",
            "duplicate_of_refused",
            "refused",
            "effects",
            "last",
            "state_digest",
            "effects_digest",
        )
    ]
    assert (first["last"], first["state_digest"], first["effects_digest"]) == fold(LINES)[0]
    again = rows(run("ingest", "-", "--store", str(tmp_path / "s"), "--json", data=day.read_bytes()))[0]
    assert (again["accepted"], again["duplicate"], again["effects"]) == (0, len(LINES), 0)
    assert again["state_digest"] == first["state_digest"]


@pytest.mark.slow(reason="starts the command many times")
def test_every_reading_command_answers(store: str) -> None:
    calls = rows(run("calls", "--store", store, "--json"))
    account = calls[0]["account"] if calls else "A0"
    for words in (
        ["replay"],
        ["replay", "--until", "#50"],
        ["replay", "--from-checkpoint"],
        ["verify"],
        ["verify", "--quick"],
        ["digest"],
        ["digest", "--until", "2021-05-19"],
        ["state", "--account", account],
        ["state", "--account", account, "--at", "#60"],
        ["calls", "--open"],
        ["events", "--type", "position_changed"],
        ["events", "--effects"],
        ["quarantine", "list"],
    ):
        done = run(*words, "--store", store, "--json")
        assert (done.returncode, done.stderr) == (0, b""), (words, done.stderr)
        rows(done)
        plain = run(*words, "--store", store)
        assert plain.returncode == 0, (words, plain.stderr)
    if calls:
        history = rows(run("call", calls[0]["call"], "--store", store, "--json"))[0]["history"]
        assert history[0]["type"] == "margin_call_issued"


@pytest.mark.slow(reason="starts the command many times")
def test_state_at_a_time_is_the_prefix_before_the_first_later_clock(store: str) -> None:
    events = rows(run("events", "--store", store))
    clocks = [row for row in events if row["type"] == "clock_ticked"]
    later = next(row for row in clocks if row["time"] > clocks[5]["time"])
    at = rows(run("state", "--account", "A0", "--at", clocks[5]["time"], "--store", store, "--json"))[0]
    assert at["sequence"] == later["sequence"] - 1


@pytest.mark.slow(reason="starts the command many times")
def test_exit_codes(tmp_path: Path, store: str) -> None:
    assert run("--version").stdout.startswith(b"margin-stream 0.2.0")
    wrong = run("ingset")
    assert wrong.returncode == 2
    assert b'Did you mean "ingest"' in wrong.stderr + wrong.stdout
    assert run("replay", "--until", "yesterday", "--store", store).returncode == 2
    assert run("digest", "--store", "kafka://127.0.0.1:1/x").returncode == 5
    missing = run("digest", "--store", str(tmp_path / "none"))
    assert missing.returncode == 1
    assert b"no store here" in missing.stderr
    with Host(Path(store)):
        locked = run("ingest", "-", "--store", store)
    assert locked.returncode == 6
    assert b"process" in locked.stderr
    refused = run("ingest", "-", "--store", store, "--strict", data=b"\n\nnot json\n")
    assert refused.returncode == 4
    assert b"stdin:1: refused, not_json" in refused.stderr
    assert run("state", "--account", "nobody", "--store", store).returncode == 1
    assert run("call", "A0/call/99", "--store", store).returncode == 1
    assert run("profiles", "show", "nope").returncode == 1
    journal = next((Path(store) / "journal").glob("*.seg"))
    data = bytearray(journal.read_bytes())
    data[500] ^= 4
    journal.write_bytes(data)
    for words in (["verify"], ["replay"]):
        damaged = run(*words, "--store", store)
        assert damaged.returncode == 4
        assert journal.name.encode() in damaged.stderr
        assert b"offset" in damaged.stderr


@pytest.mark.slow(reason="starts the command many times")
def test_a_recomputed_effect_that_differs_exits_3(tmp_path: Path) -> None:
    """A journal and effects that are each whole, and do not belong together."""
    from margin_stream.journal.records import NO_CHAIN, record_bytes, segment_header, segments
    from margin_stream.schemas.binary import encode_payload

    with Host(tmp_path / "s", group_items=10_000) as host:
        host.ingest(LINES)
    folder = tmp_path / "s" / "effects" / "p0000"
    assert segments(folder) == [1]
    from margin_stream.journal import highwater
    from margin_stream.journal import log as logs
    from margin_stream.journal.records import HEADER, Cut, chained

    records = list(logs.read(folder, host.manifest.identity))
    effects = __import__("msgspec").msgpack.decode(records[0].payload, type=list[__import__("msgspec").Raw])
    forged = bytes(effects[0]).replace(b"USDT", b"USDX")
    record = record_bytes(1, encode_payload([forged, *(bytes(e) for e in effects[1:])]))
    (folder / f"{1:020d}.seg").write_bytes(segment_header(host.manifest.identity, 1, NO_CHAIN) + record)
    cut = Cut(1, 1, HEADER.size + len(record), chained(NO_CHAIN, record))
    slots = b"".join(
        highwater.slot_bytes(host.manifest.identity, n, cut).ljust(highwater.SLOT_SPACING, b"\0") for n in (8, 9)
    )
    (folder / "highwater").write_bytes(slots)
    done = run("replay", "--store", str(tmp_path / "s"), "--json")
    assert done.returncode == 3, done.stderr
    assert rows(done)[0]["equal"] is False
    assert "sequence number" in rows(done)[0]["first_difference"]


@pytest.mark.slow(reason="starts the command many times")
def test_a_signal_stops_cleanly_and_the_rest_follows(tmp_path: Path) -> None:
    lines = random_day(21, accounts=30, steps=30_000)
    day = tmp_path / "day.ndjson"
    day.write_bytes(b"\n".join(lines))
    words = [sys.executable, "-m", "margin_stream.cli", "ingest", str(day), "--store", str(tmp_path / "s"), "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "s" / "tables").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert json.loads(out)["last"] < len(lines)
    final = rows(run(*words[3:]))[0]
    assert (final["last"], final["state_digest"], final["effects_digest"]) == fold(lines)[0]


BAD = {
    Refusal.NOT_UTF8: b'{"type":"\xff"}',
    Refusal.TOO_LONG: b'{"type":"' + b"x" * (1 << 20) + b'"}',
    Refusal.TOO_DEEP: b'{"type":' + b"[" * 40 + b"]" * 40 + b"}",
    Refusal.NOT_JSON: b'{"type":NaN}',
    Refusal.NOT_AN_OBJECT: b"[1,2]",
    Refusal.DUPLICATE_KEY: b'{"type":"clock_ticked","type":"clock_ticked"}',
    Refusal.TYPE_MISSING: b'{"source":"x"}',
    Refusal.UNKNOWN_TYPE: b'{"type":"price_tocked"}',
    Refusal.FLOAT_NOT_ALLOWED: b'{"type":"price_ticked","source":"f","source_seq":1,'
    b'"event_time":"2021-05-19T00:00:00Z","instrument":"X","price":1e308}',
    Refusal.UNKNOWN_FIELD: b'{"type":"clock_ticked","source":"f","source_seq":1,'
    b'"event_time":"2021-05-19T00:00:00Z","tyme":"x"}',
    Refusal.MISSING_FIELD: b'{"type":"clock_ticked","source":"f","source_seq":1,"event_time":"2021-05-19T00:00:00Z"}',
    Refusal.BAD_VALUE: b'{"type":"clock_ticked","source":"f","source_seq":-1,'
    b'"event_time":"2021-05-19T00:00:00Z","time":"2021-05-19T00:00:00Z"}',
}


PERPETUAL_TRADE = {"instrument": "BTCUSDT-PERP", "quantity_delta": "1", "price": "1"}


def semantic() -> dict[Refusal, bytes]:
    made: dict[Refusal, bytes] = {}

    def add(reason: Refusal, day: Day) -> None:
        made[reason] = day.lines[-1]

    def fresh() -> Day:
        day = Day()
        day._book = day._feed = 10_000 + 10 * len(made)
        return day

    for reason, type_, fields in (
        (Refusal.CLOCK_BACKWARDS, "clock_ticked", {"time": "2021-05-18T00:00:00Z"}),
        (Refusal.CLOCK_JUMP_UNCONFIRMED, "clock_ticked", {"time": "2021-07-18T00:00:00Z"}),
        (Refusal.INSTRUMENT_UNKNOWN, "price_ticked", {"instrument": "NOPE", "price": "1"}),
        (Refusal.WRONG_SCALE, "price_ticked", {"instrument": "BTCUSDT", "price": "1.001"}),
    ):
        day = fresh()
        day.feed(type_, **fields)
        add(reason, day)
    for reason, type_, fields in (
        (
            Refusal.INSTRUMENT_LISTED_ALREADY,
            "instrument_listed",
            {"instrument": "BTC", "kind": "currency", "quantity_scale": 3},
        ),
        (Refusal.ASSET_UNKNOWN, "collateral_moved", {"account": "A0", "asset": "NOPE", "amount_delta": "1"}),
        (
            Refusal.LISTING_INVALID,
            "instrument_listed",
            {"instrument": "N", "kind": "currency", "quantity_scale": 3, "price_scale": 1},
        ),
        (
            Refusal.NOT_TRADABLE,
            "position_changed",
            {"account": "A0", "instrument": "BTC", "quantity_delta": "1", "price": "1"},
        ),
        (Refusal.ACCOUNT_UNKNOWN, "collateral_moved", {"account": "nobody", "asset": "USDT", "amount_delta": "1"}),
        (
            Refusal.ACCOUNT_OPENED_ALREADY,
            "account_opened",
            {"account": "A0", "base_currency": "USDT", "profile": "prime"},
        ),
        (Refusal.ACCOUNT_INVALID, "account_opened", {"account": "a b", "base_currency": "USDT", "profile": "prime"}),
        (
            Refusal.CONTACT_INVALID,
            "account_opened",
            {"account": "N", "base_currency": "USDT", "profile": "prime", "contacts": ["a@b.example"]},
        ),
        (Refusal.PROFILE_UNKNOWN, "account_opened", {"account": "N", "base_currency": "USDT", "profile": "nope"}),
        (
            Refusal.PROFILE_INVALID,
            "profile_activated",
            {
                "profile": "p",
                "model": "nope",
                "version": 1,
                "effective_from": "2021-05-19T00:00:00Z",
                "approved_by": "x",
                "parameters": {},
            },
        ),
        (
            Refusal.PROFILE_VERSION_NOT_NEWER,
            "profile_activated",
            {
                "profile": "prime",
                "model": "prime",
                "version": 1,
                "effective_from": "2021-05-19T00:00:00Z",
                "approved_by": "x",
                "parameters": Day().parameters,
            },
        ),
        (Refusal.ENGINE_UNKNOWN, "engine_activated", {"version": 3, "approved_by": "x"}),
        (
            Refusal.OUT_OF_RANGE,
            "position_changed",
            {"account": "A0", "instrument": "BTCUSDT", "quantity_delta": "1", "price": "-1"},
        ),
        (Refusal.INSTRUMENT_NOT_MARGINED, "position_changed", {**PERPETUAL_TRADE, "account": "A0"}),
        (
            Refusal.ISOLATED_INVALID,
            "collateral_moved",
            {"account": "A0", "asset": "USDT", "amount_delta": "1", "isolated": "P"},
        ),
        (Refusal.MARK_REQUIRED, "funding_paid", {"instrument": "BTCUSDT-PERP", "rate": "0.0001"}),
        (Refusal.FEED_UNKNOWN, "feed_restarted", {"feed": "nobody", "actor": "ops"}),
        (Refusal.ANSWER_INVALID, "effect_answered", {"effect": "A0/1", "outcome": "sent"}),
    ):
        day = fresh()
        day.book(type_, **fields)
        add(reason, day)
    reused = Day()
    reused._book = 0
    reused.book("collateral_moved", account="A0", asset="USDT", amount_delta="77")
    add(Refusal.IDENTITY_REUSED, reused)
    mixed = Day()
    mixed._book = 20_000
    mixed._add("price_ticked", "book", 20_001, instrument="BTCUSDT", price="1")
    add(Refusal.SOURCE_KIND_MIXED, mixed)
    anew = Day()
    anew.now_ns += 10**9
    anew.tick("BTCUSDT", "40000.00")
    add(Refusal.FEED_NUMBERS_RESTARTED, anew)
    return made


SEMANTIC = semantic()


def listed_perpetual() -> bytes:
    day = Day()
    day._book = 9_000
    day.book(
        "instrument_listed",
        instrument="BTCUSDT-PERP",
        kind="perpetual",
        currency="USDT",
        price_scale=2,
        quantity_scale=3,
    )
    return day.lines[0]


LISTED = listed_perpetual()


def test_every_refusal_can_be_reached_and_has_advice() -> None:
    # The others need a state of their own: test_profile_changes.py, and below.
    reached = {*BAD, *SEMANTIC, Refusal.CLOCK_REQUIRED, Refusal.NOT_MSGPACK, Refusal.PROFILE_DOES_NOT_FIT}
    assert reached == set(Refusal)
    assert set(ADVICE) == set(Refusal)


@pytest.mark.parametrize("reason", sorted({*BAD, *SEMANTIC}))
def test_a_bad_input_is_refused_with_its_reason_and_nothing_else_is_lost(reason: Refusal) -> None:
    bad = {**BAD, **SEMANTIC}[reason]
    start = random_day(8, accounts=6, steps=0)
    system = StoreFold(1, rules_version=LATEST)
    system.admission.line(start[0])
    system.admission.line(LISTED)
    for line in [*start[1:], bad]:
        system.admission.line(line)
    assert system.intake.last_refusal is not None
    assert system.intake.last_refusal[0] is reason
    before = system.intake.accepted
    for line in LINES[len(start) :]:
        system.admission.line(line)
    assert system.intake.accepted > before
    assert system.admission.line(bad).value == "duplicate" or reason is Refusal.CLOCK_BACKWARDS


def test_before_the_first_clock_only_directory_items_are_accepted() -> None:
    system = StoreFold(1, rules_version=LATEST)
    day = Day()
    day.directory()
    day.account("A")
    day.money("A", "1")
    assert [system.admission.line(line).value for line in day.lines][-2:] == ["accepted", "refused"]
    assert system.intake.last_refusal is not None
    assert system.intake.last_refusal[0] is Refusal.CLOCK_REQUIRED


@pytest.mark.slow(reason="starts the command many times")
def test_quarantine_keeps_raw_bytes_reason_and_detail(tmp_path: Path) -> None:
    bad = b'{"type":"price_ticked","price":1.5,\xff'
    wrong_scale = SEMANTIC[Refusal.WRONG_SCALE]
    done = run("ingest", "-", "--store", str(tmp_path / "s"), "--json", data=b"\n".join([*LINES, bad, wrong_scale]))
    assert rows(done)[0]["refused"] == 2
    assert b"stdin:" in done.stderr
    listed = rows(run("quarantine", "list", "--store", str(tmp_path / "s"), "--json"))
    assert [row["reason"] for row in listed] == ["not_utf8", "wrong_scale"]
    shown = rows(run("quarantine", "show", listed[1]["id"], "--store", str(tmp_path / "s"), "--json"))[0]
    assert shown["raw"].encode() == wrong_scale
    assert "2 decimal places" in shown["detail"]


@pytest.mark.slow(reason="starts the command many times")
def test_a_correction_is_a_new_event_that_names_the_refused_one(tmp_path: Path) -> None:
    day = Day().opened()
    day.book("collateral_moved", account="late", asset="USDT", amount_delta="5")
    day.account("late")
    day.book("collateral_moved", account="late", asset="USDT", amount_delta="5", corrects=f"book#{day._book - 1}")
    done = run("ingest", "-", "--store", str(tmp_path / "s"), "--json", data=b"\n".join(day.lines))
    assert (rows(done)[0]["refused"], rows(done)[0]["accepted"]) == (1, len(day.lines) - 1)


@pytest.mark.slow(reason="starts the command many times")
def test_fuzzed_lines_never_show_a_traceback_and_lose_nothing(tmp_path: Path) -> None:
    rng = Random(4)
    mangled: list[bytes] = []
    for _ in range(5000):
        line = bytearray(rng.choice(LINES))
        for _ in range(rng.randint(1, 4)):
            what = rng.randrange(4)
            place = rng.randrange(len(line))
            if what == 0:
                line[place] = rng.randrange(256)
            elif what == 1:
                del line[place : place + rng.randint(1, 9)]
            elif what == 2:
                line[place:place] = rng.choice(
                    (b'"', b"{", b"[", b"\\u", b"1e999", b"null", b"\x00", b",", b"-", b'":', b" :")
                )
            else:
                line[place:place] = line[: rng.randrange(20)]
            if not line:
                line = bytearray(b"x")
        mangled.append(bytes(line).replace(b"\n", b" "))
    system = StoreFold(1, rules_version=LATEST)
    counts = {"accepted": 0, "duplicate": 0, "refused": 0}
    for line in mangled:
        counts[system.admission.line(line).value] += 1
    system.fold()
    assert counts["refused"] > 3000
    done = run("ingest", "-", "--store", str(tmp_path / "s"), "--json", data=b"\n".join([*mangled, *LINES]))
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert rows(done)[0]["last"] > len(LINES) // 2


@pytest.mark.slow(reason="starts the command many times")
def test_simulate_and_import_give_equal_bytes() -> None:
    first = run("simulate", "--scenario", "walk", "--accounts", "3", "--seed", "5")
    assert first.returncode == 0
    assert (
        first.stdout
        == run("simulate", "--scenario", "walk", "--accounts", "3", "--seed", "5", PYTHONHASHSEED="77").stdout
    )
    assert run("simulate", "--scenario", "storm").returncode == 2


@pytest.mark.slow(reason="starts the command many times")
def test_import_names_rows_that_it_leaves_out(tmp_path: Path) -> None:
    bars = tmp_path / "bars.csv"
    bars.write_text(
        "ts_ms,symbol,open,high,low,close\n"
        "1621382400000,BTC_USDT,40000,40100,39900,40050\n"
        "1621382460000,BTC_USDT,40050,40000,39900,40050\n"
        "1621382520000,BTC_USDT,nan,1,1,1\n"
    )
    done = run("import", "bars", str(bars), "--accounts", "2")
    assert done.returncode == 0
    assert b"bars.csv:3" in done.stderr
    assert b"bars.csv:4" in done.stderr
    ticks = [row["price"] for row in rows(done) if row["type"] == "price_ticked"]
    assert ticks == ["40000", "39900", "40100", "40050"]
    assert run("import", "bars", str(bars), "--strict").returncode == 4
    assert run("import", "bars", str(tmp_path / "none.csv")).returncode == 1


@pytest.mark.slow(reason="starts the command many times")
def test_klines_are_read_by_file_name(tmp_path: Path) -> None:
    path = tmp_path / "ETHUSDT-1m-2021-05-19.csv"
    path.write_text("1621382400000,3380.10,3390,3370,3371.5,12,1621382459999,1,1,1,1,0\n")
    found = rows(run("import", "binance-klines", str(path)))
    assert [row["price"] for row in found if row["type"] == "price_ticked"] == ["3380.1", "3390", "3370", "3371.5"]
    assert found[-1]["event_time"] == "2021-05-19T00:00:59.999Z"


@pytest.mark.slow(reason="imports recorded bars of several formats")
def test_equity_bars_are_labelled_by_their_close_in_local_time() -> None:
    path = recorded_data("us_equities_2019-02_1m", "eqker_1min.csv.gz")
    from margin_stream.importers.files import read_market

    market = read_market("bars", [path], zone="America/New_York", label=None, complain=lambda _: None)
    from margin_stream.schemas.times import format_time

    assert format_time(market.started_ns) == "2019-02-11T14:30:00Z"
