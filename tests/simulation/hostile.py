"""Several hostile things at once: kills, torn tails, noise among the inputs, damaged tables, foreign files, a removed lock
with a second writer, readers and backups beside the writer; on Kafka's shards kills, wiped disks, zombies, doubled
records, strays and forgeries in derived topics.

``python -m tests.simulation.hostile --trials 1000 --seed 1``. A trial has two to five of them. Its journal is judged by
``tests/simulation/checker.py`` or ``tests/kafka/checker.py``, which know the formats from the pages alone; the digests by
a fold of the same lines that nothing happened to. Every failure prints the command that repeats it; the last line is a
JSON object: a histogram of what happened, and what was lost, doubled, silent or hung.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec

from margin_stream.host.backup import back_up
from margin_stream.host.embedded import Host
from margin_stream.journal.layout import ForeignFile, Layout, StoreLocked
from margin_stream.kafka import messages
from margin_stream.kafka.address import Topics
from margin_stream.kafka.shard import Send
from margin_stream.replay.verification import verify
from tests.days import random_day
from tests.folding import fold
from tests.kafka import checker as kafka_checker
from tests.kafka.simulated import GENERATION, Log, run
from tests.simulation import checker, guarding
from tests.simulation.kills import acknowledged_in, forked, read_along

LIMIT_S = 120.0
OVERLONG = (1 << 20) + 7


# ---- noise among the inputs -----------------------------------------------------------------------------------------


def noise(rng: Random) -> bytes:
    """Return a line that is no event, of one kind of many."""
    return rng.choice(
        [
            # A record of a topic that begins with a byte above 0x7F is msgpack.
            lambda: b"~" + rng.randbytes(rng.randrange(1, 300)).translate(None, b"\r\n"),
            lambda: b'{"type":"price_ticked","source":' + rng.randbytes(9).hex().encode(),
            lambda: b"{" + b",".join(b'"k%d":%d' % (n % 50, n) for n in range(2000)) + b"}",
            lambda: b"%d" % rng.randrange(10**9) + b"[" * rng.randrange(30, 400),
            lambda: b"x" * OVERLONG + b"%d" % rng.randrange(10**9),
            lambda: b'{"a":1e999999999,"n":%d' % rng.randrange(10**9),
        ]
    )()


def beset(lines: list[bytes], rng: Random) -> list[bytes]:
    """Return lines with noise among them, and some of them again."""
    lines = list(lines)
    for _ in range(rng.randrange(1, 8)):
        lines.insert(rng.randrange(len(lines)), noise(rng))
    for _ in range(rng.randrange(6)):
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return lines


# ---- a store in a folder --------------------------------------------------------------------------------------------

Between = Callable[[Path, Random], None]
"""Does something to a store that nobody writes to; what a writer must refuse is undone again."""


def torn(path: Path, rng: Random) -> None:
    """Leave a record half written behind the journal's end."""
    segment = max(Layout(path).journal.glob("*.seg"), default=None)
    if segment is not None:
        with segment.open("ab") as file:
            file.write(rng.choice([(50).to_bytes(4, "little") + rng.randbytes(rng.randrange(1, 40)), rng.randbytes(3)]))


def tables(path: Path, rng: Random) -> None:
    """Damage or remove a file of a table."""
    files = [file for file in Layout(path).tables.rglob("*") if file.is_file() and file.stat().st_size]
    if files:
        file = rng.choice(files)
        if rng.random() < 0.3:
            file.unlink()
        else:
            data = bytearray(file.read_bytes())
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            file.write_bytes(bytes(data))


def foreign(path: Path, rng: Random) -> None:
    """Put a link or a pipe where a file should be: it must be named and not opened."""
    layout = Layout(path)
    if not layout.manifest.exists():
        return
    place = rng.choice([layout.journal, layout.digests, layout.effects, layout.root]) / f"{rng.randrange(9):020d}.seg"
    if os.path.lexists(place):
        return
    if rng.random() < 0.5:
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    for command in (lambda: Host(path), lambda: verify(path)):
        try:
            command()
        except ForeignFile:
            continue
        raise AssertionError("silent: a foreign file was not named")
    place.unlink()


BETWEEN: dict[str, Between] = {"torn tail": torn, "damaged table": tables, "foreign file": foreign}
BESIDE = ("kill", "noise", "reader", "lock removed", "backup", "paused")


