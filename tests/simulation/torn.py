"""Torn records, at every byte: what was not acknowledged is cut and reported, what was is refused."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from margin_stream.journal import highwater
from margin_stream.journal import log as logs
from margin_stream.journal.layout import Layout, read_manifest
from margin_stream.journal.records import HEADER, CorruptLog, record_bytes
from margin_stream.replay.verification import verify
from tests.simulation import checker
from tests.simulation.stores import Made, made


def trial(seed: int, stride: int = 1) -> dict[str, int]:
    """Tear the record behind the mark, and the last one before it, at every byte (or every so many), in every log of a
    store."""
    store = made(seed, "closed" if seed % 2 else "killed")
    folder = Path(tempfile.mkdtemp(prefix="torn-"))
    counts = {"unacknowledged": 0, "acknowledged": 0}
    try:
        layout = Layout(store.path)
        identity = read_manifest(layout).identity
        for log in (layout.journal, layout.digests, *layout.effects_logs(store.work.partitions)):
            mark = highwater.read(log / highwater.NAME, identity).cut
            last = HEADER.size
            for record in logs.read(log, identity):
                last = record.offset
            root = folder / log.name
            shutil.copytree(store.path, root)
            segment = root / log.relative_to(store.path) / sorted(path.name for path in log.glob("*.seg"))[-1]
            # The header is durable before a record follows it.
            end = max(store.durable[segment.relative_to(root)], HEADER.size)
            whole = segment.read_bytes()
            for length in range(last if mark.number else 0, end, stride):
                segment.write_bytes(whole[:length])
                _acknowledged(store, root, segment, look=length % 8 == 0 or length == end - 1)
                counts["acknowledged"] += 1
            # Behind the mark a killed writer may have left whole records of effects: these are torn instead of one of
            # ours.
            behind = whole[end:] or record_bytes(
                mark.number + 1, bytes((seed + n) % 251 for n in range(40 + seed % 60))
            )
            # A killed store is laid down anew each time, and its tables are examined by other processes: fewer bytes of
            # it.
            for length in range(1, len(behind), stride if store.state == "closed" else 40 * stride):
                for filling in (b"", bytes(len(behind) - length)):
                    if store.state != "closed":
                        shutil.rmtree(root)
                        shutil.copytree(store.path, root)
                    segment.write_bytes(whole[:end] + behind[:length] + filling)
                    _unacknowledged(store, root, segment)
                    counts["unacknowledged"] += 1
        return counts
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unacknowledged(store: Made, root: Path, segment: Path) -> None:
    length = segment.stat().st_size
    place = f"{segment.parent.name} torn at {length}"
    found = verify(root, fold=False)
    wrong = [problem for problem in found.problems if not problem.file.startswith(str(root / "tables"))]
    assert not wrong, f"{place}: {wrong}"
    with store.work.open(root) as host:
        # Torn between two records nothing is cut, and effects that are missing are recorded again.
        assert host.recovery.cut_bytes > 0 or segment.stat().st_size >= length, f"{place}: cut, and not reported"
        assert host.system.digests() == store.reference, f"{place}: the state is not that of an uninterrupted run"
    checker.check(root, store.work.lines, store.acknowledged)


def _acknowledged(store: Made, root: Path, segment: Path, *, look: bool) -> None:
    length = segment.stat().st_size
    place = f"{segment.parent.name}, acknowledged, cut to {length}"
    if look:
        found = verify(root, fold=False)
        assert str(segment) in {problem.file for problem in found.problems}, f"{place}: {found.problems}"
    try:
        store.work.open(root).abandon()
    except CorruptLog as damage:
        if damage.path != segment:
            raise AssertionError(f"{place}: {damage}") from damage
    else:
        raise AssertionError(f"{place}: acknowledged records are missing, and the store opened")
    assert segment.stat().st_size == length, f"{place}: it was changed"
