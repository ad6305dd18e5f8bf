"""The doctor: each check finds what it is for, says what to do, and nothing is changed by looking."""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from margin_stream.doctor import machine, stores
from margin_stream.doctor.findings import Finding
from margin_stream.host.embedded import Host
from margin_stream.host.lock import holder_of
from margin_stream.journal.records import segment_name
from margin_stream.replay.verification import Problem, Verified, verify
from margin_stream.simulation.broker import free_port
from tests.integration.test_errors import LINES, command, flipped, store


def examined(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code, errors, out = command("doctor", *words)
    assert errors == []
    rows = [json.loads(line) for line in out.splitlines()]
    for row in rows:
        assert list(row) == ["check", "status", "found", "next"]
        assert row["found"]
        assert row["next"] or row["status"] in ("ok", "skipped")
    return code, {row["check"]: row for row in rows}


def status(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: row["status"] for name, row in findings.items()}


def everything(folder: Path) -> dict[str, tuple[str, int]]:
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        content = sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[str(path)] = (content, path.stat().st_mtime_ns)
    return found


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_sound_store_has_no_problem_and_is_not_touched(tmp_path: Path) -> None:
    path = store(tmp_path)
    before = everything(tmp_path)
    code, found = examined("--store", path)
    assert everything(tmp_path) == before
    assert code == 0
    wanted = (
        "settings",
        "machine.python",
        "machine.rocksdb",
        "machine.clock",
        "store.manifest",
        "store.lock",
        "store.journal",
        "store.verify",
    )
    assert {name: status(found)[name] for name in (*wanted, "store.tables")} == dict.fromkeys(
        (*wanted, "store.tables"), "ok"
    )
    assert found["store.lock"]["found"] == "no process writes to it"
    assert "format 2" in found["store.manifest"]["found"]
    assert f"{len(LINES)} items" in found["store.verify"]["found"]


def test_where_there_is_no_store_none_is_made(tmp_path: Path) -> None:
    code, found = examined("--store", str(tmp_path / "not" / "yet"))
    assert (code, found["store.manifest"]["status"]) == (0, "skipped")
    assert "ingest" in found["store.manifest"]["next"]
    assert list(tmp_path.iterdir()) == []


def test_a_writer_is_named_and_not_disturbed(tmp_path: Path) -> None:
    with Host(tmp_path / "s") as host:
        host.ingest(LINES)
        code, found = examined("--store", str(tmp_path / "s"))
        assert code == 0
        assert f"process {os.getpid()}" in found["store.lock"]["found"]
        host.ingest(LINES)
    assert holder_of(tmp_path / "s" / "lock") is None


@pytest.mark.slow(reason="examines a store beside a writer")
def test_beside_a_writer_only_what_two_looks_agree_on_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting, passing = Problem("journal/1.seg", 7, "torn"), iter(range(9))
    problems = [lasting]

    def looked(path: Path, **_: object) -> Verified:
        fresh = Problem("digests/1.seg", None, f"record {next(passing)} was checkpointed")
        return msgspec.structs.replace(verify(path), ok=False, problems=[fresh, *problems])

    monkeypatch.setattr(stores, "verify", looked)
    with Host(tmp_path / "s") as host:
        host.ingest(LINES)
        found = examined("--store", str(tmp_path / "s"))[1]["store.verify"]
        assert (found["status"], found["found"]) == ("problem", "journal/1.seg: offset 7: torn")
        problems.clear()
        assert examined("--store", str(tmp_path / "s"))[1]["store.verify"]["status"] == "ok"
    assert examined("--store", str(tmp_path / "s"))[1]["store.verify"]["status"] == "problem"


@pytest.mark.slow_after(2, reason="examines a store beside a writer")
@pytest.mark.parametrize(
    ("damage", "check", "status_wanted", "says"),
    [
        (lambda path: flipped(path / "journal" / segment_name(1), 500), "store.verify", "problem", "checksum"),
        (lambda path: flipped(path / "manifest.json", 30), "store.manifest", "problem", "damaged"),
        (lambda path: (path / "manifest.json").unlink(), "store.manifest", "problem", "manifest is missing"),
        (lambda path: (path / "journal" / "highwater").unlink(), "store.journal", "problem", "missing"),
        (lambda path: flipped(path / "journal" / "highwater", 530), "store.journal", "warning", "slot"),
        (
            lambda path: flipped(next((path / "tables" / "intake").glob("MANIFEST-*")), 20),
            "store.tables",
            "warning",
            "checksum",
        ),
    ],
    ids=["journal", "manifest", "no-manifest", "high-water", "one-slot", "table"],
)
def test_damage_is_found_and_named(tmp_path: Path, damage: Any, check: str, status_wanted: str, says: str) -> None:
    path = Path(store(tmp_path))
    damage(path)
    code, found = examined("--store", str(path))
    assert (found[check]["status"], says in found[check]["found"]) == (status_wanted, True), found[check]
    assert found[check]["next"]
    assert code == (1 if "problem" in status(found).values() else 0)


def test_a_broker_that_does_not_answer_exits_5() -> None:
    code, found = examined("--store", f"kafka://127.0.0.1:{free_port()}/x")
    assert (code, found["broker.reachable"]["status"]) == (5, "problem")
    assert found["machine.python"]["status"] == "ok"
    code, found = examined("--store", "kafka://nowhere")
    assert (code, found["store.address"]["status"]) == (1, "problem")


@pytest.mark.slow(reason="examines a store beside a writer")
def test_settings_that_are_wrong_are_a_finding_not_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "margin-stream.toml").write_text("stoer = 'x'\n")
    code, found = examined()
    assert (code, found["settings"]["status"]) == (1, "problem")
    assert "margin-stream.toml:1" in found["settings"]["found"]
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    secret.chmod(0o644)
    (tmp_path / "margin-stream.toml").write_text(f"[kafka]\nsasl_password_file = '{secret}'\n")
    monkeypatch.setenv("MARGIN_STREAM_STOER", "x")
    code, found = examined()
    assert code == 0
    assert (found["settings.secrets"]["status"], found["settings.secrets"]["next"]) == (
        "warning",
        f"chmod 600 {secret}",
    )
    assert "did you mean 'MARGIN_STREAM_STORE'" in found["settings.environment"]["found"]
    secret.chmod(0o600)
    assert examined()[1]["settings.secrets"]["status"] == "ok"
    secret.unlink()
    assert examined()[1]["settings.secrets"]["status"] == "problem"