def folder_trial(rng: Random, counts: Counter[str]) -> None:
    """One day into a store, in three to five runs, with hostile things between and beside them."""
    kinds = rng.sample([*BETWEEN, *BESIDE], rng.randint(2, 5))
    counts.update(f"folder: {kind}" for kind in kinds)
    lines = random_day(rng.randrange(10**6), accounts=7, steps=rng.choice((80, 200)), noisy=True)
    if "noise" in kinds:
        lines = beset(lines, rng)
    reference = fold(lines)[0]
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    path, copy = folder / "s", folder / "copy"
    try:
        acknowledged = 0
        for _ in range(rng.randint(3, 5)):
            done_reading = (
                read_along(path, tables="damaged table" not in kinds)
                if "reader" in kinds and rng.random() < 0.5
                else None
            )
            acknowledged = max(acknowledged, _write(path, lines, kinds, copy, rng))
            if done_reading is not None:
                done_reading()
            if Layout(path).manifest.exists():
                checker.check(path, lines, acknowledged)
            for kind in kinds:
                if kind in BETWEEN and path.exists():
                    BETWEEN[kind](path, rng)
        _finish(path, lines, acknowledged, reference)
        if copy.exists():
            found = verify(copy, tables=False)
            assert found.ok, f"silent: a backup is damaged: {found.problems}"
            _finish(copy, lines, 0, reference)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _finish(path: Path, lines: list[bytes], acknowledged: int, reference: object) -> None:
    """Send everything once more, and compare with the fold that nothing happened to."""
    with Host(path, partitions=2) as host:
        checker.check(path, lines, acknowledged)
        host.ingest(lines)
        digests = host.checkpoint()
    assert digests == reference, f"silent: {digests} is not {reference}"
    checker.check(path, lines, len(lines))
    found = verify(path)
    assert found.ok, f"silent: {found.problems}"


def _write(path: Path, lines: list[bytes], kinds: list[str], copy: Path, rng: Random) -> int:
    """Write in a child, with hostile things beside it; return how many lines it acknowledged."""
    child, reading = forked(path, lines, rng.choice((3, 17, 60)), rng.choice((20, 100, 10_000)))
    deadline = time.monotonic() + rng.uniform(0.0, 0.15)
    status = None
    while status is None and time.monotonic() < deadline:
        status = _ended(child)
        time.sleep(0.002)
    reported = b""
    # The writer has the store open from its first acknowledgement to its last.
    if status is None and select.select([reading], [], [], 0)[0]:
        if "paused" in kinds:
            os.kill(child, signal.SIGSTOP)
        if "lock removed" in kinds:
            (path / "lock").unlink(missing_ok=True)
        reported = os.read(reading, 1 << 20)
        try:
            if {"paused", "lock removed"} & set(kinds) and int.from_bytes(reported[-8:], "big") < len(lines):
                _turned_away(path, lambda: _ended(child) is not None)
        finally:
            os.kill(child, signal.SIGCONT)
    if status is None and "backup" in kinds and Layout(path).manifest.exists():
        back_up(path, copy)
    if "kill" in kinds:
        os.kill(child, signal.SIGKILL)
    _, left = os.waitpid(child, 0)
    if "kill" not in kinds and left:
        raise AssertionError(f"hung or fell: the writer ended with status {left}")
    with os.fdopen(reading, "rb") as pipe:
        return acknowledged_in(reported + pipe.read())


def _ended(child: int) -> int | None:
    """Return the status of a child that has ended, without taking it."""
    found = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if found is None else found.si_status


def _turned_away(path: Path, over: Callable[[], bool]) -> None:
    """A second writer must be turned away while the first has the store open."""
    try:
        Host(path).abandon()
    except StoreLocked:
        return
    # The first may have ended meanwhile, or is about to.
    time.sleep(0.5)
    if not over():
        raise AssertionError("silent: a second writer was let in")


# ---- the shards of a store on Kafka ---------------------------------------------------------------------------------


