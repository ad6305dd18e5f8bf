"""What moves the clock of an ingest: the inputs themselves, their event times, or this machine's clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from margin_stream.schemas.inputs import ClockTicked
from margin_stream.schemas.ndjson import encode_line
from margin_stream.schemas.times import DAY_NS, SECOND_NS, TimeError, format_time, parse_time

ClockName = Literal["input", "event-time", "wall"]
WALL_EVERY_NS = SECOND_NS
JUMP_LIMIT_NS = 8 * DAY_NS
"""A clock that jumps further needs a person who confirms it."""


class _Timed(msgspec.Struct):
    """What is read of a line to know its time."""

    event_time: str = ""


_timed = msgspec.json.Decoder(_Timed)


def clock_line(source: str, time_ns: int) -> bytes:
    """Return a clock as a line; its number is its time, so one that is sent again is a duplicate."""
    return encode_line(ClockTicked(source=source, source_seq=time_ns, event_time=time_ns, time=time_ns))[:-1]


class Clock:
    """Puts clocks between the lines of an ingest."""

    def __init__(self, mode: ClockName, *, store_ns: Callable[[], int], warn: Callable[[str], None]) -> None:
        """
        Args:
            mode: what moves the clock.
            store_ns: returns the store's clock, 0 where there is none or it is not known.
            warn: told once where this machine's clock cannot move the store's.
        """
        self._mode = mode
        self._store_ns = store_ns
        self._warn: Callable[[str], None] | None = warn
        self._last_ns = 0

    def lines(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the lines, and a clock before each that needs one."""
        if self._mode == "input":
            yield from lines
            return
        for line in lines:
            ticked = self._by_event(line) if self._mode == "event-time" else self.due()
            if ticked is not None:
                yield ticked
            yield line

    def _by_event(self, line: bytes) -> bytes | None:
        """Return a clock at the event time of a line, where that is later than any before."""
        try:
            moment = parse_time(_timed.decode(line).event_time)
        except (msgspec.MsgspecError, UnicodeDecodeError, TimeError):
            return None  # The line itself is refused, with its reason.
        known = max(self._last_ns, self._store_ns())
        if moment <= known:
            return None
        if known and moment - known > JUMP_LIMIT_NS:
            if self._warn is not None:
                self._warn(
                    f"--clock event-time: an input of {format_time(moment)} is more than eight days past the clock, "
                    f"{format_time(known)}: the clock is not moved by it"
                )
                self._warn = None
            return None
        self._last_ns = moment
        return clock_line("clock/event-time", moment)

    def due(self) -> bytes | None:
        """Return a clock of this machine, where the last one is a second old; None in another mode."""
        if self._mode != "wall":
            return None
        now = time.time_ns()
        if now - self._last_ns < WALL_EVERY_NS:
            return None
        known = self._store_ns()
        if known and not 0 < now - known <= JUMP_LIMIT_NS:
            if self._warn is not None:
                self._warn(
                    f"--clock wall: the store's clock is {format_time(known)}, this machine's {format_time(now)}: it is not "
                    "moved; send a clock_ticked with confirmed_by where a person confirms the jump"
                )
                self._warn = None
            return None
        self._last_ns = now
        return clock_line("clock/wall", now)