def test_people_get_one_line_a_check_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from margin_stream.cli.main import run

    assert run(["doctor", "--store", str(tmp_path / "none")]) == 0
    shown = capsys.readouterr()
    assert "ok       machine.python" in shown.out
    assert "-> `margin-stream ingest` makes one" in shown.out
    assert " 0 problem, " in shown.err


def one(findings: Any) -> str:
    found = list(findings) if not isinstance(findings, Finding) else [findings]
    assert len(found) == 1
    assert found[0].next or found[0].status in ("ok", "skipped")
    status: str = found[0].status
    return status


@pytest.mark.parametrize(
    ("check", "wanted"),
    [
        (lambda _: machine.python((3, 10, 9)), "problem"),
        (lambda _: machine.python((3, 11, 0)), "ok"),
        (lambda _: machine.python((3, 13, 2)), "ok"),
        (lambda _: machine.python((3, 14, 0)), "problem"),
        (lambda _: machine.files(255), "problem"),
        (lambda _: machine.files(256), "warning"),
        (lambda _: machine.files(1023), "warning"),
        (lambda _: machine.files(1024), "ok"),
        (lambda folder: machine.clock(folder, 0.0), "problem"),
        (lambda folder: machine.clock(folder, 5e9), "problem"),
        (lambda folder: machine.clock(folder), "ok"),
        (lambda folder: machine.space(folder, (200 << 20) - 1), "problem"),
        (lambda folder: machine.space(folder, 200 << 20), "warning"),
        (lambda folder: machine.space(folder, 2 << 30), "ok"),
        (lambda _: machine.syncing(Path("/proc")), "problem"),
        (lambda folder: machine.packages(folder / "none"), "skipped"),
    ],
)
def test_each_limit_of_the_machine(check: Any, wanted: str, tmp_path: Path) -> None:
    assert one(check(tmp_path)) == wanted


def test_memory_is_no_disk() -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("no memory file system here")
    assert one(machine.syncing(Path("/dev/shm"))) == "warning"


def test_a_clock_behind_the_journal_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "x").write_text("")
    now = time.time()
    assert one(machine.clock(tmp_path, now - 50)) == "ok"
    assert one(machine.clock(tmp_path, now - 70)) == "warning"


def test_a_package_of_another_version_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("msgspec==0.0.1 \\\n    --hash=sha256:0\n")
    found = machine.packages(lock)
    assert found.status == "warning"
    assert "msgspec" in found.found
    assert "0.0.1" in found.found
