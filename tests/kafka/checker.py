"""The independent checker: reads topics as bytes and says what is wrong. It knows the formats from docs/kafka.md and
none of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgpack

SLOTS = 4096


class Broken(AssertionError):
    """A promise is broken."""


def check_journal(acknowledged: Mapping[int, bytes | None], journal: list[bytes | None]) -> None:
    """Every record that the broker acknowledged is in the journal, where it said."""
    for offset, value in acknowledged.items():
        if offset >= len(journal):
            raise Broken(f"record {offset} was acknowledged, the journal has {len(journal)}")
        if journal[offset] != value:
            raise Broken(f"record {offset} was acknowledged with other bytes")


def effects_of(messages: Mapping[int, list[bytes]], generation: str) -> tuple[dict[str, list[bytes]], int]:
    """Return effects by group as a consumer reads them, trimmed by place, and how many came again. What does not continue
    what was read before is none of the store's.

    Args:
        messages: shard -> values of its partition of the topic of effects.
        generation: messages of another are none of ours.
    """
    groups: dict[str, list[bytes]] = {}
    repeated = 0
    for shard, values in messages.items():
        place, total = (0, 0), 0
        seen: dict[str, bytes] = {}
        for value in values:
            try:
                of, number, previous, last, effects, after, upto, chain = msgpack.unpackb(value)
            except (ValueError, TypeError, msgpack.UnpackException):
                continue
            if (of, number) != (generation, shard) or (previous, after) > place:
                repeated += len(effects) if (of, number) == (generation, shard) else 0
                continue
            fresh, again, passed = [], [], {previous: after}
            for position, data in effects:
                nth = passed.get(position - 1, 0)
                passed[position - 1] = nth + 1
                (fresh if (position - 1, nth) >= place else again).append((position, data))
            end = (last, upto)
            if end > place:
                sum_ = (total + sum(int.from_bytes(sha256(data).digest(), "big") for _, data in fresh)) % (1 << 256)
                at = b"".join((sum_.to_bytes(32, "big"), last.to_bytes(8, "big"), upto.to_bytes(8, "big")))
                if chain != sha256(at).digest():
                    continue
                total, place = sum_, end
            elif fresh:
                raise Broken(f"a message of shard {number} has effects behind its end, {end}")
            repeated += len(again)
            for position, data in [*again, *fresh]:
                effect = msgpack.unpackb(data)
                if effect["sequence"] != position:
                    raise Broken(f"effect {effect['id']} is at {effect['sequence']}, its message states {position}")
                if seen.setdefault(effect["id"], data) != data:
                    raise Broken(f"effect {effect['id']} came twice, with different bytes")
            for _, data in fresh:
                identifier = msgpack.unpackb(data)["id"]
                group, _, count = identifier.rpartition("/")
                rows = groups.setdefault(group, [])
                rows.append(data)
                if int(count) != len(rows):
                    raise Broken(f"effect {identifier} is number {len(rows)} of its group")
    return groups, repeated


def check_effects(found: Mapping[str, list[bytes]], expected: Mapping[str, list[bytes]]) -> None:
    """Each group has the effects of the reference, byte for byte."""
    for group in sorted({*found, *expected}):
        ours, theirs = found.get(group, []), expected.get(group, [])
        for n, (one, other) in enumerate(zip(ours, theirs, strict=False), start=1):
            if one != other:
                raise Broken(f"effect {group}/{n} is {msgpack.unpackb(one)}, should be {msgpack.unpackb(other)}")
        if len(ours) != len(theirs):
            raise Broken(f"{group} has {len(ours)} effects, should have {len(theirs)}")


def digests_of(messages: Iterable[bytes], generation: str, partitions: int) -> dict[int, tuple[str, str]]:
    """Return state and effects digest by position, wherever every shard said its part."""
    parts: dict[int, dict[int, tuple[bytes, ...]]] = {}
    for value in messages:
        try:
            of, shard, position, _, head, effects_head, state, effects, _ = msgpack.unpackb(value)
        except (ValueError, TypeError, msgpack.UnpackException):
            continue
        if of != generation:
            continue
        said = parts.setdefault(position, {}).setdefault(shard, (head, effects_head, state, effects))
        if said != (head, effects_head, state, effects):
            raise Broken(f"shard {shard} reported two digests of position {position}")
    found = {}
    for position, shards in parts.items():
        if len(shards) == partitions + 1:
            head, effects_head, _, _ = shards[0]
            rest = [shards[n] for n in range(1, partitions + 1)]
            found[position] = (_digest(head, [row[2] for row in rest]), _digest(effects_head, [row[3] for row in rest]))
    return found


def _digest(head: bytes, packed: list[bytes]) -> str:
    sums = [0] * SLOTS
    for data in packed:
        for n in range(0, len(data), 34):
            sums[int.from_bytes(data[n : n + 2], "big")] += int.from_bytes(data[n + 2 : n + 34], "big")
    whole = sha256(head)
    for total in sums:
        whole.update((total % (1 << 256)).to_bytes(32, "big"))
    return whole.hexdigest()


def check_digest(found: Mapping[int, tuple[str, str]], position: int, state: str, effects: str) -> None:
    """The last digests that the workers said are those of the reference, at its position."""
    if not found or max(found) != position:
        raise Broken(f"digests were said at {max(found) if found else 'no position'}, the last position is {position}")
    if found[position] != (state, effects):
        raise Broken(f"the digests at position {position} are {found[position]}, should be {(state, effects)}")
