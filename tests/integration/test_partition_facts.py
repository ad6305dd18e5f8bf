"""A fold that each partition has: its facts are asked and measured as those of a fold of the whole store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from margin_stream.agents.metrics import measured
from margin_stream.core import folds
from margin_stream.core.effect_book import EffectBook, Emitted
from margin_stream.core.folds import partition_folds
from margin_stream.host.embedded import Host
from margin_stream.schemas.effects import MarginCallIssued, decode_effect, group_of
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.views import store as views
from tests.days import random_day
from tests.notices import PlainFold


class Called(PlainFold):
    """Counts the calls of each account."""

    name = "called"
    reads_effects = True
    measures: ClassVar[dict[str, str]] = {"calls": "Margin calls so far."}

    def __init__(self, book: EffectBook) -> None:
        self.calls: dict[str, int] = {}

    def apply(self, item: Any) -> None:
        raise AssertionError("it reads no items")

    def follow(self, effect: Emitted) -> None:
        if isinstance(decode_effect(effect.data), MarginCallIssued):
            group = group_of(decode_effect(effect.data).id)
            self.calls[group] = self.calls.get(group, 0) + 1

    def facts(self) -> Iterator[dict[str, Any]]:
        for account in sorted(self.calls):
            yield {"account": account, "calls": self.calls[account]}

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        yield b"calls", json.dumps(self.calls, sort_keys=True).encode()

    def mark_stored(self) -> None:
        pass

    def restore(self, _sequence: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        for _, value in rows:
            self.calls = json.loads(value)

    def digest(self) -> bytes:
        return json.dumps(self.calls, sort_keys=True).encode()


@pytest.mark.parametrize("partitions", [1, 3])
def test_facts_of_all_partitions_are_shown(tmp_path: Path, partitions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "PARTITION_FOLDS", (Called,))
    with Host(tmp_path / "s", partitions=partitions) as host:
        host.ingest(random_day(5, accounts=40, steps=3000))
        effects = host.system.sets
    rows = views.facts(tmp_path / "s", "called")
    assert len(rows) > 2
    assert {row["account"] for row in rows} == {
        account
        for part in effects[1:]
        for account in part.folds[1].calls  # type: ignore[attr-defined]
    }
    assert all(0 <= row["partition"] < partitions for row in rows)
    assert len({row["partition"] for row in rows}) == partitions
    with pytest.raises(views.FoldUnknown, match="there are feeds, called"):
        views.facts(tmp_path / "s", "accounts")


def test_a_fold_of_several_partitions_is_one_family_of_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "PARTITION_FOLDS", (Called,))
    found = [partition_folds(rules_version=LATEST).folds[1] for _ in range(2)]
    found[0].calls, found[1].calls = {"a": 1}, {"b": 2, "c": 3}  # type: ignore[attr-defined]
    (family,) = measured(list(enumerate(found)))
    assert family.name == "margin_stream_called_calls"
    samples = [(sample.labels["account"], sample.labels["partition"], sample.value) for sample in family.samples]
    assert samples == [("a", "0", 1), ("b", "1", 2), ("c", "1", 3)]
