"""A system put down as the rows of a checkpoint and taken up again, in memory, for tests."""

from __future__ import annotations

from margin_stream.core.account_fold import AccountFold
from margin_stream.core.intake import IntakeFold
from margin_stream.core.market import Market
from margin_stream.core.system import System


class Rows:
    """What tables hold of a system after its last checkpoint. Rows are written as they change, as a host does it."""

    def __init__(self, partitions: int) -> None:
        self._intake: dict[bytes, bytes] = {}
        self._accounts: list[dict[str, tuple[bytes, bytes]]] = [{} for _ in range(partitions)]
        self._markets: list[bytes] = [b""] * partitions
        self._position = 0

    def write(self, system: System) -> None:
        """Take what has changed since the last time; everything that was offered is folded."""
        self._intake.update(system.intake.stored())
        system.intake.mark_stored()
        self._position = system.position
        for n, fold in enumerate(system.partitions):
            fold.flush()
            for name, row, chain in fold.changed_rows():
                self._accounts[n][name] = row, chain
            fold.mark_stored()
            self._markets[n] = fold.market.packed()

    def restored(self, *, boxes: bool = True) -> System:
        """Return a system of the rows."""
        system = System(len(self._accounts), boxes=boxes)
        system.intake = IntakeFold.restored(len(self._accounts), iter(sorted(self._intake.items())))
        for n, rows in enumerate(self._accounts):
            fold = system.partitions[n] = AccountFold(boxes=boxes)
            fold.restore(Market.unpacked(self._markets[n]), self._position, (rows[name] for name in sorted(rows)))
        return system
