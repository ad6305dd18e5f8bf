"""Views over the folds of a writer at work give what views over the store that is read give, without opening it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from margin_stream import Store, views
from margin_stream.core.intake.fold import Verdict
from margin_stream.views import source
from tests.days import random_day
from tests.folding import fold
from tests.usdm_days import random_usdm_day

ACCOUNTS = [f"A{n}" for n in range(9)]


def asked(view: views.View, account: str, **more: bool) -> object:
    """Return the calls of an account, or that there is none."""
    try:
        return views.calls(view, account=account, **more)
    except views.AccountUnknown as error:
        return str(error)


def answers(view: views.View) -> list[object]:
    """Return all that can be asked."""
    states = []
    for account in ACCOUNTS:
        try:
            states.append(views.account_state(view, account))
        except views.AccountUnknown as error:
            states.append({"unknown": str(error)})
    return [states, views.calls(view), asked(view, "A1", open_only=True), views.facts(view, "feeds")]


@pytest.mark.slow_after(1, reason="reads the store after each of some ten records")
@pytest.mark.parametrize("partitions", [1, 5])
@pytest.mark.parametrize("lines", [random_day(3, accounts=9, steps=120), random_usdm_day(4, accounts=9, steps=120)])
def test_the_folds_at_hand_and_the_store_that_is_read_give_the_same(
    lines: list[bytes], partitions: int, tmp_path: Path
) -> None:
    rng = Random(partitions)
    left = list(lines)
    with Store.open(tmp_path / "s", partitions=partitions) as store:
        while left:
            cut = rng.randrange(1, 60)
            part, left = left[:cut], left[cut:]
            store.ingest(part)
            if rng.random() < 0.3:
                store.checkpoint()
            live = answers(store._host.folds())
            assert live == answers(views.folds_at(store.path))
            assert live[1:3] == [store.calls(), asked(store._host.folds(), "A1", open_only=True)]
        assert views.calls(store.path) == store.calls()
        digests = store.digests()
    # Looking changed nothing.
    assert digests == fold(lines)[0]


def test_what_a_writer_is_asked_for_now_is_not_read_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "s") as store:
        store.ingest(random_day(3, accounts=9, steps=120))

        def never(*_: object) -> None:
            raise AssertionError("the folder was opened")

        monkeypatch.setattr(source.StoreReader, "__init__", never)
        assert store.state("A1")["account"] == "A1"
        assert store.calls() is not None
        assert store.facts("feeds")
        with pytest.raises(AssertionError, match="was opened"):
            store.state("A1", at=5)


def test_what_is_admitted_and_not_committed_is_not_shown(tmp_path: Path) -> None:
    lines = random_day(3, accounts=9, steps=120)

    async def appended(store: Store) -> None:
        before = store.state("A1")
        assert store._host.offer(lines[-2]) is Verdict.ACCEPTED
        assert store.state("A1") == before
        under_way = asyncio.ensure_future(store.append(lines[-1]))
        await asyncio.sleep(0)
        assert store.state("A1")["sequence"] in (before["sequence"], before["sequence"] + 2)
        await under_way
        assert store.state("A1")["sequence"] == before["sequence"] + 2

    with Store.open(tmp_path / "s") as store:
        store.ingest(lines[:-2])
        asyncio.run(appended(store))
