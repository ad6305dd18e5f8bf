"""Damaged and failing media, at the counts of every change; ``make simulate-media`` runs the full ones. Mutants prove
that each judge can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from margin_stream.host.embedded import Host
from margin_stream.journal import highwater, records
from margin_stream.journal import log as logs
from margin_stream.journal.highwater import HighWater
from margin_stream.journal.layout import Layout, read_manifest
from margin_stream.journal.log import LogWriter
from margin_stream.journal.log_end import Ending, find_end
from margin_stream.journal.records import NO_CHAIN, Cut, chained, record_bytes, segment_header, segment_name
from margin_stream.replay import verification
from margin_stream.replay.table_checks import TableChecks
from tests.faults import FaultyDisk
from tests.simulation import bits, checker, damage, io_calls, machine, memory, stops, torn
from tests.simulation.checker import Lost
from tests.simulation.children import STEPS, Ended, Fault
from tests.simulation.mounts import lacking
from tests.simulation.stores import Made, made
from tests.simulation.workloads import workload

ROOT = Path(__file__).resolve().parents[2]


def campaign(what: str, trials: int, seed: int = 1) -> dict[str, Any]:
    """Run a campaign in a process of its own: it forks, which a process with threads must not."""
    command = [
        sys.executable,
        "-m",
        "tests.simulation.media",
        what,
        "--trials",
        str(trials),
        "--seed",
        str(seed),
        "--workers",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, check=False, timeout=900, cwd=ROOT)
    row: dict[str, Any] = json.loads(done.stdout)
    assert row["failures"] == 0, row["failed"]
    assert row["trials"] == trials
    return row


@pytest.mark.slow
def test_flipped_bits_are_noticed_and_lose_nothing() -> None:
    assert campaign("flips", 150)["noticed at once"] > 120


@pytest.mark.slow
def test_pages_segments_and_files_that_are_zeroed_swapped_doubled_stale_foreign_or_missing_are_noticed_and_lose_nothing() -> (
    None
):
    row = campaign("shapes", 60)
    assert set(damage.SHAPES) <= set(row)
    assert row["refused"]
    assert row["recovered"]


@pytest.mark.slow
def test_a_call_to_the_system_that_fails_stops_the_writer_and_loses_nothing() -> None:
    if not machine.libfiu_is_here():
        lacking("libfiu is not here (Debian: libfiu0)")
    row = campaign("libfiu", len(machine.POINTS))
    assert row["stopped"] > 2


@pytest.mark.slow
def test_few_files_and_little_memory_stop_the_writer_and_lose_nothing() -> None:
    assert campaign("limits", 12)["stopped"] > 2


@pytest.mark.slow
def test_one_bit_in_251_of_a_whole_store_is_named_by_the_readers_of_its_file() -> None:
    row = campaign("bits", 1)
    assert row["bits of the 64 KiB segment"] > 2000
    assert row["verified and opened"] == bits.FULL
    assert row["bits"] == sum(row.get(by, 0) for by in (*SEEN_BY, "manifest"))


SEEN_BY = (
    "segment: reader and writer",
    "segment: reader (the writer does not read it)",
    "mark: the slot is named, the end is known",
    "table: rebuilt from the journal",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whom", "when", "seconds"),
    [("writer", 0.0, 0.3), ("writer", 0.6, 2.2), ("verify", 0.3, 1.0), ("follow", 0.5, 1.0)],
)
def test_a_process_that_is_stopped_goes_on_as_if_nothing_had_been(
    tmp_path: Path, whom: str, when: float, seconds: float
) -> None:
    assert stops.run(workload(4, STEPS), tmp_path, whom, when, seconds)


@pytest.mark.slow
def test_whoever_ends_a_trial_ends_the_processes_that_it_stopped(tmp_path: Path) -> None:
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from tests.simulation import children, stops\n"
        "folder = Path(sys.argv[1])\n"
        "writer = children.start(4, folder / 's', folder / 'counter', children.Fault('none'), pause_s=0.1)\n"
        "assert stops.stop(writer)\n"
        "print(writer.pid, flush=True)\n"
        "signal.pause()\n"
    )
    (tmp_path / "counter").write_bytes(bytes(8))
    trial = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert trial.stdout is not None
        stopped = Path("/proc") / trial.stdout.readline().decode().strip() / "stat"
        assert stopped.read_text().rpartition(")")[2].split()[0] == "T"
    finally:
        trial.kill()
        trial.communicate()
    stops.until("it is gone", lambda: not stopped.exists() or stopped.read_text().rpartition(")")[2].split()[0] in "ZX")


@pytest.mark.slow
def test_an_ingest_with_too_little_memory_loses_nothing_and_goes_on_with_enough() -> None:
    row = campaign("memory", 5, seed=2)
    assert row["addresses: said"]
    if why := memory.no_groups():
        # What was tried is the reason; the other two kinds are judged above.
        lacking(f"no group with a memory limit: {why}")
    assert row["pages: SIGKILL"]


@pytest.mark.slow
def test_a_power_cut_and_a_refusal_at_a_call_to_the_disk_lose_nothing() -> None:
    assert io_calls.trial(3, steps=8, ways=("power", "refused"), stride=6)["crashes"] > 25


@pytest.mark.slow
def test_torn_records_are_cut_where_they_were_not_acknowledged_and_refused_where_they_were() -> None:
    counts = torn.trial(1, stride=40)
    assert min(counts.values()) > 10


# ---- mutants
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mutant_acknowledging_before_the_sync_is_caught_by_a_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    durable = LogWriter.make_durable

    def early(self: LogWriter, cut: Cut) -> None:
        if isinstance(self._disk, FaultyDisk):
            self.durable = cut
        else:
            durable(self, cut)

    monkeypatch.setattr(LogWriter, "make_durable", early)
    with pytest.raises(AssertionError, match="were acknowledged"):
        io_calls.trial(3, steps=8, ways=("power",))


@pytest.mark.slow
def test_mutant_a_swallowed_error_of_a_sync_is_caught_by_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    durable = LogWriter.make_durable

    def swallowing(self: LogWriter, cut: Cut) -> None:
        try:
            durable(self, cut)
        except OSError:
            self.durable = cut

    monkeypatch.setattr(LogWriter, "make_durable", swallowing)
    with pytest.raises(AssertionError):
        io_calls.trial(3, steps=8, ways=("refused",))


class Equal(bytes):
    """Bytes that compare as if nobody compared them."""

    def __eq__(self, _: object) -> bool:
        return True

    def __ne__(self, _: object) -> bool:
        return False

    __hash__ = bytes.__hash__


class NoChecksums:
    """Stands for zlib: every checksum fits."""

    @staticmethod
    def crc32(*_: object) -> object:
        return Equal()


def journal_flip(store: Made, seed: int) -> damage.Damage:
    """Flip a bit in the middle of the journal's last segment."""
    rng = Random(seed)
    file = max(name for name in store.durable if name.parts[0] == "journal")
    data = bytearray((store.path / file).read_bytes())
    offset = rng.randrange(records.HEADER.size + 16, store.durable[file])
    data[offset] ^= 1
    (store.path / file).write_bytes(data)
    return damage.Damage(file, offset, "one bit", True, 1)


