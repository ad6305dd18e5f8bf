"""A system put down as the rows of a checkpoint and taken up again, in memory, for tests."""

from __future__ import annotations

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST


class Rows:
    """What tables hold of a system after its last checkpoint. Rows are written as they change, as a host does it."""

    def __init__(self, partitions: int) -> None:
        self._tables: list[dict[bytes, bytes]] = [{} for _ in range(partitions + 1)]
        self._sequence = 0

    def write(self, system: StoreFold) -> None:
        """Take what has changed since the last time; everything that was admitted is folded."""
        self._sequence = system.sequence
        for table, folds in zip(self._tables, system.sets, strict=True):
            table.update(folds.rows())
            folds.mark_stored()

    def restored(self, *, boxes: bool = True) -> StoreFold:
        """Return a system of the rows."""
        system = StoreFold(len(self._tables) - 1, boxes=boxes, rules_version=LATEST)
        for table, folds in zip(self._tables, system.sets, strict=True):
            folds.restore(self._sequence, iter(sorted(table.items())))
        return system
