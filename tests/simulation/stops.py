"""SIGSTOP and SIGCONT: of a writer, of a reader that verifies again and again, of one that follows; 0.1 to 120 s, as a
paging host or a debugger does it.

A stopped writer keeps its lock: a second one is refused by the holder's name, readers read up to the durable mark and
change nothing. A stopped reader hinders nobody, and reads on where it was, each input once. Once all go on, the ingest
comes to what an undisturbed one comes to.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from margin_stream.cli.errors import INTERRUPTED, LOCKED
from margin_stream.core.store_fold import Digests
from margin_stream.journal import highwater
from margin_stream.journal import log as logs
from margin_stream.journal.layout import Layout, RecordedDigest, StoreLocked, read_manifest
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import verify
from tests.simulation import checker
from tests.simulation.children import ROOT, STEPS, Counter, Ended, Fault, die_with_parent, ended, settle, start
from tests.simulation.workloads import Workload, workload

SHORTEST_S, LONGEST_S = 0.1, 120.0
INGEST_S = 2.5
"""So long an ingest takes, about: its groups wait for each other."""
LIMIT_S = 60.0
WHOM = ("writer", "verify", "follow")
COMMAND = [sys.executable, "-m", "margin_stream.cli"]


def until(what: str, true: Callable[[], bool]) -> None:
    """Wait until something is true.

    Raises:
        AssertionError: it does not become true.
    """
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, f"in {LIMIT_S:.0f} s it did not come to this: {what}"
        time.sleep(0.002)


def stop(process: subprocess.Popen[bytes]) -> bool:
    """Stop a process; return whether there was one left to be stopped."""
    process.send_signal(signal.SIGSTOP)
    until("the process stops", lambda: process.poll() is not None or _state(process.pid) == "T")
    return process.poll() is None


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def stamps(store: Path) -> dict[str, tuple[int, int]]:
    """Return what changes when anybody writes to a store."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(store.rglob("*"))}


# ---- beside a stopped writer
# ------------------------------------------------------------------------------------------


def refused_by_name(work: Workload, store: Path, holder: int) -> None:
    """Try to write to a store whose writer is stopped.

    Raises:
        AssertionError: one can, or is not told who holds it.
    """
    try:
        host = work.open(store)
    except StoreLocked as locked:
        said = str(locked)
    else:
        host.abandon()
        raise AssertionError("a second writer got in while the first was stopped")
    assert f"process {holder} on " in said, f"the holder {holder} is not named: {said}"


def refused_as_command(store: Path, holder: int) -> None:
    """The same with the command.

    Raises:
        AssertionError: as ``refused_by_name``.
    """
    words = [*COMMAND, "ingest", "-", "--store", str(store)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=LIMIT_S, cwd=ROOT)
    assert done.returncode == LOCKED, (
        f"a second ingest ended with {done.returncode} while the first was stopped: {done.stderr!r}"
    )
    assert f"process {holder} on ".encode() in done.stderr, f"the holder {holder} is not named: {done.stderr!r}"


def read_beside(work: Workload, store: Path, acknowledged: int) -> None:
    """Read a store whose writer is stopped: all that is acknowledged, whole, up to the durable mark, and nothing behind
    it.

    Raises:
        AssertionError, Lost: it is otherwise.
    """
    checker.check(store, work.lines, acknowledged)
    mark = highwater.read(store / "journal" / highwater.NAME, read_manifest(Layout(store)).identity).cut
    durable = len(checker.identities(checker.payloads(store / "journal")[: mark.number]))
    assert durable >= (checker.expected(work.lines)[1][acknowledged - 1] if acknowledged else 0), (
        "the mark is behind what was acknowledged"
    )
    found = verify(store, fold=False)
    assert found.ok, found.problems
    assert (found.records, found.items) == (mark.number, durable), (
        f"verify read {found.records} records, {mark.number} are durable"
    )
    replayed = replay(store)
    assert replayed.equal, replayed.first_difference


def recorded(store: Path) -> Digests:
    """Return what a store's last checkpoint recorded."""
    layout = Layout(store)
    *_, last = logs.read(layout.digests, read_manifest(layout).identity)
    row = msgspec.msgpack.decode(last.payload, type=RecordedDigest)
    return Digests(row.sequence, row.state, row.effects)


def judge(work: Workload, store: Path, end: Ended, reference: Digests) -> None:
    """Judge an ingest that was disturbed by a stop and went on: it came to its end, and to what an undisturbed one
    comes to.

    Raises:
        AssertionError, Lost: it did not.
    """
    assert end.finished and end.code == 0, f"the ingest did not go on to its end: {end}"  # noqa: PT018 (one fact)
    assert end.acknowledged == len(work.lines), f"{end.acknowledged} of {len(work.lines)} lines were acknowledged"
    got = recorded(store)
    assert got == reference, f"{got} was recorded, an undisturbed run comes to {reference}"
    settle(work, store, end, reference)


# ---- readers that are stopped
# -----------------------------------------------------------------------------------------


def verify_again_and_again(store: Path, total: int, counter: Counter) -> None:
    """Be a reader: verify and replay until everything is there.

    Raises:
        AssertionError: something is wrong, or less is there than before.
    """
    before = 0
    while before < total:
        found = verify(store, fold=False)
        assert found.ok, found.problems
        assert found.items >= before, f"{found.items} items after {before}"
        replayed = replay(store)
        assert replayed.equal, replayed.first_difference
        before = found.items
        counter.value += 1


