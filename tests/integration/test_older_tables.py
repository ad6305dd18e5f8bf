"""Tables that cannot be used, as an older build wrote them: the first opening folds the journal instead."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from margin_stream.host.embedded import Host
from margin_stream.kafka.shard import SnapshotMarker, Unusable
from margin_stream.kafka.shard_table import ShardTable
from margin_stream.replay.verification import verify
from margin_stream.tables.checkpoints import MARKER
from margin_stream.tables.rocks import Table, TableError
from tests.days import random_day

LINES = random_day(8, accounts=6, steps=120)
OLD = "which nothing here reads"


def written(path: Path, key: bytes, value: bytes) -> None:
    table = Table(path)
    table.write([(key, value)])
    table.close()


@pytest.mark.slow_after(1, reason="opens a store five times for each case")
@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize(
    ("table", "key", "value", "why"),
    [
        ("intake", b"account/A0", bytes(4), f"rows of 'account', {OLD}"),
        ("intake", b"intake/identity/\xff" + bytes(9), b"", "utf-8"),
        ("intake", b"intake/identity/none" + bytes(9), bytes(16), "identities of none, which are no books"),
        ("intake", MARKER, b"\x01", ""),
        ("intake", b"intake/undecodable/" + bytes(32), b"", "the rows do not have the digest of the marker"),
        ("p0000", b"a/x", b"older", f"rows of 'a', {OLD}"),
        ("p0000", b"accounts/x", b"older", ""),
        ("p0000", MARKER, b"\x01", ""),
    ],
    ids=lambda value: value.decode("latin-1") if isinstance(value, bytes) else None,
)
def test_older_tables_are_rebuilt_at_the_first_opening(
    partitions: int, table: str, key: bytes, value: bytes, why: str, tmp_path: Path
) -> None:
    with Host(tmp_path / "s", partitions=partitions) as host:
        host.ingest(LINES)
        digests = host.checkpoint()
    written(tmp_path / "s" / "tables" / table, key, value)
    with Host(tmp_path / "s") as host:
        assert len(host.recovery.notes) == 1
        assert host.recovery.notes[0].startswith("tables are rebuilt from the journal: ")
        assert why in host.recovery.notes[0]
        assert (host.recovery.from_sequence, host.recovery.folded) == (0, len(LINES))
        assert host.system.digests() == digests
    with Host(tmp_path / "s") as host:
        assert (host.recovery.from_sequence, host.recovery.notes) == (len(LINES), ())
    assert verify(tmp_path / "s").ok


def test_a_closed_table_is_let_go_of_though_somebody_reads_it_still(tmp_path: Path) -> None:
    table = Table(tmp_path / "t")
    table.write([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])
    begun, unbegun, ended = table.rows(), table.rows(), table.rows()
    assert next(begun) == (b"a", b"1")
    assert len(list(ended)) == 3
    table.close()
    again = Table(tmp_path / "t")
    assert len(dict(again.rows())) == 3
    again.close()
    for rows in (begun, unbegun):
        with pytest.raises(TableError, match="closed"):
            next(rows)


class Choosy:
    """A shard that does not take its rows."""

    def restore(self, rows: Iterable[tuple[bytes, bytes]], _: object) -> None:
        for _ in rows:
            raise Unusable("not these rows")


def test_a_shard_whose_rows_are_not_taken_is_wiped_at_once(tmp_path: Path) -> None:
    table = ShardTable(tmp_path / "t", "1")
    table.marker = SnapshotMarker("1", 1, 1, b"", [], [], [])
    written_rows = [(b"a", b"1"), (b"b", b"2")]
    table._table.write(written_rows)
    with pytest.raises(Unusable) as raised:
        table.load(Choosy())  # type: ignore[arg-type]
    table.wipe(str(raised.value))
    assert list(table._table.rows()) == []
    table.close()
