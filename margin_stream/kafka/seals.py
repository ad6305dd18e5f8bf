"""A store's key: with one (the setting ``kafka.derived_key_file``) every message of a derived topic is sealed, and one
that is not sealed with it is refused.

A sealed message is the byte 0xC1, which begins no msgpack, the HMAC-SHA256 of topic, partition and content, and the
content. Without a key, seals are passed over.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from margin_stream.errors import Error
from margin_stream.schemas.binary import UNDECODABLE
from margin_stream.settings import current

T = TypeVar("T")

MARK = b"\xc1"
SIZE = 32
LEAST = 32
"""Bytes of a key."""


class KeyUnusable(Error, code="derived_key_unusable"):
    """The file of the key of derived topics cannot be used."""


class Foreign(Exception):
    """A message of a derived topic that is none of this store's."""


class Seal:
    """Seals messages with a key, or leaves them as they are."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key

    def _code(self, topic: str, partition: int, content: bytes) -> bytes:
        return hmac.digest(self._key or b"", f"{topic}-{partition}\n".encode() + content, "sha256")

    def put(self, topic: str, partition: int, content: bytes) -> bytes:
        """Return the message for a topic's partition."""
        return content if self._key is None else MARK + self._code(topic, partition, content) + content

    def read(self, decode: Callable[[bytes], T], topic: str, partition: int, value: bytes | None) -> T:
        """Return the message of a topic's partition, decoded.

        Raises:
            Foreign: it is not sealed with the key that there is, or cannot be decoded.
        """
        value = value or b""
        sealed = value[:1] == MARK
        content = value[1 + SIZE :] if sealed else value
        if self._key is not None and not (
            sealed and hmac.compare_digest(value[1 : 1 + SIZE], self._code(topic, partition, content))
        ):
            raise Foreign("it is not sealed with the store's key (kafka.derived_key_file)")
        try:
            return decode(content)
        except UNDECODABLE as error:
            raise Foreign(f"it has no form of ours: {error}") from None


OPEN = Seal()
"""Without a key."""


def configured_seal() -> Seal:
    """Return the seal of the key in the settings.

    Raises:
        KeyUnusable: the file cannot be read, or holds too little.
    """
    name = current().settings.kafka.derived_key_file
    if name is None:
        return OPEN
    try:
        key = Path(name).read_bytes().strip()
    except OSError as error:
        raise KeyUnusable(f"kafka.derived_key_file: {name}: {error.strerror}", file=name) from None
    if len(key) < LEAST:
        raise KeyUnusable(f"kafka.derived_key_file: {name}: {len(key)} bytes, at least {LEAST} are needed", file=name)
    return Seal(key)
