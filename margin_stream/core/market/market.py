"""The market as a fold sees it: the clock, accepted marks, staleness, margin profiles in force.

The intake and every partition keep a copy, fed with the same items; their digests must agree.
"""

from __future__ import annotations

from hashlib import sha256
from heapq import heappop, heappush
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
        self._timed: list[bool] = [False]
        """Instruments that have an entry in ``_expiries``: those whose mark is not stale."""
        self._expiries: list[tuple[int, int]] = []
        """A heap of (moment, instrument): before it, the mark is not stale. A later mark does not move the entry."""
        self.profiles: dict[str, Profile] = {}
        self.waiting: dict[int, ProfileActivated] = {}
        """Accepted activations whose time has not come, by number, in order of acceptance."""
        self._due: list[tuple[int, str, int, int]] = []
        """A heap of (effective from, profile, version, number) of those."""
        self._accepted = 0
        self.pricings = 0
        """How often more could be priced than before, by a first mark or an activation; not a fact."""
        self.rules_version = rules_version

    def enlist(self, listed: InstrumentListed) -> None:
        """Add a listing that was found good."""
        instrument = self.directory.enlist(listed)
        if instrument is not None:
            self.prices.append(0)
            self.marked_at_ns.append(0)
            self.stale.append(False)
            self.unfresh.add(instrument.number)
            self._timed.append(False)

    def wait(self, event: ProfileActivated) -> None:
        """Keep an accepted activation until its time has come."""
        self._accepted += 1
        self.waiting[self._accepted] = event
        heappush(self._due, (event.effective_from, event.profile, event.version, self._accepted))

    def mark(self, number: int, price: int) -> bool:
        """Set an accepted mark; return True where the instrument had no fresh one before."""
        if not self.prices[number]:
            self.pricings += 1
        self.prices[number] = price
        self.marked_at_ns[number] = self.clock_ns
        if not self._timed[number]:
            self._time(number)
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
        due = self._due
        while due and due[0][0] <= now_ns:
            event = self.waiting.pop(heappop(due)[-1])
            known = self.profiles.get(event.profile)
            if known is None or known.version < event.version:
                profile = profile_of(event, self.directory, self.rules_version)
                self.profiles[event.profile] = profile
                activated.append(profile)
                self.pricings += 1
        gone: list[int] = []
        expiries = self._expiries
        while expiries and expiries[0][0] < now_ns:
            number = heappop(expiries)[1]
            if self._expiry(number) < now_ns:
                gone.append(number)
                self._timed[number] = False
                self.stale[number] = True
                self.unfresh.add(number)
            else:
                self._time(number)
        gone.sort()
        return activated, gone

    def _expiry(self, number: int) -> int:
        """Return the last moment at which a mark is not stale."""
        instrument = self.directory.instruments[number]
        assert instrument is not None
        return self.marked_at_ns[number] + instrument.stale_after_ns

    def _time(self, number: int) -> None:
        """Look at an instrument's mark again when it is stale unless it was marked since."""
        heappush(self._expiries, (self._expiry(number), number))
        self._timed[number] = True

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
            list(self.waiting.values()),
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
        market.clock_ns = clock
        for event in waiting:
            market.wait(event)
        for listed in listings:
            market.enlist(listed)
        for number, (price, at_ns, stale, *refused) in enumerate(marks, start=1):
            market.prices[number], market.marked_at_ns[number], market.stale[number] = price, at_ns, bool(stale)
            if refused:
                market.in_doubt[number] = refused[0], refused[1]
            elif price and not stale:
                market.unfresh.discard(number)
            if price and not stale:
                market._time(number)
        for event in active:
            market.profiles[event.profile] = profile_of(event, market.directory, rules_version)
        return market


_facts = msgspec.msgpack.Decoder(
    tuple[int, int, list[InstrumentListed], list[list[int]], list[ProfileActivated], list[ProfileActivated]]
)