def followed(work: Workload, rows: list[dict[str, Any]]) -> None:
    """Compare what a follower printed with what was sent.

    Raises:
        AssertionError: something is missing, doubled, or out of order.
    """
    must = checker.expected(work.lines)[0]
    positions = [row["sequence"] for row in rows]
    assert positions == list(range(1, len(must) + 1)), (
        f"{len(rows)} rows were printed, up to {positions[-1:]}; {len(must)} inputs were sent"
    )
    for row, identity in zip(rows, must, strict=True):
        if row["type"] != "refused":
            assert (row["source"], row["source_seq"]) == identity, (
                f"sequence number {row['sequence']} is {row}, {identity} was sent there"
            )


# ---- a trial
# ----------------------------------------------------------------------------------------------------------


def trial(seed: int, longest: float = LONGEST_S) -> dict[str, int]:
    """Stop somebody during an ingest, once."""
    rng = Random(f"stops {seed}")
    whom = WHOM[seed % len(WHOM)]
    duration = math.exp(rng.uniform(math.log(SHORTEST_S), math.log(longest)))
    work = workload(rng.randrange(40), STEPS)
    with tempfile.TemporaryDirectory(prefix="stops-") as name:
        stopped = run(work, Path(name), whom, rng.random(), duration)
    return {
        f"{whom} stopped" if stopped else f"{whom} had ended": 1,
        "seconds stopped": round(duration) if stopped else 0,
    }


def run(work: Workload, folder: Path, whom: str, when: float, duration: float) -> bool:
    """Ingest a day, stop somebody for a while, let it go on, and judge what came of it; return whether it was still
    there to be stopped.

    Args:
        work: the day; one that ``workload(seed, STEPS)`` makes.
        folder: for the store.
        whom: of ``WHOM``.
        when: from 0, at the begin of the ingest, to 1, at its end.
        duration: of the stop, in seconds.
    """
    store, counter = folder / "s", folder / "counter"
    reference = work.reference()
    groups = -(-len(work.lines) // work.group)
    told = Counter(counter)
    writer = start(work.seed, store, counter, Fault("none"), pause_s=INGEST_S / groups)
    others: list[subprocess.Popen[bytes]] = []
    try:
        lock = Layout(store).lock
        until("the writer has the lock", lambda: lock.exists() and f"process {writer.pid} on" in lock.read_text())
        if whom == "writer":
            target = when * len(work.lines)
            until("so much is acknowledged", lambda: told.value >= target or writer.poll() is not None)
            # Anywhere in a group: in its admission, its writing, its wait.
            time.sleep(when * 7919 % 1 * INGEST_S / groups)
            stopped = stop(writer)
            if stopped:
                _beside(work, store, writer, told, duration)
        else:
            until("something is acknowledged", lambda: told.value > 0)
            stopped = _reader(work, folder, whom, when, duration, others)
        judge(work, store, ended(writer, counter), reference)
        return stopped
    finally:
        for process in (writer, *others):
            process.kill()
            process.wait()


def _beside(work: Workload, store: Path, writer: subprocess.Popen[bytes], told: Counter, duration: float) -> None:
    deadline = time.monotonic() + duration
    acknowledged = told.value
    before = stamps(store)
    if (store / "manifest.json").exists():
        refused_by_name(work, store, writer.pid)
        read_beside(work, store, acknowledged)
    if duration > 2:
        refused_as_command(store, writer.pid)
    time.sleep(max(0.0, deadline - time.monotonic()))
    refused_by_name(work, store, writer.pid)
    assert stamps(store) == before, "somebody changed the store while its writer was stopped"
    assert told.value == acknowledged, "the writer went on while it was stopped"
    writer.send_signal(signal.SIGCONT)


def _reader(
    work: Workload, folder: Path, whom: str, when: float, duration: float, others: list[subprocess.Popen[bytes]]
) -> bool:
    total = len(checker.expected(work.lines)[0])
    rounds, printed = folder / "rounds", folder / "printed"
    store = str(folder / "s")
    if whom == "verify":
        words = [sys.executable, "-m", "tests.simulation.stops", json.dumps([store, total, str(rounds)])]
    else:
        words = [*COMMAND, "events", "--follow", "--json", "--store", store]
    told = Counter(rounds)
    with printed.open("wb") as out, (folder / "said").open("wb") as said:
        reader = subprocess.Popen(words, stdout=out, stderr=said, cwd=ROOT, preexec_fn=die_with_parent)
    others.append(reader)
    until("the reader reads", lambda: told.value > 0 or printed.stat().st_size > 0 or reader.poll() is not None)
    time.sleep(when * 0.8)
    stopped = stop(reader)
    if stopped:
        time.sleep(duration)
        reader.send_signal(signal.SIGCONT)
    if whom == "follow":
        until("all is printed", lambda: printed.read_bytes().count(b"\n") >= total or reader.poll() is not None)
        # What came twice would follow.
        time.sleep(0.3)
        reader.send_signal(signal.SIGINT)
    code = reader.wait(LIMIT_S)
    text = (folder / "said").read_text()[-600:]
    assert code == (INTERRUPTED if whom == "follow" else 0), f"the reader ended with {code}: {text}"
    if whom == "follow":
        followed(work, [json.loads(line) for line in printed.read_bytes().splitlines()])
    return stopped


def main() -> None:
    """Be the reader that verifies."""
    store, total, rounds = json.loads(sys.argv[1])
    verify_again_and_again(Path(store), total, Counter(Path(rounds)))


if __name__ == "__main__":
    main()
