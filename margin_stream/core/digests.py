"""Slots and digests: how state is compared, whatever the partitions.

A row belongs to the slot of its margin group: the first 12 bits of the group's SHA-256. A slot digest is the sum modulo
2**256 of the SHA-256 of its rows, so it can be kept up row by row, in any order; slots map to partitions by range. The
state digest is the SHA-256 over the intake's digest and the 4,096 slot digests. Sums are for comparing states, not
against forgery: that is the chain over the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

SLOTS = 4096
MODULUS = 1 << 256
NO_CHAIN = bytes(32)


def slot_of(group: str) -> int:
    """Return the slot of a margin group, 0..4095."""
    head = sha256(group.encode()).digest()
    return head[0] << 4 | head[1] >> 4


def partition_of(slot: int, partitions: int) -> int:
    """Return the partition of a slot: ranges of equal length, give or take one."""
    return slot * partitions // SLOTS


def leaf(row: bytes) -> int:
    """Return what a row adds to the digest of its slot."""
    return int.from_bytes(sha256(row).digest(), "big")


def effect_leaf(group: str, count: int, chain: bytes) -> int:
    """Return what a group's effects add to the effects digest of its slot; 0 for a group without effects."""
    return leaf(f"{group}\0{count}\0".encode() + chain) if count else 0


def chained(chain: bytes, effect: bytes) -> bytes:
    """Return a group's effect chain after one more effect."""
    return sha256(chain + effect).digest()


def combined(head: bytes, slots: Mapping[int, int]) -> str:
    """Return the hexadecimal digest over a head and the 4,096 slot sums; slots not named count as 0."""
    whole = sha256(head)
    for slot in range(SLOTS):
        whole.update((slots.get(slot, 0) % MODULUS).to_bytes(32, "big"))
    return whole.hexdigest()


def merged(parts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Return the slot sums of all partitions together."""
    whole: dict[int, int] = {}
    for part in parts:
        for slot, total in part.items():
            whole[slot] = (whole.get(slot, 0) + total) % MODULUS
    return whole


def pack_sums(sums: Mapping[int, int]) -> bytes:
    """Return slot sums as bytes: slot (2 bytes) and sum (32 bytes) of each slot that is not 0."""
    return b"".join(slot.to_bytes(2, "big") + sums[slot].to_bytes(32, "big") for slot in sorted(sums) if sums[slot])


def unpack_sums(data: bytes) -> dict[int, int]:
    """Return the slot sums of ``pack_sums``."""
    return {
        int.from_bytes(data[n : n + 2], "big"): int.from_bytes(data[n + 2 : n + 34], "big")
        for n in range(0, len(data), 34)
    }
