"""Too little memory: the writer stops in words, loses nothing, and gives up nothing that it has."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from margin_stream.cli import __main__ as starting
from margin_stream.cli import error_output
from margin_stream.cli import main as commands
from margin_stream.cli.error_output import diagnose
from margin_stream.core.intake.admission import Admission
from margin_stream.host import embedded
from margin_stream.host.embedded import Host
from margin_stream.journal.layout import MemoryShort, StoreError
from margin_stream.journal.record_builder import PayloadBuilder
from margin_stream.schemas.ndjson import decode_line
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.tables import checkpoints, rocks
from tests.days import random_day
from tests.folding import fold
from tests.simulation import checker, memory

ROOT = Path(__file__).resolve().parents[2]
LINES = random_day(5, accounts=10, steps=100)


def short(*_: object, **__: object) -> None:
    raise MemoryError


@pytest.mark.slow_after(2, reason="starts processes with little memory")
@pytest.mark.parametrize(
    ("what", "typed"), [("add", False), ("add", True), ("add_tick", False), ("take", False), ("take", True)]
)
def test_a_writer_whose_input_was_admitted_and_not_kept_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, typed: bool
) -> None:
    """Sent again, the input was a duplicate, was acknowledged, and was in no record."""
    host = Host(tmp_path / "s")
    host.ingest(LINES[:50])

    def offer(line: bytes) -> None:
        if typed:
            host.offer(decode_line(line, LATEST))
        else:
            host.offer(line)

    def rest() -> None:
        for line in LINES[50:]:
            offer(line)
        host.commit()

    with monkeypatch.context() as patched:
        patched.setattr(PayloadBuilder, what, short)
        with pytest.raises(MemoryError):
            rest()
    # Whoever goes on must not be told that all is well.
    with pytest.raises(StoreError, match="the writer stopped"):
        rest()
    with pytest.raises(StoreError, match="the writer stopped"):
        host.close()
    checker.check(tmp_path / "s", LINES, 50)
    with Host(tmp_path / "s") as again:
        again.ingest(LINES)
        assert again.system.digests() == fold(LINES)[0]
    checker.check(tmp_path / "s", LINES, len(LINES))


def test_tables_are_not_given_up_becausememory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(tmp_path / "s") as host:
        host.ingest(LINES)
    before = sorted(path.name for path in (tmp_path / "s" / "tables").rglob("*.sst"))
    for place, name in ((checkpoints, "load"), (rocks, "_ask_for_room")):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, short)
            with pytest.raises(MemoryShort, match="not enough memory to open the store"):
                Host(tmp_path / "s")
    assert sorted(path.name for path in (tmp_path / "s" / "tables").rglob("*.sst")) == before
    with Host(tmp_path / "s") as host:
        assert host.recovery.notes == ()
        assert host.recovery.folded == 0


def test_memory_that_ends_in_the_middle_says_up_to_where_all_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ingest() -> None:
        with Host(tmp_path / "s") as host:
            host.ingest(LINES[:50])
            monkeypatch.setattr(Admission, "line", short)
            host.ingest(LINES[50:])

    with pytest.raises(MemoryShort, match="behind record 1 of the journal, up to which all is safe"):
        ingest()
    monkeypatch.undo()
    with Host(tmp_path / "s") as host:
        host.ingest(LINES)
        assert host.system.digests() == fold(LINES)[0]


def test_what_the_writer_keeps_for_the_way_out_is_given_back_where_memory_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython came to turn in a circle with the store's lock in hand: for 32 bytes, as it left a handler of
    ``offer_line``."""
    host = Host(tmp_path / "s")
    assert not host._spare.closed
    host.ingest(LINES[:50])
    assert not host._spare.closed
    monkeypatch.setattr(Admission, "line", short)
    with pytest.raises(MemoryError):
        host.ingest(LINES[50:])
    assert host._spare.closed
    with pytest.raises(StoreError, match="the writer stopped"):
        host.commit()
    host.abandon()


def test_a_thread_that_cannot_be_started_is_too_little_memory_and_nothing_was_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(embedded.ThreadPoolExecutor, "submit", none)
    with pytest.raises(MemoryShort, match="can't start new thread"):
        Host(tmp_path / "s")


def test_what_the_system_refuses_for_want_of_memory_is_said_as_such() -> None:
    assert diagnose(OSError(12, "Cannot allocate memory")).code == "memory_short"
    found = diagnose(MemoryError())
    assert found.code == "memory_short"
    assert "the process has had" in found.message
    assert found.where


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [24, 36, 48, 52, 56, 80, 150, 290, 400, 530, 570])
def test_few_addresses_from_the_start_are_enough_or_it_is_said_what_to_do(tmp_path: Path, megabytes: int) -> None:
    """RocksDB ended the process where a thread of its own could not be started: up to 570 MB, by chance."""
    (tmp_path / "day").write_bytes(b"\n".join(LINES))
    words = [sys.executable, "-m", "margin_stream.cli", "ingest", str(tmp_path / "day"), "--store", str(tmp_path / "s")]
    shell = f'ulimit -v {megabytes << 10} && exec "$@"'
    done = subprocess.run(["sh", "-c", shell, "sh", *words], capture_output=True, check=False, timeout=60, cwd=ROOT)
    if megabytes < 300:
        assert done.returncode == 1, done
        memory.in_words(done.stderr.decode())
    else:
        assert done.returncode == 0, done
        assert fold(LINES)[0].state in done.stdout.decode()


def test_too_little_memory_to_import_is_said_by_the_start_and_nothing_else_is_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["margin-stream", "verify"])
    monkeypatch.delattr(commands, "run")
    with pytest.raises(ImportError):
        starting.main()
    monkeypatch.setattr(starting, "memory_is_short", lambda: True)
    with pytest.raises(SystemExit) as left:
        starting.main()
    assert left.value.code == 1
    memory.in_words(capsys.readouterr().err)


def test_room_is_asked_for_only_where_there_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(rocks.mmap, "mmap", lambda _, size, **__: asked.append(size))
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        rocks._ask_for_room(tmp_path)
    assert not asked


def test_limits_are_drawn_from_too_small_to_start_to_enough() -> None:
    rng = Random(1)
    drawn = [memory.shortage(rng, kind) for kind in memory.KINDS for _ in range(300)]
    for kind, low, high in (("addresses", 40, 400), ("pages", 20, 45), ("addresses from later on", 1, 4)):
        limits = [one.limit >> 20 for one in drawn if one.kind == kind]
        assert min(limits) < low < high < max(limits)


def test_a_module_that_cannot_be_loaded_is_no_bug_where_no_memory_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules are loaded when a command needs them, so this may happen in the midst of it."""
    assert diagnose(ImportError("failed to map segment")).code == "internal_error"
    monkeypatch.setattr(error_output, "memory_is_short", lambda: True)
    assert diagnose(ImportError("failed to map segment")).code == "memory_short"
    assert diagnose(ZeroDivisionError("x")).code == "memory_short"
