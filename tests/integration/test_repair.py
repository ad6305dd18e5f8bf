"""``repair``: offers only what loses nothing acknowledged, shows it first, keeps a copy, and can be stopped
anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from margin_stream.cli.main import run
from margin_stream.host.embedded import Host
from margin_stream.journal import highwater
from margin_stream.journal.disk import Disk
from margin_stream.journal.layout import Layout, read_manifest
from margin_stream.journal.records import record_bytes, segment_name
from margin_stream.replay.repair import Plan, Repair
from margin_stream.replay.verification import Verified, verify
from tests.days import random_day
from tests.faults import FaultyDisk, Stopped
from tests.folding import fold
from tests.simulation import checker

LINES = random_day(5, accounts=10, steps=300, noisy=True)
REFERENCE = fold(LINES)[0]
TORN = record_bytes(9999, b"\x90" * 90)[:70]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Host(tmp_path / "s", partitions=2, group_items=20, checkpoint_items=120) as host:
        host.ingest(LINES)
    return tmp_path / "s"


def last_segment(store: Path, log: str = "journal") -> Path:
    return sorted((store / log).glob("*.seg"))[-1]


def plan(store: Path) -> Plan:
    with Repair(store) as work:
        return work.plan()


def mend(store: Path) -> Verified:
    with Repair(store) as work:
        return work.carry_out(work.plan())


def content(store: Path) -> dict[str, str]:
    """Everything in a store but who holds the lock."""
    return {
        str(path.relative_to(store)): sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def assert_whole(store: Path) -> None:
    checker.check(store, LINES, len(LINES))
    found = verify(store)
    assert found.ok, found.problems
    with Host(store) as host:
        assert host.system.digests() == REFERENCE


def assert_refused(store: Path, words: str) -> None:
    """Refused with words that say why or what to do, and nothing is changed, by ``--yes`` either."""
    before = content(store)
    refused = plan(store).refused
    assert any(words in finding.what + finding.does for finding in refused), refused
    assert run(["repair", "--store", str(store), "--yes", "--quiet"]) == 4
    assert content(store) == before


def append_torn(store: Path, log: str = "journal") -> None:
    with last_segment(store, log).open("ab") as file:
        file.write(TORN)


def break_table(store: Path) -> None:
    path = max(
        (store / "tables" / "p0001").iterdir(),
        key=lambda file: 0 if file.name.startswith("LOG") else file.stat().st_size,
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)


def test_a_sound_store_has_nothing_to_repair(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(store)
    assert run(["repair", "--store", str(store), "--yes"]) == 0
    assert "nothing to repair" in capsys.readouterr().err
    assert content(store) == before


@pytest.mark.slow(reason="makes, damages and mends many stores")
@pytest.mark.parametrize("log", ["journal", "digests", "effects/p0001"])
def test_a_torn_tail_is_shown_then_cut_and_kept(
    store: Path, log: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    append_torn(store, log)
    before = content(store)
    segment = last_segment(store, log)
    end = segment.stat().st_size - len(TORN)
    assert run(["repair", "--store", str(store), "--json"]) == 0
    shown = json.loads(capsysbinary.readouterr().out)
    (finding,) = shown["findings"]
    assert (finding["file"], finding["offset"], finding["action"]) == (f"{log}/{segment.name}", end, "cut")
    assert (shown["refused"], shown["repaired"], shown["copies"], shown["verified"]) == (0, False, None, None)
    assert content(store) == before
    assert run(["repair", "--store", str(store), "--json", "--yes"]) == 0
    done = json.loads(capsysbinary.readouterr().out)
    assert (done["repaired"], done["copies"], done["verified"]) == (True, "repaired/0001", True)
    assert (store / finding["keeps"]).read_bytes() == TORN
    assert segment.stat().st_size == end
    assert json.loads((store / "repaired" / "0001" / "repair.json").read_bytes())[0]["action"] == "cut"
    assert_whole(store)


@pytest.mark.slow(reason="makes, damages and mends many stores")
def test_damaged_tables_are_moved_aside_and_folded_again(store: Path) -> None:
    break_table(store)
    before = content(store)
    found = plan(store)
    assert {finding.action for finding in found.findings} == {"rebuild"}
    assert content(store) == before
    assert mend(store).ok
    kept = content(store / "repaired" / "0001" / "tables")
    assert kept == {name[len("tables/") :]: digest for name, digest in before.items() if name.startswith("tables/")}
    assert_whole(store)
    assert plan(store).findings == []


@pytest.mark.slow(reason="makes, damages and mends many stores")
def test_tables_that_are_gone_are_folded_again(store: Path) -> None:
    shutil.rmtree(store / "tables")
    assert mend(store).ok
    assert_whole(store)


@pytest.mark.slow(reason="makes, damages and mends many stores")
def test_tables_are_left_alone_while_the_journal_is_in_doubt(store: Path) -> None:
    break_table(store)
    data = bytearray(last_segment(store).read_bytes())
    data[len(data) // 2] ^= 1
    last_segment(store).write_bytes(data)
    assert_refused(store, "restore the store from a backup")


@pytest.mark.slow_after(2, reason="makes, damages and mends many stores")
@pytest.mark.parametrize("cut", [1, 60, 4000])
def test_acknowledged_records_that_are_gone_are_refused(store: Path, cut: int) -> None:
    whole = last_segment(store).read_bytes()
    last_segment(store).write_bytes(whole[:-cut])
    assert_refused(store, "restore the store from a backup")


@pytest.mark.slow(reason="makes, damages and mends many stores")
def test_damage_in_the_middle_is_refused_for_the_effects_with_the_way_to_a_new_store(
    store: Path, tmp_path: Path
) -> None:
    segment = last_segment(store, "effects/p0000")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    assert_refused(store, "margin-stream export NEW")
    assert run(["export", str(tmp_path / "new"), "--store", str(store), "--quiet"]) == 0
    assert_whole(tmp_path / "new")


@pytest.mark.slow(reason="makes, damages and mends many stores")
def test_a_segment_that_is_none_of_the_logs_is_refused(store: Path) -> None:
    shutil.copy(last_segment(store), store / "journal" / segment_name(5000))
    assert_refused(store, "not part of the log")


@pytest.mark.slow(reason="makes, damages and mends many stores")
def test_a_journal_that_was_rolled_back_under_its_tables_is_refused(store: Path, tmp_path: Path) -> None:
    with Host(tmp_path / "older", partitions=2) as host:
        host.ingest(LINES[:150])
    shutil.copytree(tmp_path / "older", tmp_path / "mixed")
    with Host(tmp_path / "mixed") as host:
        host.ingest(LINES)
    for name in ("journal", "digests", "effects"):
        shutil.rmtree(tmp_path / "mixed" / name)
        shutil.copytree(tmp_path / "older" / name, tmp_path / "mixed" / name)
    assert_refused(tmp_path / "mixed", "acknowledged records are gone")


@pytest.mark.slow(reason="makes, damages and mends many stores")
def test_a_damaged_or_missing_manifest_is_refused(store: Path) -> None:
    manifest = store / "manifest.json"
    good = manifest.read_bytes()
    manifest.write_bytes(good.replace(b'"partitions": 2', b'"partitions": 3'))
    assert_refused(store, "restore manifest.json")
    manifest.unlink()
    assert_refused(store, "restore manifest.json")


# ---- high-water files
# -------------------------------------------------------------------------------------------------


def damage_slot(store: Path, log: str) -> None:
    path = store / log / "highwater"
    data = bytearray(path.read_bytes())
    mark = highwater.read(path, read_manifest(Layout(store)).identity)
    data[(mark.writes % 2) * highwater.SLOT_SPACING + 30] ^= 1
    path.write_bytes(data)


@pytest.mark.slow(reason="makes, damages and mends many stores")
@pytest.mark.parametrize("log", ["journal", "digests", "effects/intake"])
def test_one_damaged_slot_is_written_anew(store: Path, log: str) -> None:
    damage_slot(store, log)
    broken = (store / log / "highwater").read_bytes()
    assert [(f.action, f.file) for f in plan(store).findings if f.action != "rebuild"] == [
        ("rewrite", f"{log}/highwater")
    ]
    assert mend(store).ok
    assert (store / "repaired" / "0001" / log / "highwater").read_bytes() == broken
    assert_whole(store)


def lose(path: Path) -> None:
    path.unlink()


def zero(path: Path) -> None:
    path.write_bytes(bytes(highwater.SIZE))


def make_foreign(path: Path) -> None:
    path.write_bytes(highwater.first_bytes(b"x" * 16))


LOSSES = [lose, zero, make_foreign]


@pytest.mark.slow_after(2, reason="makes, damages and mends many stores")
@pytest.mark.parametrize("loss", LOSSES)
def test_the_journals_high_water_file_is_never_guessed(store: Path, loss: Callable[[Path], None]) -> None:
    loss(store / "journal" / "highwater")
    assert_refused(store, "a lost tail cannot be told from a short one")


@pytest.mark.slow_after(1, reason="makes, damages and mends many stores")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("log", ["digests", "effects/intake", "effects/p0000"])
def test_that_of_a_derived_log_is_written_again_where_its_content_is_proven(
    store: Path, log: str, loss: Callable[[Path], None]
) -> None:
    append_torn(store, log)
    loss(store / log / "highwater")
    assert {finding.action for finding in plan(store).findings} == {"rewrite", "cut"}
    assert mend(store).ok
    assert_whole(store)


def cut_last_record(store: Path, log: str) -> None:
    """Cut a log at the end of the record before the last: every byte that is left is whole."""
    from margin_stream.journal import log as logs

    offsets = [record.offset for record in logs.read(store / log, read_manifest(Layout(store)).identity)]
    with last_segment(store, log).open("r+b") as file:
        file.truncate(offsets[-1])


@pytest.mark.slow_after(1, reason="makes, damages and mends many stores")
@pytest.mark.parametrize("log", ["digests", "effects/p0000"])
def test_a_derived_log_that_lost_a_whole_record_with_its_mark_is_refused(store: Path, log: str) -> None:
    cut_last_record(store, log)
    lose(store / log / "highwater")
    assert_refused(store, "missing")


# ---- the command
# ------------------------------------------------------------------------------------------------------


@pytest.mark.slow(reason="makes, damages and mends many stores")
def test_a_store_that_somebody_writes_to_is_not_repaired(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Host(store):
        assert run(["repair", "--store", str(store)]) == 6
    assert "another process writes" in capsys.readouterr().err


def test_only_stores_in_folders_are_repaired(tmp_path: Path) -> None:
    assert run(["repair", "--store", "kafka://127.0.0.1:1/x"]) == 2
    assert run(["repair", "--store", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.slow(reason="makes, damages and mends many stores")
def test_people_read_the_place_the_deed_and_the_copy(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_torn(store)
    assert run(["repair", "--store", str(store)]) == 0
    out, err = capsys.readouterr()
    name = last_segment(store).name
    assert f"journal/{name}: offset {last_segment(store).stat().st_size - len(TORN)}: record" in out
    assert f"a copy goes to repaired/0001/journal/{name}" in out
    assert "--yes" in err


# ---- stopped anywhere
# -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way", ["killed", "power"])
def test_a_repair_that_is_stopped_at_any_call_to_the_disk_can_be_run_again(
    store: Path, tmp_path: Path, way: str
) -> None:
    append_torn(store)
    damage_slot(store, "effects/intake")
    lose(store / "effects" / "p0000" / "highwater")
    break_table(store)

    def repaired(path: Path, disk: Disk) -> None:
        with Repair(path, disk=disk) as work:
            assert work.carry_out(work.plan()).ok

    counting = FaultyDisk(None, way)
    shutil.copytree(store, tmp_path / "count")
    repaired(tmp_path / "count", counting)
    assert len(counting.calls) > 40
    step = 3 if way == "killed" else 7
    for stop_at in range(1, len(counting.calls) + 1, step):
        path = tmp_path / f"{stop_at}"
        shutil.copytree(store, path)
        disk = FaultyDisk(stop_at, way, torn=stop_at * 37 % 101)
        with pytest.raises(Stopped):
            repaired(path, disk)
        if way == "power":
            disk.cut_power(path)
        with Repair(path) as work:
            again = work.plan()
            assert again.refused == [], f"call {stop_at}, {disk.calls[-1]}: {again.refused}"
            if again.findings:
                assert work.carry_out(again).ok
        kept = b"".join(copy.read_bytes() for copy in (path / "repaired").rglob("*.seg"))
        assert TORN in kept, f"call {stop_at}: what was cut is not kept"
        assert_whole(path)
        shutil.rmtree(path)
