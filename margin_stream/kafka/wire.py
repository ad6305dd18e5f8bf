"""The messages of the derived topics: msgpack arrays, decoded on trust of their generation.

Every derived message carries the store's *generation*: derived topics that were rebuilt have a new one, and messages of another generation
(a worker that slept through the rebuilding) are passed over.
"""

from __future__ import annotations

import msgspec

from margin_stream.core.routed import AnyRouted
from margin_stream.journal.layout import CorruptManifest, StoreNewer

MANIFEST_FORMAT = 1


class StoreManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a store on Kafka is; the last record of its manifest topic holds. JSON."""

    format: int = MANIFEST_FORMAT
    store_id: str
    generation: str
    """Of the derived topics; 16 hexadecimal characters."""
    partitions: int
    """Partitions of accounts."""
    slots: int
    engine_version: int
    clock_source: str = "input"


class Routed(msgspec.Struct, frozen=True, array_like=True):
    """Routed items for one partition: those of the positions after ``previous`` up to ``last`` that concern it."""

    generation: str
    previous: int
    """The last position that was sent to this partition before."""
    last: int
    items: list[AnyRouted]
    market_digest: bytes = b""
    """The intake's market at ``last``; empty where the partition need not compare."""
    asked: bool = False
    """The partition is to say its digest at ``last``."""


class EffectsRecord(msgspec.Struct, frozen=True, array_like=True):
    """What a shard decided after ``previous`` up to ``last``."""

    generation: str
    shard: int
    """0 is the intake, p + 1 is partition p of accounts."""
    previous: int
    last: int
    effects: list[tuple[int, bytes]]
    """Position and canonical bytes, in order."""


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """Rows of a table that changed after one offset of its source up to another: a true statement about a deterministic fold.

    Its parts are messages that carry the same ``nonce`` and ``upto``; it counts once all are there.
    """

    generation: str
    nonce: str
    after: int
    """-1 for a base, which holds every row."""
    upto: int
    part: int
    parts: int
    rows: list[tuple[bytes, bytes]]


class DigestPart(msgspec.Struct, frozen=True, array_like=True):
    """What one shard says of itself at a position that the intake asked for."""

    generation: str
    shard: int
    position: int
    offset: int
    """Of the intake: the last record of the journal up to there."""
    head: bytes
    """Of the intake: its digest, and counts and chains of its effects; empty for the others."""
    effects_head: bytes
    state_sums: bytes
    """Slot (2 bytes) and sum (32 bytes) of each slot that is not 0."""
    effect_sums: bytes
    counts: list[int]
    """Of the intake: accepted, duplicate, refused, effects. Of the others: accounts, effects."""


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_routed = msgspec.msgpack.Decoder(Routed).decode
decode_effects = msgspec.msgpack.Decoder(EffectsRecord).decode
decode_delta = msgspec.msgpack.Decoder(Delta).decode
decode_digest_part = msgspec.msgpack.Decoder(DigestPart).decode


def pack_sums(sums: dict[int, int]) -> bytes:
    """Return slot sums as bytes."""
    return b"".join(slot.to_bytes(2, "big") + sums[slot].to_bytes(32, "big") for slot in sorted(sums) if sums[slot])


def unpack_sums(data: bytes) -> dict[int, int]:
    """Return the slot sums of ``pack_sums``."""
    return {int.from_bytes(data[n : n + 2], "big"): int.from_bytes(data[n + 2 : n + 34], "big") for n in range(0, len(data), 34)}


def decode_manifest(data: bytes) -> StoreManifest:
    """Return a manifest.

    Raises:
        CorruptManifest: it is damaged.
        StoreNewer: it is of a newer format.
    """
    try:
        manifest = msgspec.json.decode(data, type=StoreManifest)
    except msgspec.DecodeError as error:
        raise CorruptManifest(f"the manifest topic holds no manifest: {error}") from None
    if manifest.format > MANIFEST_FORMAT:
        raise StoreNewer(f"the store was made by a newer margin-stream (format {manifest.format}; this one knows {MANIFEST_FORMAT})")
    return manifest
