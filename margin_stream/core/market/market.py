"""The market as a fold sees it: the clock, accepted marks, staleness, margin profiles in force.

The intake and every partition keep a copy, fed with the same items; their digests must agree.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from margin_stream.core.margin.model import Profile, profile_of
from margin_stream.core.market.directory import PPM, Directory
from margin_stream.schemas.inputs import InstrumentListed, ProfileActivated

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class Market:
    """Clock, directory, marks and profiles at one position."""

    def __init__(self, rules_version: int) -> None:
        self.directory = Directory()
        self.clock_ns = 0
        """Nanoseconds since 1970; 0 before the first clock."""
        self.prices: list[int] = [1]
        """The last accepted mark of each instrument, in units of its price scale; 0 where there is none. The first is
        the unit."""
        self.marked_at_ns: list[int] = [0]
        self.stale: list[bool] = [False]
        self.unfresh: set[int] = set()
        """Instruments whose mark is open: stale, in doubt, or never made. Only membership is asked, never order."""
        self.in_doubt: dict[int, tuple[int, int]] = {}
        """Instrument -> least and greatest quote that was refused for its distance since the last mark."""
        self._by_age: dict[int, None] = {}
        """Instruments whose mark is not stale, oldest first."""
        self.profiles: dict[str, Profile] = {}
        self.waiting: list[ProfileActivated] = []
        """Accepted activations whose time has not come, in order of acceptance."""
        self.rules_version = rules_version
        self._shortest_limit_ns = 1 << 62

    def enlist(self, listed: InstrumentListed) -> None:
        """Add a listing that was found good."""
        instrument = self.directory.enlist(listed)
        if instrument is not None:
            self.prices.append(0)
            self.marked_at_ns.append(0)
            self.stale.append(False)
            self.unfresh.add(instrument.number)
            self._shortest_limit_ns = min(self._shortest_limit_ns, instrument.stale_after_ns)

    def mark(self, number: int, price: int) -> bool:
        """Set an accepted mark; return True where the instrument had no fresh one before."""
        self.prices[number] = price
        self.marked_at_ns[number] = self.clock_ns
        by_age = self._by_age
        if number in by_age:
            del by_age[number]
        by_age[number] = None
        if number in self.unfresh:
            self.unfresh.discard(number)
            self.stale[number] = False
            self.in_doubt.pop(number, None)
            return True
        return False

    def doubt(self, number: int, lowest: int, highest: int) -> None:
        """Note the least and greatest quote that was refused for its distance since the last mark."""
        self.in_doubt[number] = lowest, highest
        self.unfresh.add(number)

    def tick_clock(self, now_ns: int) -> tuple[list[Profile], list[int]]:
        """Move the clock; return the profiles that took effect and the instruments that went stale, in order of
        activation and number."""
        self.clock_ns = now_ns
        activated: list[Profile] = []
        if self.waiting:
            due = [event for event in self.waiting if event.effective_from <= now_ns]
            if due:
                self.waiting = [event for event in self.waiting if event.effective_from > now_ns]
                for event in sorted(due, key=lambda event: (event.effective_from, event.profile, event.version)):
                    known = self.profiles.get(event.profile)
                    if known is None or known.version < event.version:
                        profile = profile_of(event, self.directory, self.rules_version)
                        self.profiles[event.profile] = profile
                        activated.append(profile)
        gone: list[int] = []
        instruments = self.directory.instruments
        if self._by_age:
            # The oldest mark is first, but each instrument has its own limit; so all are looked at once the smallest
            # limit is over.
            oldest = next(iter(self._by_age))
            if now_ns - self.marked_at_ns[oldest] > self._shortest_limit_ns:
                for number in list(self._by_age):
                    instrument = instruments[number]
                    if instrument is not None and now_ns - self.marked_at_ns[number] > instrument.stale_after_ns:
                        gone.append(number)
                gone.sort()
                for number in gone:
                    del self._by_age[number]
                    self.stale[number] = True
                    self.unfresh.add(number)
        return activated, gone

    def open_range(self, number: int) -> tuple[int, int]:
        """Return the least and greatest price over which an instrument is valued whose mark is stale or in doubt, in
        units of its price scale."""
        instrument = self.directory.instruments[number]
        assert instrument is not None
        low = high = price = self.prices[number]
        if self.stale[number]:
            low = price * (PPM - instrument.band_maximum_ppm) // PPM
            high = -(-price * (PPM + instrument.band_maximum_ppm) // PPM)
        refused = self.in_doubt.get(number)
        return (low, high) if refused is None else (min(low, refused[0]), max(high, refused[1]))

    def facts(self) -> list[Any]:
        """Return everything that is digested, in one canonical shape (also the stored form)."""
        return [
            self.rules_version,
            self.clock_ns,
            self.directory.listings,
            [
                [self.prices[n], self.marked_at_ns[n], int(self.stale[n]), *self.in_doubt.get(n, ())]
                for n in range(1, len(self.prices))
            ],
            [self.profiles[name].activation for name in sorted(self.profiles)],
            self.waiting,
        ]

    def packed(self) -> bytes:
        """Return the facts as bytes."""
        return _encode(self.facts())

    def digest(self) -> bytes:
        """Return the SHA-256 of the facts."""
        return sha256(self.packed()).digest()

    @classmethod
    def unpacked(cls, data: bytes) -> Market:
        """Return the market of its packed facts."""
        rules_version, clock, listings, marks, active, waiting = _facts.decode(data)
        market = cls(rules_version)
        market.clock_ns, market.waiting = clock, waiting
        for listed in listings:
            market.enlist(listed)
        for number, (price, at_ns, stale, *refused) in enumerate(marks, start=1):
            market.prices[number], market.marked_at_ns[number], market.stale[number] = price, at_ns, bool(stale)
            if refused:
                market.in_doubt[number] = refused[0], refused[1]
            elif price and not stale:
                market.unfresh.discard(number)
        timed = [n for n in range(1, len(market.prices)) if market.prices[n] and not market.stale[n]]
        market._by_age = dict.fromkeys(sorted(timed, key=lambda n: market.marked_at_ns[n]))
        for event in active:
            market.profiles[event.profile] = profile_of(event, market.directory, rules_version)
        return market


_facts = msgspec.msgpack.Decoder(
    tuple[int, int, list[InstrumentListed], list[list[int]], list[ProfileActivated], list[ProfileActivated]]
)
