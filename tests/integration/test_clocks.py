"""Who moves the clock of an ingest, and a clock that stands; files that grow; files of another kind."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from margin_stream.cli.clocks import Clock
from tests.integration.test_errors import command

MARGIN_STREAM = [sys.executable, "-m", "margin_stream.cli"]


def day(scenario: str = "crash", accounts: int = 30) -> list[bytes]:
    code, _, out = command("simulate", "--scenario", scenario, "--accounts", str(accounts), "--seed", "3")
    assert code == 0
    return out.splitlines()


def ingested(folder: Path, lines: list[bytes], *more: str) -> dict[str, Any]:
    code, errors, out = command("ingest", "-", "--store", str(folder), *more, data=b"\n".join(lines) + b"\n")
    assert code == 0, errors
    return json.loads(out)  # type: ignore[no-any-return]


def calls(folder: Path) -> list[Any]:
    rows = [json.loads(line) for line in command("calls", "--store", str(folder))[2].splitlines()]
    return [[row[name] for name in ("call", "amount", "issued_at", "due_at", "outcome")] for row in rows]


@pytest.mark.slow(reason="folds a day three times")
def test_clocks_by_event_time_are_those_that_the_inputs_would_have_had(tmp_path: Path) -> None:
    lines = day()
    without = [line for line in lines if b'"type":"clock_ticked"' not in line]
    ingested(tmp_path / "input", lines)
    whole = ingested(tmp_path / "event", without, "--clock", "event-time")
    assert calls(tmp_path / "event") == calls(tmp_path / "input") != []

    # Cut off anywhere and run again: the same journal.
    ingested(tmp_path / "cut", without[: len(without) // 3], "--clock", "event-time")
    ingested(tmp_path / "cut", without[: len(without) // 2], "--clock", "event-time")
    again = ingested(tmp_path / "cut", without, "--clock", "event-time")
    assert (again["state_digest"], again["effects_digest"]) == (whole["state_digest"], whole["effects_digest"])


def test_a_clock_that_stands_is_reported_with_what_came_since(tmp_path: Path) -> None:
    lines = day("quiet", 3)
    last = max(place for place, line in enumerate(lines[:400]) if b"clock_ticked" in line)
    ended = lines[: last + 1] + [line for line in lines[last + 1 : last + 900] if b"price_ticked" in line]
    data = b"\n".join(ended) + b"\n"
    code, errors, _ = command("ingest", "-", "--store", str(tmp_path / "s"), data=data)
    assert code == 0
    (said,) = errors
    assert said["code"] == "clock_stands"
    assert f"{len(ended) - last - 1:,} quotes since" in said["message"]
    found = [json.loads(line) for line in command("doctor", "--store", str(tmp_path / "s"))[2].splitlines()]
    (finding,) = [row for row in found if row["check"] == "store.clock"]
    assert finding["status"] == "warning"
    assert said["message"] in finding["found"]

    assert command("ingest", "-", "--store", str(tmp_path / "t"), data=b"\n".join(lines) + b"\n")[1] == []
    found = [json.loads(line) for line in command("doctor", "--store", str(tmp_path / "t"))[2].splitlines()]
    assert [row["status"] for row in found if row["check"] == "store.clock"] == ["ok"]


def test_this_machines_clock_moves_the_store_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, store, warned = [10**18], [0], list[str]()
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    clock = Clock("wall", store_ns=lambda: store[0], warn=warned.append)
    ticks = []
    for _ in range(25):
        if (line := clock.due()) is not None:
            ticks.append(json.loads(line)["time"])
        now[0] += 100_000_000
    assert ticks == ["2001-09-09T01:46:40Z", "2001-09-09T01:46:41Z", "2001-09-09T01:46:42Z"]
    # Ahead of this machine, or more than eight days behind: told once, and left to a person.
    for known in (now[0] + 10**10, now[0] - 9 * 86_400 * 10**9):
        store[0] = known
        warned.clear()
        clock = Clock("wall", store_ns=lambda: store[0], warn=warned.append)
        assert (clock.due(), clock.due()) == (None, None)
        assert len(warned) == 1


def test_one_wrong_event_time_does_not_stop_the_clock() -> None:
    warned: list[str] = []
    clock = Clock("event-time", store_ns=lambda: 0, warn=warned.append)
    moments = ["2024-03-04T14:30:00Z", "2099-01-01T00:00:00Z", "2024-03-04T15:30:00Z", "2024-03-04T16:30:00Z"]
    lines = [json.dumps({"event_time": moment}).encode() for moment in moments]
    found = [json.loads(line) for line in clock.lines(lines)]
    assert [row["time"] for row in found if "time" in row] == [moments[0], *moments[2:]]
    assert len(warned) == 1


# ---- files that grow -------------------------------------------------------------------------------------------------


@contextmanager
def following(folder: Path, file: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [*MARGIN_STREAM, "ingest", str(file), "--follow", "--store", str(folder), *more]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def last_of(folder: Path) -> int:
    code, _, out = command("digest", "--store", str(folder))
    return int(json.loads(out)["last"]) if code == 0 else 0


def eventually(holds: Callable[[], bool], *, within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow(reason="waits for another process")
def test_a_file_is_read_as_it_grows_and_anew_where_it_is_replaced_or_cut(tmp_path: Path) -> None:
    lines = [line + b"\n" for line in day("quiet", 3)[:400]]
    file, store = tmp_path / "feed.ndjson", tmp_path / "s"
    file.write_bytes(b"".join(lines[:100]))
    with following(store, file) as process:
        eventually(lambda: last_of(store) == 100)
        with file.open("ab") as stream:
            stream.write(b"".join(lines[100:150]) + lines[150][:20])
        eventually(lambda: last_of(store) == 150)
        with file.open("ab") as stream:  # The rest of a line that was half there.
            stream.write(lines[150][20:])
        eventually(lambda: last_of(store) == 151)
        fresh = tmp_path / "fresh"
        fresh.write_bytes(b"".join(lines[151:200]))
        os.replace(fresh, file)
        eventually(lambda: last_of(store) == 200)
        with file.open("r+b") as stream:
            stream.truncate(0)
            time.sleep(0.5)
            stream.write(b"".join(lines[200:210]))
        eventually(lambda: last_of(store) == 210)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    whole = ingested(tmp_path / "whole", [line.rstrip() for line in lines[:210]])
    assert json.loads(command("digest", "--store", str(store))[2])["state_digest"] == whole["state_digest"]


def test_follow_needs_a_file(tmp_path: Path) -> None:
    assert command("ingest", "-", "--follow", "--store", str(tmp_path / "s"))[0] == 2


# ---- files of another kind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"account,instrument,quantity\nC-1,AAPL,5\n",
        b"PK\x03\x04\x14\x00",
        gzip.compress(b"{}"),
        b"[{},\n{}]",
        b"\xef\xbb\xbfa;b\n1;2\n",
        "account\n".encode("utf-16"),
    ],
)
def test_a_file_that_is_no_ndjson_is_refused_before_anything_is_written(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "good.ndjson").write_bytes(b"\n".join(day("quiet", 3)[:20]))
    (tmp_path / "f").write_bytes(content)
    words = ("ingest", str(tmp_path / "good.ndjson"), str(tmp_path / "f"), "--store", str(tmp_path / "s"))
    code, errors, _ = command(*words)
    assert (code, errors[0]["code"]) == (4, "input_not_ndjson")
    assert str(tmp_path / "f") in errors[0]["message"]
    assert not (tmp_path / "s").exists()


def test_a_file_with_a_bad_line_first_is_still_ingested(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"garbage\n" + b"\n".join(day("quiet", 3)[:20]))
    code, _, out = command("ingest", str(tmp_path / "f"), "--store", str(tmp_path / "s"))
    assert (code, json.loads(out)["refused"]) == (0, 1)
