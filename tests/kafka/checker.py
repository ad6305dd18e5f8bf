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
    """Return effects by group as a consumer reads them, trimmed by place, and how many came again.

    Args:
        messages: shard -> values of its partition of the topic of effects.
        generation: messages of another are none of ours.
    """
    groups: dict[str, list[bytes]] = {}
    repeated = 0
    for shard, values in messages.items():
        here, half, total = 0, 0, 0
        seen: dict[str, bytes] = {}
        for value in values:
            of, number, previous, last, effects, after, upto, chain = msgpack.unpackb(value)
            if of != generation:
                continue
            hole = previous > here or (previous == here and after > half)
            passed = {previous + 1: after}
            if number != shard:
                raise Broken(f"shard {number} wrote into partition {shard}")
            for position, data in effects:
                effect = msgpack.unpackb(data)
                identifier = effect["id"]
                if effect["sequence"] != position:
                    raise Broken(
                        f"effect {identifier} is at position {effect['position']}, its message says {position}"
                    )
                if seen.setdefault(identifier, data) != data:
                    raise Broken(f"effect {identifier} came twice, with different bytes")
                nth = passed[position] = passed.get(position, 0) + 1
                if hole or position <= here or (position == here + 1 and nth <= half):
                    repeated += 1
                    continue
                group, _, count = identifier.rpartition("/")
                rows = groups.setdefault(group, [])
                rows.append(data)
                total += int.from_bytes(sha256(data).digest(), "big")
                if int(count) != len(rows):
                    raise Broken(f"effect {identifier} is number {len(rows)} of its group")
            if passed.get(last + 1, 0) != upto or max(passed) > last + 1:
                raise Broken(
                    f"a message of shard {number} has {passed.get(last + 1, 0)} effects behind position {last}, it "
                    f"says {upto}"
                )
            if not hole and last >= here:
                half = upto if last > here else max(half, upto)
                here = last
                place = last.to_bytes(8, "big") + upto.to_bytes(8, "big")
                if half == upto and chain != sha256((total % (1 << 256)).to_bytes(32, "big") + place).digest():
                    raise Broken(f"a message of shard {number} up to position {last} has another chain")
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
        of, shard, position, _, head, effects_head, state, effects, _ = msgpack.unpackb(value)
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