def flipped(seed: int) -> None:
    """Judge one flip, and put the bit back."""
    store = made(seed, "closed")
    found = journal_flip(store, seed)
    try:
        damage.look(store, store.path, found)
    finally:
        data = bytearray((store.path / found.file).read_bytes())
        data[found.offset] ^= found.mask
        (store.path / found.file).write_bytes(data)


@pytest.mark.slow(reason="a campaign of damage, to be caught")
def test_mutant_checksums_and_chain_switched_off_are_caught_by_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = (2, 3, 4, 5)
    for seed in seeds:
        flipped(seed)
    monkeypatch.setattr(records, "zlib", NoChecksums)
    flipped(2)  # The chain alone still finds it.
    monkeypatch.setattr(records, "chained", lambda chain, record: Equal(chained(chain, record)))
    seen = 0
    for seed in seeds:
        try:
            flipped(seed)
        except AssertionError as error:
            seen += "noticed nothing" in str(error)
    assert seen


def test_mutant_a_verify_that_does_not_look_is_caught_by_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification._Inspector, "journal", lambda self: None)
    monkeypatch.setattr(verification._Inspector, "compare_counts", lambda self: None)
    monkeypatch.setattr("margin_stream.replay.verification.check_tables", lambda *_: TableChecks(0, []))
    with pytest.raises(AssertionError, match="noticed nothing"):
        flipped(2)


