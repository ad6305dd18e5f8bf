"""Real file systems that are full, read-only, or break under a running writer: it stops with a reason, loses nothing,
and goes on when they are well again."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from margin_stream.cli.main import run
from margin_stream.host.embedded import Host
from margin_stream.journal import log as logs
from margin_stream.journal.layout import Layout, StoreLocked, read_manifest
from margin_stream.journal.records import CorruptLog
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import verify
from tests.simulation import checker
from tests.simulation.children import STEPS, Counter, Ended, Fault, ended, settle, start
from tests.simulation.mounts import breakable, read_only, small_disk
from tests.simulation.workloads import workload

pytestmark = pytest.mark.slow
NONE = Fault("none")
SEED = 18
"""Of a workload of many small groups, so that a writer is in the middle of it for seconds."""
WORK = workload(SEED, STEPS)
REFERENCE = WORK.reference()


def settled(path: Path, end: Ended) -> None:
    settle(WORK, path, end, REFERENCE)
    shutil.rmtree(path)


def started(path: Path, folder: Path, after_lines: int, pause_s: float = 0.15) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a slow writer, and return once it has acknowledged some lines."""
    counter = folder / f"counter-{time.monotonic_ns()}"
    Counter(counter)
    process = start(SEED, path, counter, NONE, pause_s=pause_s)
    value = Counter(counter)
    for _ in range(3000):
        if value.value >= after_lines or process.poll() is not None:
            break
        time.sleep(0.01)
    assert value.value >= after_lines, process.communicate()
    return process, counter


def test_a_full_disk_of_8_mb_stops_the_writer_at_every_stage_and_loses_nothing(tmp_path: Path) -> None:
    """With room for nothing, for the manifest, for the logs, the tables, some groups, all of it."""
    with small_disk(tmp_path / "disk") as disk:
        sizes = (0, 8, 12, 20, 28, 36, 48, 64, 96, 128, 160, 176, 192, 208, 512)
        stopped, stages = 0, set()
        for free_kb in sizes:
            (disk / "ballast").write_bytes(bytes((8192 - free_kb) * 1024))
            counter = tmp_path / f"counter-{free_kb}"
            Counter(counter)
            end = ended(start(SEED, disk / "s", counter, NONE), counter)
            stopped += not end.finished
            stages |= {
                stage
                for stage in ("/journal/", "/digests/", "/effects/", "/manifest", "/tables/")
                if f"disk/s{stage}" in end.said
            }
            assert end.finished or "No space left" in end.said, end.said
            if (disk / "s" / "manifest.json").exists():
                # A reader on the full disk: at most tables, which are a cache, are half made.
                assert all("/tables" in problem.file for problem in verify(disk / "s", fold=False).problems)
            (disk / "ballast").unlink()
            settled(disk / "s", end)
        assert len(sizes) // 2 < stopped < len(sizes)
        assert len(stages) >= 4, stages


def test_a_disk_that_fills_up_under_a_running_writer_stops_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        process, counter = started(disk / "s", tmp_path, 20)
        with (disk / "ballast").open("wb", buffering=0) as ballast:
            while os.statvfs(disk).f_bavail:
                ballast.write(bytes(4096))
        end = ended(process, counter)
        assert not end.finished
        assert "No space left" in end.said, end.said
        before = verify(disk / "s", fold=False)
        assert all("tables" in problem.file for problem in before.problems), before.problems
        (disk / "ballast").unlink()
        settled(disk / "s", end)


def test_a_read_only_file_system_can_be_read_by_every_reader_and_refuses_writers_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with WORK.open(tmp_path / "s") as host:
        host.ingest(WORK.lines)
    with read_only(tmp_path / "s", tmp_path / "ro") as path:
        assert verify(path).ok
        assert replay(path, from_checkpoint=True).equal
        for words in (["verify"], ["digest"], ["calls"], ["replay"]):
            assert run([*words, "--store", str(path), "--quiet"]) == 0
        capsys.readouterr()
        day = tmp_path / "day"
        day.write_bytes(b"\n".join(WORK.lines))
        for words in (["ingest", str(day)], ["repair", "--yes"]):
            assert run([*words, "--store", str(path), "--quiet"]) == 1
            assert "Read-only file system" in capsys.readouterr().err
    assert verify(tmp_path / "s").ok


