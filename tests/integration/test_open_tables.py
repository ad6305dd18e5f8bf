"""Several tables are opened together: one process examines those that were not closed, and what is wrong has a name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from margin_stream.tables import rocks
from margin_stream.tables.rocks import SEAL, Table, TableError, open_tables


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Return four tables with one row each, as a process that was killed leaves them."""
    places = [tmp_path / name for name in "abcd"]
    for place in places:
        table = Table(place)
        table.write([(b"key", place.name.encode())])
        table.close()
        (place / SEAL).unlink()
    return places


def test_they_are_examined_by_one_process(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[object] = []
    run = subprocess.run
    monkeypatch.setattr(rocks.subprocess, "run", lambda *words, **named: runs.append(words) or run(*words, **named))
    for read_only in (True, False, True):
        tables = open_tables(paths, read_only=read_only)
        assert [table.get(b"key") for table in tables] == [b"a", b"b", b"c", b"d"]
        for table in tables:
            table.close()
    # The second time they were closed by the writer, and have a seal.
    assert len(runs) == 2


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("damaged", [0, 2])
def test_the_damaged_one_is_named_and_no_other_stays_open(paths: list[Path], damaged: int, read_only: bool) -> None:
    current = paths[damaged] / "CURRENT"
    current.write_bytes(b"nothing\n")
    with pytest.raises(TableError) as caught:
        open_tables(paths, read_only=read_only)
    assert caught.value.where["file"] == str(paths[damaged])
    current.unlink()
    # None is locked.
    for path in paths[:damaged]:
        Table(path).close()


def test_one_that_never_opens_is_named(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        rocks, "_PROBE", "import sys, time\nprint(sys.argv[1])\nprint(sys.argv[2], flush=True)\ntime.sleep(60)"
    )
    monkeypatch.setattr(rocks, "PROBE_S", 0.5)
    with pytest.raises(TableError, match="does not come to an end") as caught:
        open_tables(paths)
    assert caught.value.where["file"] == str(paths[1])


def test_one_that_kills_its_process_is_named(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocks, "_PROBE", "import sys, os\nprint(sys.argv[1], flush=True)\nos.kill(os.getpid(), 9)")
    with pytest.raises(TableError, match="signal 9") as caught:
        open_tables(paths)
    assert caught.value.where["file"] == str(paths[0])
