"""The error catalogue: every code is reached by something that really goes wrong, has its exit code, and says where and
what to do."""

from __future__ import annotations

import ast
import contextlib
import errno
import importlib
import inspect
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

import margin_stream
import margin_stream.replay
import margin_stream.schemas
from margin_stream.cli import main
from margin_stream.cli.background_replay import Beside
from margin_stream.cli.error_output import FOREIGN, Failure, code_of, diagnose, report, report_exception
from margin_stream.cli.errors import BY_CODE, ENTRIES
from margin_stream.cli.main import app, run
from margin_stream.cli.output import Common
from margin_stream.core.checks import Fault, check
from margin_stream.core.folds import partition_folds
from margin_stream.core.sequenced import Batch
from margin_stream.core.store_fold import StoreFold
from margin_stream.errors import Error
from margin_stream.host.embedded import Host
from margin_stream.importers.market import ImportFault
from margin_stream.journal import highwater
from margin_stream.journal.disk import Disk
from margin_stream.journal.layout import FORMAT, Layout, new_manifest, read_manifest, write_manifest
from margin_stream.journal.records import HEADER, NO_CHAIN, Cut, chained, record_bytes, segment_header, segment_name
from margin_stream.kafka.seals import configured_seal
from margin_stream.outbox.cursors import Cursor, FileCursor
from margin_stream.outbox.outbox import Outbox, step_on_folder
from margin_stream.schemas.binary import encode_payload
from margin_stream.schemas.refusals import ADVICE, Refusal, RefusedInput
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.settings import use
from margin_stream.simulation.broker import Broker, free_port
from margin_stream.tables import rocks
from margin_stream.tables.rocks import Table
from tests.days import Day, opened_day, random_day, restart
from tests.integration.test_command_line import BAD, LISTED, SEMANTIC
from tests.usdm_days import UsdmDay

LINES = random_day(8, accounts=6, steps=120)
START = random_day(8, accounts=6, steps=0)

Said = tuple[str, int, dict[str, Any] | None]
"""Code, exit code, and where."""
REPRODUCERS: dict[str, Callable[[Path], Said]] = {}


def reproduces(code: str) -> Callable[[Callable[[Path], Said]], Callable[[Path], Said]]:
    def note(function: Callable[[Path], Said]) -> Callable[[Path], Said]:
        REPRODUCERS[code] = function
        return function

    return note


def command(*words: str, data: bytes = b"") -> tuple[int, list[dict[str, Any]], bytes]:
    """Run a command with --json in this process; return its exit code, what it said on stderr, and stdout."""
    out, err, before = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO()), sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(data))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([*words, "--json", "--quiet"])
            out.flush()
            err.flush()
    finally:
        sys.stdin = before
        use(None)
    return code, [json.loads(line) for line in err.buffer.getvalue().splitlines()], out.buffer.getvalue()  # type: ignore[attr-defined]


def said(*words: str, data: bytes = b"") -> Said:
    """Run a command that goes wrong in one way; return what it says."""
    code, rows, _ = command(*words, data=data)
    for row in rows:
        assert list(row) == ["code", "message", "where", "next"], row
        assert row["message"].strip()
        assert row["next"].strip()
    assert rows, words
    return rows[-1]["code"], code, rows[-1]["where"]


def caught(function: Callable[[], object]) -> Said:
    """Call what must raise; return what a command would say."""
    with pytest.raises(Exception) as info:
        function()
    found = diagnose(info.value)
    return found.code, found.exit, dict(found.where) if found.where is not None else None


def store(folder: Path, lines: list[bytes] = LINES) -> str:
    with Host(folder / "s", group_items=10_000) as host:
        host.ingest(lines)
    return str(folder / "s")


def forge(path: Path, log: Path, payload: bytes) -> None:
    """Give a log one whole record of our own."""
    identity = read_manifest(Layout(path)).identity
    record = record_bytes(1, payload)
    for segment in log.glob("*.seg"):
        segment.unlink()
    (log / segment_name(1)).write_bytes(segment_header(identity, 1, NO_CHAIN) + record)
    cut = Cut(1, 1, HEADER.size + len(record), chained(NO_CHAIN, record))
    (log / highwater.NAME).write_bytes(
        b"".join(highwater.slot_bytes(identity, n, cut).ljust(highwater.SLOT_SPACING, b"\0") for n in (8, 9))
    )