def test_mutant_a_tail_that_is_cut_wherever_it_is_torn_is_caught_by_torn_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def careless(folder: Path, store_id: bytes, mark: HighWater, _: Cut = logs.START) -> Ending:
        return find_end(folder, store_id, mark._replace(cut=Cut(0, 1, 0, NO_CHAIN)))

    monkeypatch.setattr(logs, "find_end", careless)
    with pytest.raises(AssertionError, match="acknowledged records are missing, and the store opened"):
        torn.trial(1, stride=40)


@pytest.mark.slow
def test_mutant_an_acknowledgement_without_a_commit_is_caught_by_kills() -> None:
    # The child dies by itself once all is "acknowledged", so that the test does not hang on when a kill comes.
    script = (
        "import os, tempfile\n"
        "from pathlib import Path\n"
        "from margin_stream.host.embedded import Host\n"
        "from tests.simulation import checker, kills\n"
        "from tests.simulation.workloads import workload\n"
        "lines = workload(4, 40).lines\n"
        "def left(mutant):\n"
        "    path = Path(tempfile.mkdtemp()) / 's'\n"
        "    Host.commit = (lambda self: None) if mutant else commit\n"
        "    acknowledged, _ = kills.killed_run(path, lines, 100.0, 17, 10_000)\n"
        "    assert acknowledged == len(lines)\n"
        "    checker.check(path, lines, acknowledged)\n"
        "commit, Host.close = Host.commit, lambda self: os._exit(0)\n"
        "left(False)\n"
        "try: left(True)\n"
        "except checker.Lost: os._exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=300, cwd=ROOT, capture_output=True)
    assert done.returncode == 7, done.stderr


def test_mutant_a_writer_that_goes_on_after_a_failed_call_is_caught() -> None:
    work = workload(1, STEPS)
    fault = Fault("point", 2, "posix/io/sync/fdatasync")
    machine.judge(work, fault, Ended(1, 2 * work.group, False, "OSError: [Errno 5] Input/output error"))
    for wrong in (
        Ended(0, len(work.lines), True, ""),
        Ended(1, 3 * work.group, False, "late"),
        Ended(0, 0, False, ""),
        Ended(1, 0, False, ""),
    ):
        with pytest.raises(AssertionError):
            machine.judge(work, fault, wrong)


@pytest.mark.slow(reason="a campaign of damage, to be caught")
def test_mutant_a_reader_that_skips_the_checksum_is_caught_by_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    store, segment = bits.whole(), Path("journal") / segment_name(1)
    bits.look(store, segment, 5000)
    monkeypatch.setattr(records, "zlib", NoChecksums)
    with pytest.raises(AssertionError, match=r"offset 5000 bit 0: a record was read that holds the bit"):
        bits.look(store, segment, 5000)


def test_mutant_a_reader_that_ends_quietly_at_damage_is_caught_by_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    read = logs.read

    def quiet(*words: Any, **more: Any) -> Any:
        try:
            yield from read(*words, **more)
        except records.CorruptLog:
            return

    store = bits.whole()
    monkeypatch.setattr(logs, "read", quiet)
    with pytest.raises(AssertionError, match="noticed nothing"):
        bits.look(store, Path("journal") / segment_name(1), 5000)


@pytest.mark.parametrize(
    ("name", "place"),
    [("journal/highwater", 40), ("journal/highwater", 500), ("manifest.json", 40), ("tables/intake/CURRENT", 3)],
)
def test_mutant_readers_of_small_files_that_do_not_compare_are_caught_by_bits(
    monkeypatch: pytest.MonkeyPatch, name: str, place: int
) -> None:
    store = bits.whole()
    bits.look(store, Path(name), place)
    read, whole = highwater.read, read_manifest(Layout(store.made.path))
    monkeypatch.setattr(highwater, "read", lambda *words: read(*words)._replace(damaged=()))
    monkeypatch.setattr(bits, "read_manifest", lambda _: whole)
    monkeypatch.setattr(bits.rocks, "_examine", lambda _: None)
    with pytest.raises(AssertionError, match=r"noticed nothing|the reader said ''"):
        bits.look(store, Path(name), place)


@pytest.mark.slow(reason="a campaign of damage, to be caught")
def test_mutant_a_lock_that_is_stolen_from_a_stopped_writer_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this process alone: the writer that is stopped has its lock, and its tables open.
    monkeypatch.setattr("margin_stream.host.lock.fcntl.flock", lambda *_: None)
    monkeypatch.setattr("margin_stream.host.recovery.check_tables", lambda _: None)
    with pytest.raises(AssertionError, match="a second writer got in"):
        stops.run(workload(4, STEPS), tmp_path, "writer", 0.5, 0.2)


def test_mutant_a_lock_that_does_not_name_its_holder_is_caught(tmp_path: Path) -> None:
    work = workload(4, STEPS)
    with work.open(tmp_path / "s"), pytest.raises(AssertionError, match="is not named"):
        stops.refused_by_name(work, tmp_path / "s", 1)


@pytest.mark.slow(reason="a campaign of damage, to be caught")
def test_mutant_a_reader_that_stops_short_of_the_mark_or_goes_past_it_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = workload(4, 40)
    with work.open(tmp_path / "s") as host:
        host.ingest(work.lines)
        stops.read_beside(work, tmp_path / "s", len(work.lines))
        found = stops.verify(tmp_path / "s", fold=False)
        for wrong in (-1, 1):
            amiss = found.__class__(
                **{name: getattr(found, name) for name in found.__struct_fields__} | {"records": found.records + wrong}
            )
            monkeypatch.setattr(stops, "verify", lambda *_, amiss=amiss, **__: amiss)
            with pytest.raises(AssertionError, match="are durable"):
                stops.read_beside(work, tmp_path / "s", len(work.lines))


def test_mutant_a_follower_that_misses_doubles_or_swaps_is_caught() -> None:
    work = workload(4, 40)
    rows: list[dict[str, Any]] = []
    for place, identity in enumerate(checker.expected(work.lines)[0], start=1):
        known = (
            {"type": "x", "source": identity[0], "source_seq": identity[1]}
            if isinstance(identity, tuple)
            else {"type": "refused"}
        )
        rows.append({"sequence": place, **known})
    stops.followed(work, rows)
    swapped = [{**rows[1], "sequence": 1}, {**rows[0], "sequence": 2}, *rows[2:]]
    for wrong in (rows[:-1], [*rows, rows[-1]], [*rows[:5], *rows[6:]], swapped):
        with pytest.raises(AssertionError):
            stops.followed(work, wrong)


@pytest.mark.slow(reason="a campaign of damage, to be caught")
def test_mutant_an_ingest_that_does_not_end_as_an_undisturbed_one_is_caught(tmp_path: Path) -> None:
    work = workload(4, 40)
    reference = work.reference()
    with work.open(tmp_path / "s") as host:
        host.ingest(work.lines)
    whole = Ended(0, len(work.lines), True, "")
    stops.judge(work, tmp_path / "s", whole, reference)
    for wrong in (whole._replace(code=-9), whole._replace(finished=False), whole._replace(acknowledged=3)):
        with pytest.raises(AssertionError):
            stops.judge(work, tmp_path / "s", wrong, reference)
    with pytest.raises(AssertionError, match="an undisturbed run comes to"):
        stops.judge(work, tmp_path / "s", whole, reference._replace(effects="0"))


def test_mutants_of_an_ingest_with_little_memory_are_caught(tmp_path: Path) -> None:
    work = workload(4, 40)
    reference = work.reference()
    with work.open(tmp_path / "s") as host:
        host.ingest(work.lines[:30])
    said = (
        "margin-stream: not enough memory to start [memory_short]\n  next: Let the process have more memory "
        "(`ulimit -v`)\n"
    )
    few = memory.Shortage("addresses", True, 50 << 20)

    def judged(end: Ended, short: memory.Shortage = few, printed: str = "") -> str:
        return memory.judge(work, tmp_path / "s", short, end, printed, reference)

    assert judged(Ended(1, 30, False, said)) == "said"
    assert judged(Ended(-9, 30, False, ""), few._replace(kind="pages")) == "SIGKILL"
    for wrong in (
        Ended(1, 30, False, "Traceback (most recent call last):\nMemoryError\n"),
        Ended(1, 30, False, "margin-stream: not enough memory [memory_short]\n"),
        Ended(4, 30, False, said),
        Ended(-9, 30, False, ""),
        Ended(0, 30, True, ""),
    ):
        with pytest.raises((AssertionError, IndexError)):
            judged(wrong)
    with pytest.raises(Lost):
        judged(Ended(1, 31, False, said))
    with pytest.raises(Lost):
        judged(Ended(0, 0, True, ""), printed=f"{reference.state} {reference.effects}")


def test_a_memory_group_that_cannot_be_made_says_what_was_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    why = memory.no_groups()
    assert str(tmp_path) in why


# ---- the checker
# ------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken(tmp_path: Path) -> tuple[Path, list[bytes]]:
    work = workload(4, 40)
    with Host(tmp_path / "s", group_items=10) as host:
        host.ingest(work.lines)
    checker.check(tmp_path / "s", work.lines, len(work.lines))
    return tmp_path / "s", work.lines


def rewrite(store: Path, payloads: list[bytes]) -> None:
    """Write a journal of other records, whole in itself."""
    identity = read_manifest(Layout(store)).identity
    data = segment_header(identity, 1, NO_CHAIN) + b"".join(
        record_bytes(n, payload) for n, payload in enumerate(payloads, start=1)
    )
    (store / "journal" / segment_name(1)).write_bytes(data)


def test_the_checker_sees_a_record_that_is_gone(taken: tuple[Path, list[bytes]]) -> None:
    store, lines = taken
    whole = checker.payloads(store / "journal")
    rewrite(store, whole[:-1])
    with pytest.raises(Lost, match="were acknowledged"):
        checker.check(store, lines, len(lines))
    checker.check(store, lines, 0)
    rewrite(store, [*whole[:2], *whole[3:]])
    with pytest.raises(Lost, match="was sent there"):
        checker.check(store, lines, 0)


def test_the_checker_sees_a_record_that_is_there_twice_or_out_of_order(taken: tuple[Path, list[bytes]]) -> None:
    store, lines = taken
    whole = checker.payloads(store / "journal")
    for wrong in ([*whole, whole[-1]], [whole[0], *whole], [whole[1], whole[0], *whole[2:]]):
        rewrite(store, wrong)
        with pytest.raises(Lost):
            checker.check(store, lines, len(lines))


def test_the_checker_sees_a_flipped_bit(taken: tuple[Path, list[bytes]]) -> None:
    store, lines = taken
    path = store / "journal" / segment_name(1)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(Lost):
        checker.check(store, lines, len(lines))
