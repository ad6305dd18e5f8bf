"""Trials on a real Kafka: workers and broker are killed, paused, wiped and joined while inputs come; then everything
must be exact.

``python -m tests.kafka.trials --trials 100 --seed 1``. A failure prints the trial's own command line and keeps its
folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from margin_stream.core.store_fold import StoreFold
from margin_stream.kafka import topics_admin
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.client import Client, Unreachable
from margin_stream.schemas.binary import encode, encode_payload
from margin_stream.schemas.ndjson import decode_line
from margin_stream.schemas.records import raw_items
from margin_stream.schemas.refusals import RefusedInput
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.simulation.broker import Broker
from tests.days import random_day
from tests.kafka import checker
from tests.usdm_days import random_usdm_day

FAULTS = (
    "kill",
    "kill",
    "kill all",
    "stop",
    "pause",
    "pause",
    "wipe",
    "join",
    "crash points",
    "crash points",
    "broker",
)
END_S = 120
POISON: tuple[bytes | None, ...] = (
    None,
    b"",
    b"\xff\xfe\x00broken",
    b"{not json",
    b'{"type":"no_such_type","source":"x","source_seq":1,"event_time":"2021-05-19T00:00:00Z"}',
    b"\x93\x01\x02\x03",
    b"\x81\xa4type\xa9ticks.v1\xc1",
    b"\xde\xff\xff",
    b"[" * 3000,
    b'{"type":"price_ticked","source":"feed","source_seq":1e400}',
    b"\x00" * 300,
)


class Worker:
    """A worker under its supervisor."""

    def __init__(self, store: str, folder: Path, name: str) -> None:
        self.store, self.folder, self.name = store, folder, name
        self.data = folder / name
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, crash: str = "") -> None:
        command = [sys.executable, "-m", "margin_stream.cli", "worker", "--store", self.store, "--data", str(self.data)]
        command += ["--name", self.name, "--checkpoint-s", "0.3", "--session-s", "3", "--verbose"]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MARGIN_STREAM_CRASH": crash},
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def child(self) -> int | None:
        """Return the process of the worker itself, under its supervisor."""
        assert self.process is not None
        with contextlib.suppress(OSError):
            found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if found:
                return int(found[0])
        return None

    def signal(self, number: int) -> bool:
        child = self.child() if self.running else None
        if child is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)
            return True
        return False

    def kill(self) -> None:
        """Kill worker and supervisor."""
        if self.process is not None and self.running:
            child = self.child()
            self.process.kill()
            self.process.wait()
            if child is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                    time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process is not None and self.running:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


def journal_of(seed: int, rng: Random) -> tuple[list[bytes | None], list[bytes]]:
    """Return records (poison among them, some of them twice) and the lines that they hold."""
    lines = (
        random_usdm_day(seed % 50, accounts=24, steps=900)
        if seed % 3 == 2
        else random_day(seed % 50, accounts=24, steps=900, noisy=True)
    )
    records: list[bytes | None] = []
    rest = list(lines)
    while rest:
        count = rng.randrange(1, 14)
        group, rest = rest[:count], rest[count:]
        records.append(b"\n".join(group) if rng.random() < 0.4 else encode_payload([_packed(line) for line in group]))
        if rng.random() < 0.05:
            records.append(records[-1])
        if rng.random() < 0.06:
            records.append(rng.choice(POISON))
    records.insert(rng.randrange(len(records)), b'{"type":"account_opened","desk":"' + b"x" * ((1 << 20) - 40) + b'"}')
    records.insert(rng.randrange(len(records)), b"z" * (1 << 20))
    return records, lines


def _packed(line: bytes) -> bytes:
    try:
        return encode(decode_line(line, LATEST))
    except RefusedInput:
        return encode(b"L" + line)


def reference(journal: list[bytes | None]) -> tuple[int, str, str, dict[str, list[bytes]]]:
    """Fold the journal uninterrupted, in one partition: position, digests, effects by group."""
    system = StoreFold(1, rules_version=LATEST)
    groups: dict[str, list[bytes]] = {}
    for value in journal:
        for raw in raw_items(value):
            system.admission.item(raw)
        for part in system.fold():
            for emitted in part:
                groups.setdefault(emitted.group, []).append(emitted.data)
    digests = system.digests()
    return digests.sequence, digests.state, digests.effects, groups


class Trial:
    """One store, two workers, four partitions, faults."""

    def __init__(self, seed: int, broker: Broker, folder: Path, faults: tuple[str, ...] = FAULTS) -> None:
        self.rng = Random(seed)
        self.seed, self.broker, self.folder, self.faults = seed, broker, folder, faults
        self.address = parse_address(f"kafka://{broker.server}/trial-{seed}-{os.getpid()}")
        self.happened: Counter[str] = Counter()
        self.workers = [Worker(self.address.url, folder, f"w{n}") for n in range(2)]
        self.paused: list[tuple[float, Worker]] = []

    def run(self) -> Counter[str]:
        client = Client(self.address.servers)
        try:
            manifest = topics_admin.init(client, self.address, 4)
            for worker in self.workers:
                worker.start()
            records, _ = journal_of(self.seed, self.rng)
            self._produce(client, records)
            self._quiet()
            client.close()
            client = Client(self.address.servers)
            self._check(client, manifest.generation)
        finally:
            for _, worker in self.paused:
                worker.signal(signal.SIGCONT)
            for worker in self.workers:
                worker.kill()
            client.close()
        return self.happened

    def _produce(self, client: Client, records: list[bytes | None]) -> None:
        """Send the records over some seconds, with faults between them. An unacknowledged send is sent again, as a
        producer would."""
        self.acknowledged: dict[int, bytes | None] = {}
        topic = self.address.topics.inputs
        time.sleep(self.rng.uniform(0, 3))
        due = sorted(self.rng.randrange(len(records)) for _ in range(self.rng.randrange(3, 7)))
        for n, record in enumerate(records):
            while due and due[0] <= n:
                due.pop(0)
                self._fault()
            for _ in range(20):
                try:
                    self.acknowledged[client.send(topic, [record])] = record
                    break
                except Unreachable:
                    self.happened["sends repeated"] += 1
                    time.sleep(0.5)
            time.sleep(self.rng.uniform(0, 0.04))
            self._wake()

    def _fault(self) -> None:
        fault = self.rng.choice(self.faults)
        worker = self.rng.choice(self.workers)
        self.happened[fault] += 1
        if fault == "kill":
            worker.signal(signal.SIGKILL)
        elif fault == "kill all":
            for each in self.workers:
                each.signal(signal.SIGKILL)
        elif fault == "stop":
            worker.stop()
            worker.start()
        elif fault == "pause":
            if worker.signal(signal.SIGSTOP):
                self.paused.append((time.monotonic() + self.rng.uniform(1, 8), worker))
        elif fault == "wipe":
            worker.kill()
            shutil.rmtree(worker.data, ignore_errors=True)
            worker.start()
        elif fault == "join":
            if len(self.workers) < 3:
                self.workers.append(Worker(self.address.url, self.folder, f"w{len(self.workers)}"))
                self.workers[-1].start()
            else:
                self.workers.pop().stop()
        elif fault == "crash points":
            worker.stop()
            point = self.rng.choice(("sent:0.03", "snapshot:0.1", "drained:0.1", "written:0.1", "delta:0.1"))
            self.happened[f"crash at {point.partition(':')[0]}"] += 1
            worker.start(point)
        elif fault == "broker":
            self.broker.kill()
            time.sleep(self.rng.uniform(0, 2))
            self.broker.start()

    def _wake(self, *, all_of_them: bool = False) -> None:
        for until, worker in list(self.paused):
            if all_of_them or time.monotonic() >= until:
                worker.signal(signal.SIGCONT)
                self.paused.remove((until, worker))

    def _quiet(self) -> None:
        """No more faults: everything runs on, without crash points."""
        self._wake(all_of_them=True)
        if not self.broker.alive:
            self.broker.start()
        for worker in self.workers:
            if self.happened["crash points"]:
                worker.stop()
            if not worker.running:
                worker.start()

    def _check(self, client: Client, generation: str) -> None:
        topics = self.address.topics
        journal = [record.value for record in client.read(topics.inputs)]
        checker.check_journal(self.acknowledged, journal)
        position, state, effects, groups = reference(journal)
        deadline = time.monotonic() + END_S
        while True:
            said = checker.digests_of((r.value for r in client.read(topics.digests)), generation, 4)
            if position in said:
                break
            if time.monotonic() > deadline:
                raise checker.Broken(
                    f"after {END_S} s the workers have not come to position {position}, only to {max(said, default=0)}"
                )
            time.sleep(0.3)
        checker.check_digest(said, position, state, effects)
        messages = {shard: [r.value for r in client.read(topics.effects, shard)] for shard in range(5)}
        found, repeated = checker.effects_of(messages, generation)
        checker.check_effects(found, groups)
        self.happened["effects"] += sum(map(len, found.values()))
        self.happened["effects repeated"] += repeated
        self.happened["records"] += len(journal)
        for worker in self.workers:
            log = (self.folder / f"{worker.name}.log").read_text(errors="replace")
            self.happened["restores"] += log.count(": restored to sequence number")
            if "do not have the digest" in log:
                raise checker.Broken(f"{worker.name} found a table that was not consistent")
            if "stopped by a fault" in log:
                raise checker.Broken(
                    f"{worker.name} was stopped by a fault: {log[log.index('stopped by a fault') :][:300]}"
                )


def run_trials(
    seeds: list[int], faults: tuple[str, ...] = FAULTS, *, keep: bool = True
) -> tuple[Counter[str], list[str]]:
    """Run trials one after the other on a broker of their own; return what happened and the failures."""
    folder = Path(tempfile.mkdtemp(prefix="margin-stream-trials-"))
    happened: Counter[str] = Counter()
    failures = []
    broker = Broker(folder / "broker")
    try:
        broker.start()
        for seed in seeds:
            place = folder / str(seed)
            place.mkdir()
            try:
                happened.update(Trial(seed, broker, place, faults).run())
                shutil.rmtree(place)
            except (AssertionError, Unreachable) as error:
                failures.append(f"python -m tests.kafka.trials --trials 1 --seed {seed}: {error} (in {place})")
                if not broker.alive:
                    broker.start()
    finally:
        broker.stop()
        if not failures or not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return happened, failures


def main() -> None:
    """Run trials; a JSON line says what happened."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    started = time.monotonic()
    happened, failures = run_trials(list(range(given.seed, given.seed + given.trials)))
    print(
        json.dumps(
            {"trials": given.trials, "failures": failures, "seconds": round(time.monotonic() - started), **happened}
        )
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
