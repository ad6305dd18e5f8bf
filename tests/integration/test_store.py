"""The embedded host: nothing acknowledged is lost, nothing corrupt is used, recovery equals an uninterrupted run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from margin_stream import Store
from margin_stream.core.intake.fold import Verdict
from margin_stream.core.store_fold import Digests
from margin_stream.host.embedded import Host
from margin_stream.host.lock import holder_of
from margin_stream.journal import highwater
from margin_stream.journal.layout import CorruptManifest, StoreError, StoreLocked
from margin_stream.journal.records import HEADER, CorruptLog
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import verify
from margin_stream.revaluation import ENGINES
from margin_stream.views.source import Until
from tests.days import Day, random_day
from tests.faults import ForgetfulDisk, Stopped, StoppingDisk
from tests.folding import fold
from tests.usdm_days import random_usdm_day, with_large_numbers

LINES = random_day(5, accounts=10, steps=300, noisy=True)
USDM_LINES = with_large_numbers(random_usdm_day(6, accounts=9, steps=300))
USDM_REFERENCE = fold(USDM_LINES)[0]
REFERENCE = fold(LINES)[0]


def make(
    path: Path, lines: list[bytes] = LINES, partitions: int = 3, group: int = 20, checkpoint: int = 120
) -> Digests:
    with Host(path, partitions=partitions, group_items=group, checkpoint_items=checkpoint) as host:
        host.ingest(lines)
        return host.checkpoint()


def test_a_store_has_the_digests_of_the_folds(tmp_path: Path) -> None:
    assert make(tmp_path / "s") == REFERENCE
    assert verify(tmp_path / "s").ok
    assert replay(tmp_path / "s").equal
    assert replay(tmp_path / "s", revaluation="plain").state_digest == REFERENCE.state
    assert replay(tmp_path / "s", from_checkpoint=True).equal


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
@pytest.mark.parametrize("seed", range(12))
def test_checkpoint_plus_tail_equals_full_replay_at_any_position(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    lines, reference = ((LINES, REFERENCE), (USDM_LINES, USDM_REFERENCE))[seed % 2]
    at = rng.randrange(10, len(lines))
    host = Host(tmp_path / "s", partitions=rng.choice((1, 2, 7)), group_items=rng.choice((1, 7, 50)))
    host.ingest(lines[:at])
    host.checkpoint()
    host.ingest(lines[at : at + rng.randrange(60)])
    host.abandon()
    with Host(tmp_path / "s", revaluation=rng.choice(ENGINES)) as again:
        assert again.recovery.from_sequence > 0
        again.ingest(lines)
        assert again.checkpoint() == reference
    assert replay(tmp_path / "s").equal
    assert verify(tmp_path / "s").ok


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_a_prefix_replays_to_the_digest_it_had(tmp_path: Path) -> None:
    make(tmp_path / "s")
    for position in (1, 40, 200, REFERENCE.sequence):
        kept: list[bytes] = []
        found = replay(tmp_path / "s", until=Until(sequence=position))
        assert found.sequence == position
        for line in LINES:
            kept.append(line)
            if fold_position(kept) == position:
                break
        assert fold(kept)[0].state == found.state_digest


def fold_position(lines: list[bytes]) -> int:
    return fold(lines)[0].sequence


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_the_last_record_torn_at_every_byte_is_cut_and_reported(tmp_path: Path) -> None:
    """A record that was not acknowledged: whatever of it reached the disk, all before it stays."""
    host = Host(tmp_path / "s", group_items=20)
    host.ingest(LINES[:200])
    acknowledged = host.system.sequence
    segment = tmp_path / "s" / "journal" / f"{1:020d}.seg"
    before = segment.stat().st_size
    for line in LINES[200:203]:
        host.offer(line)
    host._journal.append(b"\x90" * 60)
    host._journal.write()
    host.abandon()
    whole = segment.read_bytes()
    for length in range(before, len(whole)):
        shutil.rmtree(tmp_path / "t", ignore_errors=True)
        shutil.copytree(tmp_path / "s", tmp_path / "t")
        with (tmp_path / "t" / "journal" / segment.name).open("r+b") as file:
            file.truncate(length)
        assert verify(tmp_path / "t", fold=False).torn_tail_bytes == length - before
        again = Host(tmp_path / "t")
        assert again.system.sequence == acknowledged
        assert again.recovery.cut_bytes == length - before
        again.abandon()


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_an_acknowledged_record_that_is_missing_or_damaged_is_a_fault_with_its_place(tmp_path: Path) -> None:
    make(tmp_path / "s")
    segment = tmp_path / "s" / "journal" / f"{1:020d}.seg"
    whole = segment.read_bytes()
    for length in (len(whole) - 1, len(whole) - 200, HEADER.size):
        segment.write_bytes(whole[:length])
        shutil.rmtree(tmp_path / "s" / "tables")
        with pytest.raises(CorruptLog) as damage:
            Host(tmp_path / "s")
        assert damage.value.path == segment
        assert not verify(tmp_path / "s").ok


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_bit_flips_are_never_used_silently(tmp_path: Path) -> None:
    """1,000 single-bit flips over every file of a closed store: verify names the place of each."""
    make(tmp_path / "s", partitions=2)
    files = sorted(
        p
        for p in (tmp_path / "s").rglob("*")
        if p.is_file() and p.name not in ("lock", "LOCK", "LOG") and p.stat().st_size
    )
    weights = [min(path.stat().st_size, 4000) for path in files]
    rng = Random(2)
    for trial in range(1000):
        path = rng.choices(files, weights)[0]
        data = path.read_bytes()
        place = rng.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :])
        found = verify(tmp_path / "s", fold=trial % 50 == 0)
        relative = path.relative_to(tmp_path / "s")
        folder = str(tmp_path / "s" / relative.parts[0])
        assert not found.ok, f"trial {trial}: {relative} offset {place} was not noticed"
        assert any(problem.file.startswith(folder) for problem in found.problems), (
            f"trial {trial}: {relative}: {found.problems}"
        )
        path.write_bytes(data)
    assert verify(tmp_path / "s").ok


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_damaged_tables_are_rebuilt_from_the_journal(tmp_path: Path) -> None:
    make(tmp_path / "s")
    for path in (tmp_path / "s" / "tables" / "p0001").iterdir():
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2))
    with Host(tmp_path / "s") as host:
        assert host.system.digests() == REFERENCE
        assert host.recovery.notes
        assert host.recovery.folded == REFERENCE.sequence
    assert verify(tmp_path / "s").ok


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rng = Random(3)
    for trial in range(15):
        path = tmp_path / str(trial)
        disk = ForgetfulDisk()
        host = Host(path, group_items=10, disk=disk, checkpoint_items=100)
        at = rng.randrange(20, 250)
        host.ingest(LINES[:at])
        acknowledged = host.system.sequence
        for line in LINES[at : at + 5]:
            host.offer(line)
        host._journal.append(b"\x90")
        host._journal.write()
        host.abandon()
        disk.cut_power(path)
        again = Host(path)
        assert again.system.sequence == acknowledged
        again.ingest(LINES)
        assert again.close() == REFERENCE


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_a_crash_at_every_call_to_the_disk_loses_nothing(tmp_path: Path) -> None:
    lines = LINES[:75]
    reference = fold(lines)[0]
    counting = StoppingDisk()
    host = Host(
        tmp_path / "count", partitions=2, group_items=15, checkpoint_items=60, disk=counting, segment_limit=2000
    )
    host.ingest(lines)
    assert host.close() == reference
    total = len(counting.calls)
    assert total > 60
    for stop_at in range(1, total + 1):
        path = tmp_path / str(stop_at)
        disk = StoppingDisk(stop_at, torn=(stop_at * 37) % 100)
        acknowledged = 0
        try:
            host = Host(path, partitions=2, group_items=15, checkpoint_items=60, disk=disk, segment_limit=2000)
        except Stopped:
            pass
        else:
            try:
                for start in range(0, len(lines), 15):
                    host.ingest(lines[start : start + 15])
                    acknowledged = host.system.sequence
                    if start % 60 == 45:
                        host.checkpoint()
                host.close()
            except (Stopped, StoreError):
                pass
            finally:
                with contextlib.suppress(OSError, ValueError):
                    host.abandon()
        with Host(path, partitions=2, segment_limit=2000) as again:
            assert again.system.sequence >= acknowledged, f"call {stop_at}: {disk.calls[-1]}"
            again.ingest(lines)
            assert again.checkpoint() == reference, f"call {stop_at}: {disk.calls[-1]}"
        found = verify(path)
        assert found.ok, f"call {stop_at}: {found.problems}"
        shutil.rmtree(path)


@pytest.mark.slow(reason="fills many segments")
def test_segments_follow_each_other(tmp_path: Path) -> None:
    with Host(tmp_path / "s", group_items=10, segment_limit=1500) as host:
        host.ingest(LINES)
    assert len(list((tmp_path / "s" / "journal").glob("*.seg"))) > 5
    assert verify(tmp_path / "s").ok
    with Host(tmp_path / "s", segment_limit=1500) as host:
        assert host.system.digests() == REFERENCE
    segments = sorted((tmp_path / "s" / "journal").glob("*.seg"))
    first, second = segments[1].read_bytes(), segments[2].read_bytes()
    segments[1].write_bytes(second)
    segments[2].write_bytes(first)
    assert str(segments[1]) in {problem.file for problem in verify(tmp_path / "s").problems}


def test_a_second_writer_is_told_who_holds_the_store(tmp_path: Path) -> None:
    with Host(tmp_path / "s"), pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        Host(tmp_path / "s")


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_a_reader_beside_a_writer_sees_what_is_durable(tmp_path: Path) -> None:
    with Host(tmp_path / "s", group_items=10, checkpoint_items=80) as host:
        for start in range(0, len(LINES), 40):
            host.ingest(LINES[start : start + 40])
            found = replay(tmp_path / "s")
            assert found.equal, found.first_difference
            assert found.sequence == host.system.sequence


def test_the_manifest_is_checked(tmp_path: Path) -> None:
    make(tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.json"
    good = manifest.read_text()
    manifest.write_text(good.replace('"partitions": 3', '"partitions": 4'))
    with pytest.raises(CorruptManifest):
        Host(tmp_path / "s")
    manifest.unlink()
    with pytest.raises(StoreError, match="manifest is missing"):
        Host(tmp_path / "s")


def test_a_newer_store_is_refused_by_name(tmp_path: Path) -> None:
    from hashlib import sha256

    make(tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields.pop("sha256")
    fields["format"] = 3
    checksum = sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    manifest.write_text(json.dumps({**fields, "sha256": checksum}, indent=1) + "\n")
    with pytest.raises(StoreError, match="newer margin-stream"):
        Host(tmp_path / "s")


async def test_append_acknowledges_what_is_durable_to_many_callers_at_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    for line in LINES[:40]:
        await store.append(line)
    acks = await asyncio.gather(*(store.append(line) for line in LINES[40:]))
    again = await asyncio.gather(*(store.append(line) for line in LINES))
    assert {ack.verdict for ack in again} == {Verdict.DUPLICATE}
    assert any(ack.verdict is Verdict.REFUSED and ack.reason for ack in acks)
    assert highwater.read(tmp_path / "s" / "journal" / "highwater", store._host.manifest.identity).cut.number > 0
    assert store.close() == REFERENCE


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_the_library_answers_like_the_command_line(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        counts = store.ingest(LINES)
        assert counts.accepted + counts.refused == REFERENCE.sequence
        assert store.replay().equal
        assert store.state("A0")["account"] == "A0"
        assert store.state("A0", at=60)["sequence"] == 60
        assert [call["due_at"] for call in store.calls()] == sorted(call["due_at"] for call in store.calls())


@pytest.mark.slow
@pytest.mark.parametrize(("hash_seed", "zone"), [("0", "UTC"), ("1", "Asia/Kathmandu"), ("4242", "America/St_Johns")])
def test_hash_seed_and_time_zone_change_nothing(tmp_path: Path, hash_seed: str, zone: str) -> None:
    day = tmp_path / "day.ndjson"
    day.write_bytes(b"\n".join(LINES))
    command = [
        sys.executable,
        "-m",
        "margin_stream.cli",
        "ingest",
        str(day),
        "--store",
        str(tmp_path / "s"),
        "--json",
        "--quiet",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "LC_ALL": "C"},
    )
    row = json.loads(done.stdout)
    assert (row["last"], row["state_digest"], row["effects_digest"]) == REFERENCE


@pytest.mark.slow(reason="opens, damages or replays a store many times over")
def test_a_crash_between_the_tables_and_the_record_of_their_digest_is_made_good(tmp_path: Path) -> None:
    host = Host(tmp_path / "s", group_items=20)
    host.ingest(LINES[:8])
    host.checkpoint()
    host.ingest(LINES)
    host._digests.append = lambda _: (_ for _ in ()).throw(Stopped)  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        host.checkpoint()
    host.abandon()
    assert replay(tmp_path / "s").equal
    with Host(tmp_path / "s"):
        pass
    found = replay(tmp_path / "s")
    assert found.equal
    assert found.recorded_until == REFERENCE.sequence
    assert verify(tmp_path / "s").ok


def test_a_fork_of_the_writer_writes_nothing(tmp_path: Path) -> None:
    day = Day().opened()
    with Store.open(tmp_path / "s") as opened:
        opened.ingest(day.lines[:-1])
        child = os.fork()
        if child == 0:
            refusals = 0
            for attempt in (lambda: opened.ingest(day.lines[-1:]), opened.checkpoint, opened.close):
                try:
                    attempt()
                except StoreLocked as error:
                    refusals += f"process {os.getppid()} has it open" in str(error)
            os._exit(refusals)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert holder_of(tmp_path / "s" / "lock") == f"process {os.getpid()} on {socket.gethostname()}"
        assert opened.ingest(day.lines[-1:]).accepted == 1
        digests = opened.digests()
    with Store.open(tmp_path / "s") as opened:
        assert opened.digests() == digests


def test_tables_that_another_process_has_open_are_not_rebuilt(tmp_path: Path) -> None:
    store = tmp_path / "s"
    with Store.open(store) as opened:
        opened.ingest(Day().opened().lines)
    table = store / "tables" / "intake"
    hold = f"import sys; from margin_stream.tables.rocks import Table; from pathlib import Path; t = Table(Path({str(table)!r}))"
    with subprocess.Popen(
        [sys.executable, "-c", f"{hold}; print('open', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        rows = sorted(path.name for path in table.iterdir())
        with pytest.raises(StoreLocked, match=f"another process has this table open: process {other.pid}"):
            Store.open(store)
        assert sorted(path.name for path in table.iterdir()) == rows
        other.communicate()
    with Store.open(store) as opened:
        assert opened.digests().sequence
