"""Compressed batches of a broker, unpacked up to a limit that is checked before memory is taken.

Records of any codec are read: gzip, snappy (raw, and in blocks as Java's clients write it), lz4, zstd. aiokafka unpacks
whatever a few kilobytes hold; these functions take the place of its own.
"""

from __future__ import annotations

import zlib
from typing import Any

import cramjam
from aiokafka.record import default_records

UNPACKED_LIMIT = 64 << 20
"""A batch may have so many bytes."""
_JAVA = b"\x82SNAPPY\x00"
_JAVA_HEAD = 16
_GZIP = 31


class Unreadable(ValueError):
    """A batch cannot be unpacked."""


UNREADABLE = (Unreadable, cramjam.DecompressionError, zlib.error)
"""What the functions here raise."""


def _bounded(size: int) -> None:
    if size > UNPACKED_LIMIT:
        raise Unreadable(f"it unpacks to more than {UNPACKED_LIMIT >> 20} MiB")


def gzip_decode(packed: Any) -> bytes:
    """Return what gzip packed, of any number of members."""
    parts, left, size = [], bytes(packed), 0
    while left:
        member = zlib.decompressobj(_GZIP)
        part = member.decompress(left, UNPACKED_LIMIT - size + 1)
        size += len(part)
        _bounded(size)
        if not member.eof:
            raise Unreadable("it ends too early")
        parts.append(part)
        left = member.unused_data
    return b"".join(parts)


def snappy_decode(packed: Any) -> bytes:
    """Return what snappy packed, as one block or in the blocks of Java's clients."""
    data = bytes(packed)
    if not data.startswith(_JAVA):
        return _block(data, 0)
    parts, at, size = [], _JAVA_HEAD, 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        parts.append(_block(data[at + 4 : end], size))
        size += len(parts[-1])
        at = end
    return b"".join(parts)


def _block(data: bytes, before: int) -> bytes:
    """Return an unpacked block; it begins with its own length in groups of seven bits."""
    length = shift = 0
    for byte in data[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    _bounded(before + length)
    return bytes(cramjam.snappy.decompress_raw(data))


def _into(codec: Any, packed: Any) -> bytes:
    # The pages of what is not written are not taken.
    room = bytearray(UNPACKED_LIMIT + 1)
    size = codec.decompress_into(bytes(packed), room)
    _bounded(size)
    return bytes(memoryview(room)[:size])


def lz4_decode(packed: Any) -> bytes:
    """Return what lz4 packed, as a frame."""
    return _into(cramjam.lz4, packed)


def zstd_decode(packed: Any) -> bytes:
    """Return what zstd packed."""
    return _into(cramjam.zstd, packed)


def install() -> None:
    """Have every consumer of this process unpack by these functions."""
    import sys

    used = sys.modules[default_records.DefaultRecordBatch.__module__]
    for module in (default_records, used):
        for decode in (gzip_decode, snappy_decode, lz4_decode, zstd_decode):
            setattr(module, decode.__name__, decode)
