"""Where numbered items go: to the partition of their account, to every partition, to the folds of the whole store."""

from __future__ import annotations

from margin_stream.core.intake.account_index import Entry
from margin_stream.core.intake.validation import Reason
from margin_stream.core.sequenced import AnySequenced, Batch, Received


class Routes:
    """Items on their way, since the last ``take``."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.previous = 0
        """The sequence number of the last ``take``."""
        self._routed: list[list[AnySequenced]] = [[] for _ in range(partitions)]
        self._whole: list[AnySequenced] = []
        """For the folds of the whole store."""
        self._concerned: dict[str, None] = {}
        self.concerned: list[str] = []
        """The accounts of the items of the last ``take``, each once."""
        self._received: dict[str, tuple[int, str, int, int, int]] = {}
        """Source -> the fields of its ``Received``."""

    def to_account(self, entry: Entry | None, item: AnySequenced | Reason, account: str = "") -> Reason | None:
        """Route an item to the partition of its account; of no account, it is for the folds of the whole store. A
        reason is given back."""
        if isinstance(item, tuple):
            return item
        (self._whole if entry is None else self._routed[entry.partition]).append(item)
        if account:
            self._concerned[account] = None
        return None

    def to_all(self, item: AnySequenced | Reason) -> Reason | None:
        """Route an item to every partition and to the folds of the whole store. A reason is given back."""
        if isinstance(item, tuple):
            return item
        self._whole.append(item)
        self.to_partitions(item)
        return None

    def to_partitions(self, item: AnySequenced) -> None:
        """Route an item to every partition."""
        for routed in self._routed:
            routed.append(item)

    def receive(self, sequence: int, source: str, number: int, event_time_ns: int, clock_ns: int) -> None:
        """Note for the folds of the whole store that an input of a source has this sequence number."""
        before = self._received.get(source)
        if before is not None:
            number, event_time_ns = max(number, before[2]), max(event_time_ns, before[3])
        self._received[source] = (sequence, source, number, event_time_ns, clock_ns)

    def take(self, sequence: int, market_digest: bytes) -> list[Batch]:
        """Return what was routed up to a sequence number, to the folds of the whole store and to each partition; start
        anew."""
        self._whole += [Received(*run) for run in self._received.values()]
        self._received.clear()
        batches = [Batch(self.previous, sequence, sorted(self._whole, key=lambda item: item.sequence))]
        batches += [Batch(self.previous, sequence, items, market_digest) for items in self._routed]
        self.previous, self._whole = sequence, []
        self.concerned, self._concerned = list(self._concerned), {}
        self._routed = [[] for _ in range(self.partitions)]
        return batches
