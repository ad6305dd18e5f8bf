"""Codecs of batches: what clients pack is unpacked, what unpacks to too much is not, and takes little memory."""

from __future__ import annotations

import gzip
import os
import resource
from collections.abc import Callable
from random import Random

import cramjam
import pytest
from aiokafka.codec import snappy_encode

from margin_stream.kafka import codecs
from margin_stream.kafka.codecs import UNPACKED_LIMIT, UNREADABLE

Codec = Callable[[bytes], bytes]
CODECS: dict[str, tuple[Codec, Codec]] = {
    "gzip": (gzip.compress, codecs.gzip_decode),
    "snappy": (lambda data: bytes(cramjam.snappy.compress_raw(data)), codecs.snappy_decode),
    "snappy of Java": (snappy_encode, codecs.snappy_decode),
    "lz4": (lambda data: bytes(cramjam.lz4.compress(data)), codecs.lz4_decode),
    "zstd": (lambda data: bytes(cramjam.zstd.compress(data)), codecs.zstd_decode),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [1, 1000, 100_000, 3 << 20])
def test_what_was_packed_is_unpacked(name: str, size: int) -> None:
    encode, decode = CODECS[name]
    data = (os.urandom(499) * (size // 499 + 1))[:size]
    assert decode(encode(data)) == data


def test_members_of_gzip_follow_each_other() -> None:
    assert codecs.gzip_decode(gzip.compress(b"one") + gzip.compress(b"two")) == b"onetwo"


@pytest.mark.parametrize("name", CODECS)
def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked(name: str) -> None:
    encode, decode = CODECS[name]
    at_most = bytes(UNPACKED_LIMIT)
    assert len(decode(encode(at_most))) == UNPACKED_LIMIT
    bomb = encode(bytes(4 * UNPACKED_LIMIT))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UNREADABLE):
        decode(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3 * UNPACKED_LIMIT >> 10


@pytest.mark.parametrize("name", CODECS)
def test_what_is_damaged_is_refused(name: str) -> None:
    encode, decode = CODECS[name]
    data = os.urandom(3000)
    packed = encode(data)
    rng = Random(5)
    for cut in (1, len(packed) // 2, len(packed) - 1):
        with pytest.raises(UNREADABLE):
            decode(packed[:cut])
    for _ in range(200):
        other = bytearray(packed)
        other[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
        try:
            decode(bytes(other))
        except UNREADABLE:
            continue