def forge_effects(folder: Path) -> str:
    """Make a store whose effects are whole, and not those of its journal."""
    path = Path(store(folder))
    log = path / "effects" / "p0000"
    payload = (log / segment_name(1)).read_bytes()[HEADER.size + 16 :]
    effects = msgspec.msgpack.decode(payload, type=list[msgspec.Raw])
    forged = bytes(effects[0]).replace(b"USDT", b"USDX")
    assert forged != bytes(effects[0])
    forge(path, log, encode_payload([forged, *(bytes(effect) for effect in effects[1:])]))
    return str(path)


def flipped(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


# ---- the words of the command ---------------------------------------------------------------------------------------

reproduces("unknown_command")(lambda _: said("ingset"))
reproduces("unknown_option")(lambda _: said("digest", "--unti", "x"))
reproduces("missing_argument")(lambda _: said("state"))
reproduces("too_many_arguments")(lambda _: said("call", "A/call/1", "x"))
reproduces("option_invalid")(lambda _: said("simulate", "--accounts", "-1"))
reproduces("options_conflict")(lambda _: said("replay", "--until", "#1", "--day", "2021-05-19"))
reproduces("usage")(lambda _: said("simulate", "--seed", "1", "--seed", "2"))
reproduces("input_file_missing")(lambda folder: said("ingest", str(folder / "none")))
reproduces("time_invalid")(lambda folder: said("replay", "--until", "yesterday", "--store", str(folder)))
reproduces("store_address_invalid")(lambda _: said("digest", "--store", "redis://h:1/x"))
reproduces("store_kind_wrong")(lambda folder: said("kafka", "status", "--store", str(folder)))
reproduces("partitions_out_of_range")(lambda folder: said("ingest", "--partitions", "0", "--store", str(folder / "s")))


@reproduces("time_zone_unknown")
def _(folder: Path) -> Said:
    (folder / "bars.csv").write_text("datetime,symbol,open,high,low,close\n2019-02-11 09:31:00,AAPL,1,1,1,1\n")
    return said("import", "bars", str(folder / "bars.csv"), "--zone", "Atlantis/Centre")


# ---- settings -------------------------------------------------------------------------------------------------------


def with_settings(folder: Path, text: str) -> Said:
    (folder / "s.toml").write_text(text)
    return said("digest", "--config", str(folder / "s.toml"))


reproduces("settings_file_missing")(lambda folder: said("digest", "--config", str(folder / "none.toml")))
reproduces("settings_file_damaged")(lambda folder: with_settings(folder, "store ="))
reproduces("setting_unknown")(lambda folder: with_settings(folder, "stoer = 'x'"))
reproduces("setting_invalid")(lambda folder: with_settings(folder, "quiet = 7"))
reproduces("security_incomplete")(
    lambda folder: with_settings(folder, "store = 'kafka://127.0.0.1:1/x'\n[kafka]\nsecurity_protocol = 'SASL_SSL'")
)


@reproduces("derived_key_unusable")
def _(folder: Path) -> Said:
    (folder / "key").write_text("short")
    with patch.dict(os.environ, {"MARGIN_STREAM_KAFKA_DERIVED_KEY_FILE": str(folder / "key")}):
        return caught(configured_seal)


# ---- stores and damage ----------------------------------------------------------------------------------------------

reproduces("store_missing")(lambda folder: said("digest", "--store", str(folder / "none")))


@reproduces("store_newer")
def _(folder: Path) -> Said:
    write_manifest(Layout(folder), msgspec.structs.replace(new_manifest(1, LATEST), format=FORMAT + 1), Disk())
    return said("digest", "--store", str(folder))


@reproduces("store_older")
def _(folder: Path) -> Said:
    write_manifest(Layout(folder), msgspec.structs.replace(new_manifest(1, LATEST), format=FORMAT - 1), Disk())
    return said("digest", "--store", str(folder))


@reproduces("backup_differs")
def _(folder: Path) -> Said:
    path = store(folder)
    (folder / "taken").mkdir()
    (folder / "taken" / "file").touch()
    return said("backup", str(folder / "taken"), "--store", path)


@reproduces("folder_taken")
def _(folder: Path) -> Said:
    (folder / "letters").write_text("x")
    return said("ingest", "--store", str(folder))


@reproduces("target_taken")
def _(folder: Path) -> Said:
    return said("export", str(folder), "--store", store(folder))


@reproduces("store_unusable")
def _(folder: Path) -> Said:
    class Full(Disk):
        def write(self, descriptor: int, data: bytes, offset: int) -> None:
            raise OSError(28, "No space left on device")

    host = Host(folder / "s")
    host._disk.__class__ = Full
    host.offer(LINES[0])
    with pytest.raises(OSError, match="No space"):
        host.commit()
    return caught(host.commit)


@reproduces("store_locked")
def _(folder: Path) -> Said:
    with Host(folder / "s"):
        return said("ingest", "--store", str(folder / "s"))


@reproduces("memory_short")
def _(folder: Path) -> Said:
    before = rocks._ask_for_room
    rocks._ask_for_room = lambda path: (_ for _ in ()).throw(MemoryError())
    try:
        return said("ingest", "--store", str(folder / "s"))
    finally:
        rocks._ask_for_room = before


@reproduces("journal_damaged")
def _(folder: Path) -> Said:
    path = store(folder)
    flipped(Path(path) / "journal" / segment_name(1), 500)
    return said("replay", "--store", path)


@reproduces("record_undecodable")
def _(folder: Path) -> Said:
    path = store(folder)
    forge(Path(path), Path(path) / "journal", b"\xc1\xc1")
    return said("replay", "--store", path)


@reproduces("manifest_damaged")
def _(folder: Path) -> Said:
    path = store(folder)
    flipped(Path(path) / "manifest.json", 30)
    return said("digest", "--store", path)


@reproduces("manifest_missing")
def _(folder: Path) -> Said:
    path = store(folder)
    (Path(path) / "manifest.json").unlink()
    return said("ingest", "--store", path)


@reproduces("store_file_foreign")
def _(folder: Path) -> Said:
    path = store(folder)
    (Path(path) / "manifest.json").unlink()
    (Path(path) / "manifest.json").symlink_to("/dev/zero")
    return said("verify", "--store", path)


@reproduces("repair_refused")
def _(folder: Path) -> Said:
    path = store(folder)
    flipped(Path(path) / "journal" / segment_name(1), 500)
    return said("repair", "--store", path)


@reproduces("damage_found")
def _(folder: Path) -> Said:
    path = store(folder)
    flipped(Path(path) / "journal" / segment_name(1), 500)
    return said("verify", "--store", path)


@reproduces("table_unreadable")
def _(folder: Path) -> Said:
    table = Table(folder / "t")
    table.write([(b"k", b"v")])
    table.close()
    flipped(folder / "t" / "CURRENT", 3)
    return caught(lambda: Table(folder / "t"))


reproduces("replay_differs")(lambda folder: said("replay", "--store", forge_effects(folder)))


@reproduces("verification_ended")
def _(folder: Path) -> Said:
    return caught(Beside(folder / "none", "boxes").finish)


@reproduces("recovery_differs")
def _(folder: Path) -> Said:
    path = forge_effects(folder)
    for table in (Path(path) / "tables").iterdir():
        for file in table.iterdir():
            file.unlink()
    return said("ingest", "--store", path)


@reproduces("fault")
def _(_folder: Path) -> Said:
    return caught(lambda: partition_folds(rules_version=LATEST).apply(Batch(5, 6, [], b"")))


# ---- the outside and the rest ---------------------------------------------------------------------------------------

reproduces("broker_unreachable")(lambda _: said("digest", "--store", f"kafka://127.0.0.1:{free_port()}/x"))
reproduces("io_failed")(lambda _: said("ingest", "--store", "/proc/no/such/place"))
reproduces("account_unknown")(lambda folder: said("state", "--account", "nobody", "--store", store(folder)))
reproduces("call_unknown")(lambda folder: said("call", "A0/call/99", "--store", store(folder)))


@reproduces("cursor_differs")
def _(folder: Path) -> Said:
    cursors = FileCursor(folder / "cursor")
    cursors.save(Cursor(1, "A", 1, "another"))
    with Host(folder / "s") as host:
        return caught(lambda: step_on_folder(Outbox("mail", cursors, lambda effect: ()), host))


@reproduces("cursor_damaged")
def _(folder: Path) -> Said:
    (folder / "cursor").write_bytes(b"not a cursor")
    return caught(FileCursor(folder / "cursor").load)


reproduces("desk_unknown")(lambda folder: said("calls", "--desk", "nowhere", "--store", store(folder)))
reproduces("fold_unknown")(lambda folder: said("facts", "nope", "--store", store(folder)))
reproduces("refused_input_unknown")(lambda folder: said("quarantine", "show", "#3", "--store", store(folder)))


@reproduces("restart_not_confirmed")
def _(folder: Path) -> Said:
    day = opened_day()
    restart(day, 1)
    (folder / "restarted.ndjson").write_bytes(b"\n".join(day.lines))
    said("ingest", str(folder / "restarted.ndjson"), "--store", str(folder / "s"), "--quiet")
    return said("quarantine", "resubmit", "--source", "feed", "--store", str(folder / "s"))


reproduces("profile_not_shipped")(lambda _: said("profiles", "show", "nope"))


@reproduces("demo_broker_failed")
def _(folder: Path) -> Said:
    path = os.environ["PATH"]
    os.environ["PATH"] = ""
    try:
        return caught(Broker(folder).start)
    finally:
        os.environ["PATH"] = path


@reproduces("import_failed")
def _(folder: Path) -> Said:
    (folder / "bars.csv").write_text("a,b\n1,2\n")
    return said("import", "bars", str(folder / "bars.csv"))


@reproduces("row_left_out")
def _(folder: Path) -> Said:
    head = "ts_ms,symbol,open,high,low,close\n1621382400000,BTC_USDT,1,1,1,1\n"
    (folder / "bars.csv").write_text(head + "1621382460000,BTC_USDT,nan,1,1,1\n")
    code, exit_code, where = said("import", "bars", str(folder / "bars.csv"), "--strict")
    assert where == {"file": str(folder / "bars.csv"), "line": 3}
    return code, exit_code, where


def correction(folder: Path, event: str) -> list[str]:
    """A store with one refused input, and a file."""
    (folder / "fixed.json").write_text(event)
    path = str(folder / "s")
    with Host(Path(path)) as host:
        host.ingest(iter([*START, START[0].replace(b'"source_seq":1', b'"source_seq":900')]))
    shown = command("quarantine", "list", "--store", path)[2]
    return ["quarantine", "resubmit", json.loads(shown)["id"], "--with", str(folder / "fixed.json"), "--store", path]


@reproduces("correction_unusable")
def _(folder: Path) -> Said:
    return said(*correction(folder, "[]"))


@reproduces("corrected_already")
def _(folder: Path) -> Said:
    listed = {
        "type": "instrument_listed",
        "event_time": "2021-05-19T00:00:00Z",
        "instrument": "EUR",
        "kind": "currency",
    }
    words = correction(folder, json.dumps(listed | {"quantity_scale": 2}))
    assert command(*words)[0] == 0
    return said(*words)


@reproduces("address_in_use")
def _(folder: Path) -> Said:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = [sys.executable, "-m", "margin_stream.cli", "run", "--store", str(folder / "s"), "--listen", address]
        done = subprocess.run([*words, "--json", "--quiet"], capture_output=True, timeout=60, check=False)
    row = json.loads(done.stderr.splitlines()[-1])
    return row["code"], done.returncode, row["where"]


@reproduces("token_unknown")
def _(folder: Path) -> Said:
    return said("token", "revoke", "anna", "--store", str(folder / "s"))


@reproduces("tokens_damaged")
def _(folder: Path) -> Said:
    (folder / "s" / "access").mkdir(parents=True)
    (folder / "s" / "access" / "tokens.json").write_text("{")
    return said("token", "list", "--store", str(folder / "s"))


@reproduces("input_not_ndjson")
def _(folder: Path) -> Said:
    (folder / "a.csv").write_text("a,b\n1,2\n")
    return said("ingest", str(folder / "a.csv"), "--store", str(folder / "none"))


@reproduces("clock_stands")
def _(folder: Path) -> Said:
    day = Day()
    day.lines += START
    day._feed = 10_000
    day.now_ns += 61 * 1_000_000_000 + 1
    day.tick("BTCUSDT", "40000.00")
    return said("ingest", "-", "--store", str(folder / "s"), data=b"\n".join(day.lines) + b"\n")


@reproduces("clock_not_moved")
def _(folder: Path) -> Said:
    data = b"\n".join(START) + b"\n"
    assert command("ingest", "-", "--store", str(folder / "s"), data=data)[0] == 0
    return said("ingest", "-", "--clock", "wall", "--store", str(folder / "s"), data=data)


def broker(folder: Path) -> list[str]:
    """A store with a profile in force, and one account."""
    store = ["--store", str(folder / "own")]
    lines = command("profiles", "template", "prime", "--assets", "AAPL", *store)[2]
    assert command("ingest", "-", *store, data=lines)[0] == 0
    (folder / "accounts.csv").write_text("account\nC-1\n")
    assert command("import", "accounts", str(folder / "accounts.csv"), *store)[0] == 0
    (folder / "positions.csv").write_text("account,instrument,quantity,price\nC-1,AAPL,1,5\n")
    return store


@reproduces("file_wrong")
def _(folder: Path) -> Said:
    (folder / "accounts.csv").write_text("a,b\n1,2\n")
    return said("import", "accounts", str(folder / "accounts.csv"))


@reproduces("row_wrong")
def _(folder: Path) -> Said:
    store = broker(folder)
    (folder / "accounts.csv").write_text("account,profile\nC-2,pryme\n")
    return said("import", "accounts", str(folder / "accounts.csv"), *store, "--check")


@reproduces("import_refused")
def _(folder: Path) -> Said:
    store = broker(folder)
    (folder / "accounts.csv").write_text("account,profile\nC-2,pryme\n")
    return said("import", "accounts", str(folder / "accounts.csv"), *store)


@reproduces("import_unfinished")
def _(folder: Path) -> Said:
    store = broker(folder)
    at = ["--at", "2024-03-04T14:30:00Z"]
    with patch.object(Host, "ingest", side_effect=OSError(errno.EIO, "Input/output error")):
        command("import", "positions", str(folder / "positions.csv"), *at, *store)
    return said("import", "accounts", str(folder / "accounts.csv"), *store)


@reproduces("moment_missing")
def _(folder: Path) -> Said:
    store = broker(folder)
    return said("import", "positions", str(folder / "positions.csv"), *store)


@reproduces("nothing_to_undo")
def _(folder: Path) -> Said:
    return said("import", "positions", "--undo", *broker(folder))


@reproduces("brackets_unsound")
def _(folder: Path) -> Said:
    head = "ts_ms,symbol,open,high,low,close\n1621382400000,BTC_USDT,1,1,1,1\n"
    (folder / "bars.csv").write_text(head)
    rows = [
        {"notionalFloor": 0, "notionalCap": 5, "maintMarginRatio": 0.01, "cum": 0, "initialLeverage": 9},
        {"notionalFloor": 6, "notionalCap": 9, "maintMarginRatio": 0.02, "cum": 0.06, "initialLeverage": 5},
    ]
    (folder / "tiers.json").write_text(json.dumps([{"symbol": "BTCUSDT", "brackets": rows}]))
    code, exit_code, where = said(
        "import", "bars", str(folder / "bars.csv"), "--brackets", str(folder / "tiers.json"), "--strict"
    )
    assert where == {"file": str(folder / "tiers.json")}
    return code, exit_code, where


@reproduces("inputs_refused")
def _(folder: Path) -> Said:
    return said("ingest", "--store", str(folder / "s"), data=b"".join(b"no %d\n" % n for n in range(20)))


@reproduces("duplicates_of_refused")
def _(folder: Path) -> Said:
    said("ingest", "--store", str(folder / "s"), data=b"no json\n")
    return said("ingest", "--store", str(folder / "s"), data=b"no json\n")


@reproduces("items_not_printable")
def _(folder: Path) -> Said:
    path = store(folder)
    forge(Path(path), Path(path) / "journal", encode_payload([msgspec.msgpack.encode(b"I" + b"\xc1")]))
    return said("import", "segments", path)


@reproduces("internal_error")
def _(_folder: Path) -> Said:
    def broken(*, common: Common = Common()) -> int:  # noqa: B008 (frozen)
        raise ZeroDivisionError("a bug")

    app.command(broken, name="broken-for-a-test")
    with patch.object(main, "NAMES", (*main.NAMES, "broken-for-a-test")):
        try:
            return said("broken-for-a-test")
        finally:
            del app["broken-for-a-test"]


WITH_A_BROKER = {
    "topics_missing",
    "topics_incomplete",
    "store_differs",
    "workers_run",
    "broker_refused",
    "offsets_missing",  # tests/kafka/test_transactions.py
    "shard_stopped",  # tests/kafka/test_journal_replaced.py
    "records_outside_journal",  # tests/kafka/test_strays.py
}
"""Reproduced in tests/kafka/test_errors_on_kafka.py."""
IN_A_PROCESS = {"worker_killed"}
"""Reproduced below, in a process of its own."""
FIELDS = {
    "account_unknown": {"account", "sequence"},
    "brackets_unsound": {"file"},
    "backup_differs": {"store"},
    "broker_unreachable": {"servers"},
    "call_unknown": {"account", "call"},
    "cursor_damaged": {"file", "offset"},
    "cursor_differs": {"outbox", "store"},
    "damage_found": {"file", "offset", "store"},
    "fault": {"expected", "got"},
    "fold_unknown": {"fold"},
    "folder_taken": {"store"},
    "address_in_use": {"option"},
    "token_unknown": {"value"},
    "tokens_damaged": {"file"},
    "corrected_already": {"input"},
    "correction_unusable": {"file"},
    "clock_not_moved": {"store"},
    "clock_stands": {"store"},
    "input_not_ndjson": {"file", "line"},
    "file_wrong": {"file", "line", "column"},
    "import_failed": {"file", "line"},
    "import_refused": {"store"},
    "import_unfinished": {"store"},
    "moment_missing": {"option"},
    "nothing_to_undo": {"store"},
    "row_wrong": {"file", "row", "column", "value", "expected"},
    "input_file_missing": {"file"},
    "inputs_refused": {"store"},
    "derived_key_unusable": {"file"},
    "desk_unknown": {"desk"},
    "duplicates_of_refused": {"store"},
    "io_failed": {"file"},
    "journal_damaged": {"file", "offset"},
    "manifest_damaged": {"file", "offset", "store"},
    "manifest_missing": {"file", "offset", "store"},
    "store_file_foreign": {"file", "store"},
    "memory_short": {"store"},
    "missing_argument": {"option"},
    "option_invalid": {"option"},
    "options_conflict": {"option"},
    "partitions_out_of_range": {"option"},
    "profile_not_shipped": {"profile"},
    "record_undecodable": {"file", "offset"},
    "recovery_differs": {"file", "sequence"},
    "refused_input_unknown": {"input"},
    "repair_refused": {"store"},
    "replay_differs": {"store"},
    "restart_not_confirmed": {"input"},
    "row_left_out": {"file", "line"},
    "security_incomplete": {"setting"},
    "setting_invalid": {"file", "line", "setting"},
    "setting_unknown": {"file", "line", "setting"},
    "settings_file_damaged": {"file"},
    "settings_file_missing": {"file"},
    "store_address_invalid": {"option"},
    "store_kind_wrong": {"store"},
    "store_locked": {"store"},
    "store_missing": {"store"},
    "store_newer": {"store"},
    "store_older": {"store"},
    "store_unusable": {"store"},
    "table_unreadable": {"file", "offset"},
    "target_taken": {"store"},
    "time_invalid": {"value"},
    "time_zone_unknown": {"option"},
    "unknown_option": {"option"},
    "usage": {"option"},
    "verification_ended": {"store"},
}
"""What is known of where each lies; of the others, nothing."""
GOES_ON = {"inputs_refused", "duplicates_of_refused", "items_not_printable"}
"""What is said, and the command goes on: it exits 0."""


def test_every_code_has_a_reproducer() -> None:
    assert {*REPRODUCERS, *WITH_A_BROKER, *IN_A_PROCESS} == set(BY_CODE)
    assert len(BY_CODE) == len(ENTRIES)


@pytest.mark.slow_after(9, reason="waits for a supervisor's time limit")
@pytest.mark.parametrize("code", sorted(REPRODUCERS))
def test_what_goes_wrong_has_its_code_and_exit_code_and_says_where(code: str, tmp_path: Path) -> None:
    found, exit_code, where = REPRODUCERS[code](tmp_path)
    assert found == code
    assert exit_code == (0 if code in GOES_ON else BY_CODE[code].exit)
    assert set(where or ()) == FIELDS.get(code, set())


def test_what_begins_with_a_place_is_no_place_unless_the_error_was_raised_with_it() -> None:
    """A file may be named like a place, and a broker's address looks like file and line."""
    assert diagnose(ImportFault("a.csv:7: offset 3: --zone")).where is None
    assert diagnose(ImportFault("it is not readable", file=Path("a.csv"), line=7, offset=None)).where == {
        "file": "a.csv",
        "line": 7,
    }


def test_a_fault_carries_its_numbers() -> None:
    with pytest.raises(Fault, match=r"not so: it holds \(expected=3, got=4\)") as info:
        check(False, "it holds", expected=3, got=4)
    assert info.value.where == {"expected": 3, "got": 4}


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_an_exception_that_is_not_ours_is_found_by_the_name_that_it_has(name: str) -> None:
    module, _, kind = name.rpartition(".")
    found = getattr(importlib.import_module(module), kind)
    assert code_of(found.__new__(found)) == FOREIGN[name]
    assert FOREIGN[name] in BY_CODE


def test_memory_that_the_system_refuses_is_memory_too() -> None:
    assert diagnose(OSError(errno.ENOMEM, "x", "t")).code == "memory_short"
    assert set(diagnose(OSError(errno.ENOMEM, "x", "t")).where or ()) == {"file", "held_mb"}
    assert diagnose(OSError(errno.EACCES, "x", "t")).where == {"file": "t"}


# ---- refusals -------------------------------------------------------------------------------------------------------


def refused_line(reason: Refusal) -> list[bytes]:
    if reason is Refusal.CLOCK_REQUIRED:
        day = Day()
        day.directory()
        day.account("A")
        day.money("A", "1")
        return day.lines
    if reason is Refusal.PROFILE_DOES_NOT_FIT:
        held = UsdmDay().opened()
        held.usdm_account("U", "20000")
        held.perpetual("U", "BTCUSDT-PERP", "0.5", "40000.00")
        held.book("account_changed", account="U", profile="prime")
        return held.lines
    return [START[0], LISTED, *START[1:], {**BAD, **SEMANTIC}[reason]]


@pytest.mark.slow_after(6, reason="waits for a supervisor's time limit")
@pytest.mark.parametrize("reason", [reason for reason in Refusal if reason is not Refusal.NOT_MSGPACK])
def test_every_refusal_is_reached_through_ingest_and_says_which_line(reason: Refusal, tmp_path: Path) -> None:
    lines = refused_line(reason)
    day = tmp_path / "day.ndjson"
    day.write_bytes(b"\n".join(lines))
    code, rows, _ = command("ingest", str(day), "--store", str(tmp_path / "s"), "--strict")
    assert code == 4
    assert rows == [
        {
            "code": reason.value,
            "message": rows[0]["message"],
            "where": {"file": str(day), "line": len(lines)},
            "next": ADVICE[reason],
        }
    ]


def test_an_item_that_is_no_msgpack_is_refused() -> None:
    """msgpack comes through Kafka alone; the fold that refuses is the same."""
    system = StoreFold(1, rules_version=LATEST)
    system.admission.item(b"I\xc1")
    assert system.intake.last_refusal is not None
    assert system.intake.last_refusal[0] is Refusal.NOT_MSGPACK


# ---- how it is said -------------------------------------------------------------------------------------------------


def test_for_people_an_error_is_a_line_with_its_code_and_one_with_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["digest", "--store", str(tmp_path / "none")]) == 1
    use(None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"margin-stream: {tmp_path / 'none'}: no store here (no manifest.json) [store_missing]"
    assert lines[1].startswith(f"  next: `margin-stream ingest FILE --store {tmp_path / 'none'}`")
    assert len(lines) == 2


def test_with_json_every_line_on_stderr_is_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bars.csv").write_text(
        "ts_ms,symbol,open,high,low,close\n1621382400000,BTC_USDT,1,1,1,1\nx,BTC_USDT,1,1,1,1\n"
    )
    assert run(["import", "bars", str(tmp_path / "bars.csv"), "--json"]) == 0
    use(None)
    rows = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [row.get("code", "note") for row in rows] == ["row_left_out", "note", "note"]
    assert rows[1] == {"note": "1 rows were left out"}