class Beset(Log):
    """Topics in which strays appear before what is sent."""

    def __init__(self, rng: Random, chance: float) -> None:
        super().__init__()
        self.rng, self.chance = rng, chance
        self.strays = 0

    def send(self, send: Send) -> None:
        topics = Topics("s")
        if send.topic in (topics.accounts, topics.effects, topics.digests) and self.rng.random() < self.chance:
            stray = self._stray(send)
            if stray is not None:
                self.values[send.topic, send.partition].append(stray)
                self.strays += 1
        super().send(send)

    def _stray(self, send: Send) -> bytes | None:
        rng, topics = self.rng, Topics("s")
        if send.topic == topics.digests or rng.random() < 0.3:
            return rng.randbytes(rng.randrange(120))
        if send.topic == topics.accounts:
            record = messages.decode_sequenced(send.value)
            last = record.last + rng.randrange(1, 500)
            return messages.encode(
                rng.choice(
                    [
                        msgspec.structs.replace(record, items=record.items[1:], last=last),
                        msgspec.structs.replace(record, items=[], last=last),
                        msgspec.structs.replace(record, items=[], chain=bytes(32), last=last),
                    ]
                )
            )
        effects = messages.decode_effects(send.value)
        return messages.encode(
            rng.choice(
                [
                    msgspec.structs.replace(effects, effects=[], last=effects.last + 9),
                    msgspec.structs.replace(effects, last=effects.last + 9),
                    msgspec.structs.replace(effects, shard=effects.shard + 1),
                ]
            )
        )


def kafka_trial(rng: Random, counts: Counter[str]) -> None:
    """One day through the shards of a store on Kafka, with strays in the derived topics, over what ``simulated.run`` does
    to them in any case: kills, wiped disks, zombies, records that come twice."""
    from tests.kafka.test_shards import recorded

    kinds = rng.sample(["strays", "noise", "torn sends", "small messages"], rng.randint(2, 4))
    counts.update(f"kafka: {kind}" for kind in kinds)
    lines = random_day(rng.randrange(10**6), accounts=7, steps=120, noisy=True)
    if "noise" in kinds:
        lines = beset(lines, rng)
    log = Beset(rng, 0.2 if "strays" in kinds else 0.0)
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        _, partitions, happened = run(
            rng.randrange(10**9),
            recorded(lines, rng),
            folder,
            limits=(300, 5000) if "small messages" in kinds else (),
            torn=0.05 if "torn sends" in kinds else 0.0,
            log=log,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    counts.update({f"kafka: {what}": happened[what] for what in ("kills", "zombies", "foreign")})
    reference, effects = fold(lines)
    values = {shard: [v or b"" for v in log.values[Topics("s").effects, shard]] for shard in range(partitions + 1)}
    groups, _ = kafka_checker.effects_of(values, GENERATION)
    found = sum(map(len, groups.values()))
    assert found == len(effects), f"lost or doubled: {found} effects, not {len(effects)}"
    digests = kafka_checker.digests_of([v or b"" for v in log.values[Topics("s").digests, 0]], GENERATION, partitions)
    kafka_checker.check_digest(digests, reference.sequence, reference.state, reference.effects)
    # A stray may begin ahead of its reader, and be passed over as any message behind a hole.
    if log.strays >= 20 and not happened["foreign"]:
        raise AssertionError("silent: no stray was refused")


def trial(seed: int) -> dict[str, int]:
    """Every third trial is on Kafka's shards."""
    rng = Random(f"hostile {seed}")
    counts: Counter[str] = Counter()
    (kafka_trial if seed % 3 == 0 else folder_trial)(rng, counts)
    return counts


def campaign(trials: int, seed: int, workers: int) -> dict[str, object]:
    """Run trials and return the histogram, and what went wrong."""
    started = time.monotonic()
    outcome = guarding.run(
        trial,
        range(seed, seed + trials),
        command="python -m tests.simulation.hostile --trials 1 --seed ",
        workers=workers,
        limit_s=LIMIT_S,
    )
    failed = outcome.failures
    kinds = {
        "lost": ("were acknowledged", "lost"),
        "double": ("doubled", "were sent", "place "),
        "hung": ("nothing came of it", "does not come to an end", "hung"),
    }
    sorted_out = {kind: sum(any(word in text for word in words) for text in failed) for kind, words in kinds.items()}
    return {
        **dict(sorted(outcome.counts.items())),
        **sorted_out,
        "silent": len(failed) - sum(sorted_out.values()),
        "failures": len(failed),
        "first_seed": seed,
        "failed": failed[:5],
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    words = parser.parse_args()
    row = campaign(words.trials, words.seed, words.workers or 1)
    print(json.dumps(row))
    sys.exit(1 if row["failures"] else 0)


if __name__ == "__main__":
    main()