BREAKS: list[tuple[str, dict[str, int]]] = [
    ("writes fail", {"write": errno.EIO}),
    ("syncs fail", {"fsync": errno.EIO}),
    ("it turns read-only", {"write": errno.EROFS, "change": errno.EROFS}),
    ("all of it fails", {"write": errno.EIO, "fsync": errno.EIO, "change": errno.EIO, "read": errno.EIO}),
]


@pytest.mark.parametrize(("name", "what"), BREAKS)
def test_a_disk_that_breaks_under_a_running_writer_stops_it(tmp_path: Path, name: str, what: dict[str, int]) -> None:
    with breakable(tmp_path) as disk:
        process, counter = started(disk.path / "s", tmp_path, 20)
        disk.fail(**what)
        time.sleep(0.05)
        at_most = Counter(counter).value + WORK.group
        end = ended(process, counter)
        assert not end.finished
        assert end.code == 1, end
        assert os.strerror(next(iter(what.values()))) in end.said, end.said
        assert end.acknowledged <= at_most
        disk.heal()
        settled(disk.path / "s", end)


def test_a_bad_sector_is_named_by_verify_with_file_and_offset_and_nothing_is_cut(tmp_path: Path) -> None:
    with breakable(tmp_path) as disk:
        path = disk.path / "s"
        with WORK.open(path) as host:
            host.ingest(WORK.lines)
        segment = sorted((path / "journal").glob("*.seg"))[-1]
        size = segment.stat().st_size
        *_, last = logs.read(path / "journal", read_manifest(Layout(path)).identity)
        disk.fail(bad=(f"journal/{segment.name}", size - 10, size))
        found = verify(path)
        assert [problem.file for problem in found.problems if "cannot be read" in problem.what] == [str(segment)], (
            found.problems
        )
        places = [problem.offset for problem in found.problems if problem.file == str(segment)]
        assert places == [last.offset]
        with pytest.raises(CorruptLog, match="cannot be read"):
            WORK.open(path)
        assert run(["repair", "--yes", "--quiet", "--store", str(path)]) == 4
        disk.heal()
        assert segment.stat().st_size == size
        with WORK.open(path) as host:
            assert host.system.digests() == REFERENCE


def test_a_table_that_cannot_be_read_is_rebuilt(tmp_path: Path) -> None:
    with breakable(tmp_path) as disk:
        path = disk.path / "s"
        with WORK.open(path) as host:
            host.ingest(WORK.lines)
        disk.fail(bad=(".sst", 0, 1 << 40))
        found = verify(path)
        assert found.problems
        assert all("/tables/" in problem.file for problem in found.problems), found.problems
        disk.heal()
        assert verify(path).ok


def test_a_stopped_writer_keeps_its_lock_and_goes_on_when_it_wakes(tmp_path: Path) -> None:
    """SIGSTOP is no death: a second writer is refused, readers read on, and nothing is written twice."""
    path = tmp_path / "s"
    process, counter = started(path, tmp_path, 20)
    for _ in range(3):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        acknowledged = Counter(counter).value
        with pytest.raises(StoreLocked, match=f"process {process.pid}"):
            Host(path)
        found = verify(path)
        assert found.ok, found.problems
        checker.check(path, WORK.lines, acknowledged)
        assert run(["repair", "--store", str(path), "--quiet"]) == 6
        process.send_signal(signal.SIGCONT)
        time.sleep(0.2)
    end = ended(process, counter)
    assert end.finished, end
    settled(path, end)


def test_a_writer_that_was_stopped_and_killed_gives_way_to_the_next(tmp_path: Path) -> None:
    process, counter = started(tmp_path / "s", tmp_path, 20)
    process.send_signal(signal.SIGSTOP)
    process.kill()
    end = ended(process, counter)
    assert not end.finished
    settled(tmp_path / "s", end)
