"""The keys of answers against a plain list of them: any window, duplicates, restored from the rows of any
checkpoints."""

from __future__ import annotations

from random import Random

import pytest

from margin_stream.core.intake.answers import AnswerKeys

Key = tuple[str, str, int]


class Plain:
    """All keys in order of arrival; the last ``window`` are held, an effect at or below the highest let go of in its
    group is too old."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.keys: list[Key] = []

    def knows(self, key: Key) -> bool:
        gone, held = self.keys[: -self.window], self.keys[-self.window :]
        group, _, number = key[1].rpartition("/")
        old = [
            int(effect.rpartition("/")[2])
            for outbox, effect, _ in gone
            if (outbox, effect.rpartition("/")[0]) == (key[0], group)
        ]
        return key in held or int(number) <= max(old, default=0)


@pytest.mark.parametrize("seed", range(12))
def test_a_key_is_known_while_it_is_held_and_when_it_is_older(seed: int) -> None:
    rng = Random(seed)
    window = rng.choice((1, 2, 5, 30))
    keys, plain = AnswerKeys(window), Plain(window)
    rows: dict[bytes, bytes] = {}
    for _ in range(400):
        key = (f"@{rng.choice('ab')}", f"{rng.choice(('G', 'H', '@market'))}/{rng.randint(1, 40)}", rng.randint(1, 3))
        assert keys.knows(*key) is plain.knows(key)
        if not plain.knows(key):
            keys.take(*key)
            plain.keys.append(key)
        if rng.randrange(20) == 0:
            rows.update(keys.rows())
            keys.mark_stored()
            facts = keys.facts()
            keys = AnswerKeys(window)
            keys.restore(facts, sorted(rows.items()))
            assert keys.facts() == facts
    assert len(rows) <= window + 6
    assert keys.total == len(plain.keys)


def test_without_answers_nothing_is_digested_or_stored() -> None:
    keys = AnswerKeys()
    assert (keys.facts(), list(keys.rows())) == ([], [])


def test_rows_that_are_missing_are_found_out() -> None:
    keys = AnswerKeys(2)
    for number in (1, 2, 3):
        keys.take("@a", f"G/{number}", 1)
    rows = dict(keys.rows())
    for name in [name for name in rows if name.startswith(b"key/")]:
        with pytest.raises(ValueError, match="keys of answers are missing"):
            AnswerKeys(2).restore(keys.facts(), sorted({**rows, name: rows[name][:-1] + b"9"}.items()))