def test_a_bug_is_shown_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError) as info:
        raise ZeroDivisionError("a bug")
    assert report_exception(info.value, as_json=False) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "[internal_error]" in text


def test_a_misspelt_option_of_a_command_that_takes_files_is_no_file() -> None:
    code, rows, _ = command("ingest", "--partition", "3")
    assert (code, rows[0]["code"], rows[0]["where"]) == (2, "unknown_option", {"option": "--partition"})
    assert "Did you mean --partitions" in rows[0]["message"]


@pytest.mark.slow(reason="waits for a supervisor's time limit")
def test_a_worker_that_does_not_stop_is_killed_and_it_is_said(tmp_path: Path) -> None:
    """The supervisor of ``worker``, around a child that ignores SIGTERM."""
    script = (
        "import sys, threading, os, signal\n"
        "from margin_stream.cli import worker\n"
        "from margin_stream.cli.output import Common\n"
        "worker.STOP_S = 0.3\n"
        "child = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); "
        "time.sleep(60)'\n"
        "threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()\n"
        "sys.exit(worker._Supervisor(Common(json=True), [sys.executable, '-c', child]).run())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, timeout=30, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 143
    assert json.loads(done.stderr.splitlines()[-1])["code"] == "worker_killed"


# ---- nothing is left out --------------------------------------------------------------------------------------------

INSIDE = {
    "Unavailable",  # an outbox catches it: it goes on the next time
    "RecordTooLarge",  # a fault of ours, not of an input: payloads are cut long before
    "ScenarioError",  # becomes the error of a calculator's answer
    "Distrusted",  # a table that is not believed: it is rebuilt
    "Unusable",  # a shard's rows that are not believed: they are folded again
    "Foreign",  # a message that is not of the store: it is refused, counted, and alarmed
    "NotInLog",  # a checkpoint that is not believed: tables are rebuilt
    "BuildError",  # said by the compiling command alone
    "NotProven",  # becomes the text of a finding of repair
    "Difference",  # becomes a field of what replay prints
    "ParameterError",  # becomes the refusal profile_invalid
    "DecimalError",  # becomes a refusal, or the text of a usage error
    "TimeError",  # the same
    "RefusedInput",  # a refusal: ADVICE has what to do
    "Ended",  # a signal while standard input is read
    "Unreadable",  # a batch of the broker's: what came of it is one refused input
    "UnknownScenario",  # the command line asks before
    "Problem",  # an answer of the service, with its own codes
    "NotTheWriter",  # becomes the answer 503
    "PlaceInvalid",  # becomes the answer 400
    "WrongCell",  # becomes a row_wrong with its row and column
    "TemplateUnclear",  # the text of a usage error
    "InvalidSetting",  # has the code of SettingsError
}


def coded(kind: type) -> set[str]:
    """Return the name of a class that gives itself a code of the catalogue."""
    own = issubclass(kind, Error) and kind.code in BY_CODE and kind.code != getattr(kind.__base__, "code", "")
    return {kind.__name__} if own else set()


def test_every_exception_of_ours_has_a_code_or_never_gets_out() -> None:
    missing = []
    for package in (margin_stream, margin_stream.replay, margin_stream.schemas):
        assert package.__file__ is not None
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
            module = (
                importlib.import_module(
                    ".".join((package.__name__, *path.relative_to(root).with_suffix("").parts)).removesuffix(
                        ".__init__"
                    )
                )
                if names
                else None
            )
            for name in names:
                kind = getattr(module, name)
                if inspect.isclass(kind) and issubclass(kind, BaseException) and name not in INSIDE | coded(kind):
                    missing.append(f"{path.name}: {name}")
    assert missing == [], "give it a code of margin_stream/cli/errors.py, or say why it stays inside"
    assert RefusedInput.__name__ in INSIDE


WITH_NO_PLACE = {
    "margin_stream/cli/own_data.py": 1,  # no file is named
    "margin_stream/cli/market_import.py": 2,  # no file is named, or too many
    "margin_stream/kafka/messages.py": 3,  # a manifest's bytes
    "margin_stream/simulation/broker.py": 2,  # no Java; what Java says
    "margin_stream/host/embedded.py": 1,  # no memory for a thread: said anew with the store
}
"""Where errors are raised of which nothing more is known, and how many."""


def test_errors_are_raised_with_their_fields() -> None:
    """One with an ``__init__`` of its own makes its fields itself."""
    root = Path(margin_stream.__file__ or "").parents[1]
    trees = {
        path.relative_to(root).as_posix(): ast.parse(path.read_text())
        for package in ("margin_stream", "replay", "agents")
        for path in sorted((root / package).rglob("*.py"))
    }
    classes = {node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    kinds = {"Error"}
    while (
        more := {name for name, node in classes.items() if kinds & {ast.unparse(base) for base in node.bases}} - kinds
    ):
        kinds |= more
    own = {name for name in kinds if any(isinstance(part, ast.FunctionDef) for part in classes[name].body)} - {"Error"}
    own |= {name for name in kinds if own & {ast.unparse(base) for base in classes[name].bases}}
    assert "MemoryShort" in kinds
    assert own == {"CorruptLog", "NotInLog", "OffsetsMissing", "UndecodableRecord"}
    bare: dict[str, int] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).rpartition(".")[2] in kinds - own
                and not node.keywords
            ):
                bare[path] = bare.get(path, 0) + 1
    assert bare == WITH_NO_PLACE


def test_advice_has_no_hole() -> None:
    for entry in ENTRIES:
        text = report(Failure(entry.code, "x", None, entry.next, 1), as_json=True)
        assert text == 1
        assert entry.what.endswith(".")
        assert entry.next.endswith(".")
