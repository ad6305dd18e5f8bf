"""Other ways in: files that grow, read by the service itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from margin_stream.schemas.ndjson import LINE_LIMIT
from margin_stream.service.engine import Engine, NotTheWriter

POLL_S = 0.1
CHUNK = 1 << 20
BATCH = 2000
"""So many inputs are sent at once."""


class FollowedFile:
    """A file of inputs that grows. It is read from its start, which is safe: what came before is a duplicate; one that
    is replaced or cut is read anew."""

    def __init__(self, path: Path, engine: Engine, clocked: Callable[[list[bytes]], list[bytes]]) -> None:
        """
        Args:
            path: of the file; it may come later.
            engine: takes the inputs, once this process writes.
            clocked: puts clocks between them.
        """
        self._path = path
        self._engine = engine
        self._clocked = clocked
        self.sent = 0
        """Inputs sent since the start."""

    async def follow(self) -> None:
        """Read until cancelled."""
        place: tuple[int, int] | None = None
        offset, rest = 0, b""
        while True:
            found = await asyncio.to_thread(self._read, place, offset)
            if found is None:
                await asyncio.sleep(POLL_S)
                continue
            place_now, offset_now, data = found
            if place_now != place or offset_now < offset:
                rest = b""  # What was half there belongs to another file.
            place, offset = place_now, offset_now + len(data)
            if not data:
                await asyncio.sleep(POLL_S)
                continue
            *lines, rest = (rest + data).split(b"\n")
            # Of a line over the limit its beginning is enough: it is refused.
            rest = rest[: LINE_LIMIT + 1]
            await self._send([line.rstrip(b"\r") for line in lines if line.strip()])

    def _read(self, place: tuple[int, int] | None, offset: int) -> tuple[tuple[int, int], int, bytes] | None:
        """Return which file there is, where was read, and what; None where there is none."""
        try:
            with self._path.open("rb") as stream:
                here = os.fstat(stream.fileno())
                now = here.st_dev, here.st_ino
                start = offset if now == place and here.st_size >= offset else 0
                stream.seek(start)
                return now, start, stream.read(CHUNK)
        except OSError:
            return None

    async def _send(self, lines: list[bytes]) -> None:
        for start in range(0, len(lines), BATCH):
            batch = self._clocked(lines[start : start + BATCH])
            while True:
                try:
                    await self._engine.send(batch)
                    break
                except NotTheWriter:
                    await asyncio.sleep(POLL_S)
            self.sent += len(batch)
