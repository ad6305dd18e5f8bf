"""How far an outbox is, kept durably: a file in a folder, or a topic of its own."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import msgspec

from margin_stream.errors import Error
from margin_stream.journal.disk import Disk
from margin_stream.kafka.address import KafkaAddress
from margin_stream.kafka.client import Client
from margin_stream.kafka.topics_admin import FOR_EVER
from margin_stream.schemas.binary import encode

SETTINGS = {**FOR_EVER, "retention.bytes": str(1 << 20), "segment.bytes": str(1 << 20)}
"""Of a cursor's topic: only its end counts."""


class CursorDamaged(Error, code="cursor_damaged"):
    """What is kept of an outbox's progress cannot be read."""


class CursorDiffers(Error, code="cursor_differs"):
    """The cursor is of another store, or of a later state of this one."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Everything up to a place was handled."""

    sequence: int = 0
    group: str = ""
    number: int = 0
    store: str = ""
    """The id of the store."""
    generation: str = ""
    """Of its record of effects, to which the marks belong."""
    marks: list[list[Any]] = []
    """Of each log: behind which record to read on. They save reading; the place decides."""

    @property
    def place(self) -> tuple[int, str, int]:
        """The last effect that was handled."""
        return self.sequence, self.group, self.number


class CursorStore(Protocol):
    """Keeps the cursor of one outbox."""

    def load(self) -> Cursor:
        """Return the cursor that was saved last; one at the start where none was.

        Raises:
            CursorDamaged: what is there is no cursor.
        """

    def save(self, cursor: Cursor) -> None:
        """Return once the cursor is durable."""


def _decoded(data: bytes, place: str) -> Cursor:
    try:
        if sha256(data[32:]).digest() != data[:32]:
            raise ValueError("it does not match its checksum")
        return msgspec.msgpack.decode(data[32:], type=Cursor)
    except ValueError as error:
        raise CursorDamaged(f"{place}: offset 0: the cursor is damaged: {error}", file=place, offset=0) from None


def _encoded(cursor: Cursor) -> bytes:
    data = encode(cursor)
    return sha256(data).digest() + data


class FileCursor:
    """In a file: 32 bytes of SHA-256, then the cursor in msgpack."""

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self._path = path.absolute()
        self._disk = disk or Disk()

    def load(self) -> Cursor:
        """See ``CursorStore``."""
        return _decoded(self._path.read_bytes(), str(self._path)) if self._path.exists() else Cursor()

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._disk.replace(self._path, _encoded(cursor))


class TopicCursor:
    """On a topic with one partition: the last record holds."""

    def __init__(self, client: Client, address: KafkaAddress, outbox: str) -> None:
        self._client = client
        self._topic = address.topics.cursor(outbox)
        client.create_topics({self._topic: 1}, {self._topic: SETTINGS}, 0)

    def load(self) -> Cursor:
        """See ``CursorStore``."""
        last = self._client.last(self._topic)
        return Cursor() if last is None else _decoded(last.value or b"", self._topic)

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``."""
        self._client.send(self._topic, [_encoded(cursor)])
