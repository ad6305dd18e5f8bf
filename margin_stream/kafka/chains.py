"""What was sent to a reader so far, as one number that does not depend on how it was cut into messages.

The number is the sum of the SHA-256 of every item's bytes, modulo 2^256. Items carry their sequence numbers, so a sum
holds their order too. A message states the chain behind its end; a reader that comes to another one does not fold it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

MODULUS = 1 << 256


def number_of(data: bytes) -> int:
    """Return what an item adds to a chain."""
    return int.from_bytes(sha256(data).digest(), "big")


class Chain:
    """The chain behind the items that were added."""

    __slots__ = ("total",)

    def __init__(self, total: int = 0) -> None:
        self.total = total

    def add(self, number: int) -> None:
        """Go on behind an item, given by its number."""
        self.total = (self.total + number) % MODULUS

    def behind(self, items: Iterable[bytes]) -> Chain:
        """Return the chain behind more items."""
        return Chain((self.total + sum(map(number_of, items))) % MODULUS)

    def at(self, *place: int) -> bytes:
        """Return what a message states that ends at a place: the SHA-256 of the sum and of the place."""
        return sha256(b"".join([self.pack(), *(part.to_bytes(8, "big") for part in place)])).digest()

    def pack(self) -> bytes:
        """Return the sum as 32 bytes."""
        return self.total.to_bytes(32, "big")

    @classmethod
    def unpack(cls, data: bytes) -> Chain:
        """Return the chain that was packed; nothing is the chain of no items."""
        return cls(int.from_bytes(data, "big"))
