"""Identity over all sources: feeds, books, answers, and bytes that could not be decoded. Whether an input is new is
asked here and nowhere else.

A source is a feed or a book by its first item, for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

from margin_stream.core.digests import MODULUS
from margin_stream.core.intake.answers import AnswerKeys
from margin_stream.core.intake.identity import HASH_BYTES, IDENTITY_WINDOW, BookSource, FeedSource, Seen, content_hash

MIXED, RESTARTED = FeedSource(""), FeedSource("")
"""Stand for the feed of a quote whose source is a book, and of one that numbers anew."""
_IDENTITY, _UNDECODABLE, _ANSWER = b"identity/", b"undecodable/", b"answer/"


class Sources:
    """What every source sent so far."""

    def __init__(self, window: int = IDENTITY_WINDOW) -> None:
        self.window = window
        """Identities of a book that keep their content hash."""
        self.feeds: dict[str, FeedSource] = {}
        self.books: dict[str, BookSource] = {}
        self.answers = AnswerKeys()
        self.undecodable: dict[bytes, None] = {}
        """SHA-256 of every input that could not be decoded."""
        self.not_compared = 0
        """Duplicates too old to be compared; not a fact."""
        self.duplicates_of_refused = 0
        """Duplicates of inputs that were refused; not a fact."""
        self.new_undecodable: list[bytes] = []
        self._undecodable_sum = 0

    # ---- what is new ----------------------------------------------------------------------------------------------

    def feed(self, source: str, sequence: int, event_time_ns: int) -> FeedSource | None:
        """Take a quote or clock: return the feed of a new one, None for a duplicate, MIXED where the source is a book,
        RESTARTED where the feed numbers anew."""
        feed = self.feeds.get(source)
        if feed is None:
            if source in self.books:
                seen = self._of_book(self.books[source], sequence, _quote(sequence))
                return None if seen is Seen.DUPLICATE else MIXED
            feed = self.feeds[source] = FeedSource(source)
        seen = self._of_feed(feed, sequence, event_time_ns)
        if seen is Seen.DUPLICATE:
            return None
        return RESTARTED if seen is Seen.RESTARTED else feed

    def is_new_of_feed(self, source: str, sequence: int, event_time_ns: int) -> bool:
        """Return whether ``feed`` would return a feed; nothing is taken."""
        feed = self.feeds.get(source)
        return source not in self.books and (feed is None or feed.look(sequence, event_time_ns) is Seen.NEW)

    def book(self, source: str, sequence: int, event_time_ns: int, spelled: bytes) -> Seen:
        """Take an item of a book with its canonical bytes: NEW, DUPLICATE, REUSED, or MIXED where the source is a
        feed."""
        book = self.books.get(source)
        if book is None:
            feed = self.feeds.get(source)
            if feed is not None:
                seen = self._of_feed(feed, sequence, event_time_ns)
                return seen if seen is Seen.DUPLICATE else Seen.MIXED
            book = self.books[source] = BookSource(source, self.window)
        return self._of_book(book, sequence, content_hash(spelled))

    def _of_feed(self, feed: FeedSource, sequence: int, event_time_ns: int) -> Seen:
        seen = feed.look(sequence, event_time_ns)
        if seen is Seen.DUPLICATE_OF_REFUSED:
            self.duplicates_of_refused += 1
            return Seen.DUPLICATE
        if seen is not Seen.DUPLICATE:
            feed.take(sequence, event_time_ns)
        return seen

    def _of_book(self, book: BookSource, sequence: int, content: bytes) -> Seen:
        seen = book.look(sequence, content)
        if seen is Seen.NOT_COMPARED:
            self.not_compared += 1
            return Seen.DUPLICATE
        if seen is Seen.DUPLICATE_OF_REFUSED:
            self.duplicates_of_refused += 1
            return Seen.DUPLICATE
        if seen is not Seen.DUPLICATE:
            book.take(sequence, content)
        return seen

    def refuse(self, source: str, sequence: int, spelled: bytes) -> None:
        """Note that what was just taken was refused.

        Args:
            source: of the input.
            sequence: its number.
            spelled: its canonical bytes; empty for a quote or clock.
        """
        feed = self.feeds.get(source)
        if feed is not None:
            feed.refuse(sequence)
        else:
            self.books[source].refuse(sequence, content_hash(spelled) if spelled else _quote(sequence))

    def answer(self, outbox: str, effect: str, number: int) -> bool:
        """Take an answer to an effect; return whether it is new."""
        if self.answers.knows(outbox, effect, number):
            return False
        self.answers.take(outbox, effect, number)
        return True

    def raw(self, raw: bytes) -> bytes | None:
        """Take an input that could not be decoded: return the SHA-256 of its bytes, which is its identity for ever;
        None for a duplicate."""
        digest = sha256(raw).digest()
        if digest in self.undecodable:
            self.duplicates_of_refused += 1
            return None
        self._add_undecodable(digest)
        self.new_undecodable.append(digest)
        return digest

    def is_known_undecodable(self, raw: bytes) -> bool:
        """Return whether these bytes were refused as undecodable before (and so stay refused, whatever a later version
        could read)."""
        known = bool(self.undecodable) and sha256(raw).digest() in self.undecodable
        self.duplicates_of_refused += known
        return known

    def _add_undecodable(self, digest: bytes) -> None:
        self.undecodable[digest] = None
        self._undecodable_sum = (self._undecodable_sum + int.from_bytes(digest, "big")) % MODULUS

    # ---- digest, checkpoint ---------------------------------------------------------------------------------------

    def facts(self) -> list[Any]:
        """Return what is digested: feeds, books, undecodable inputs, then the facts of the answers."""
        return [
            [self.feeds[name].row() for name in sorted(self.feeds)],
            [
                [
                    name,
                    book.intervals(),
                    (book.total % MODULUS).to_bytes(32, "big"),
                    [[sequence, list(book.others[sequence])] for sequence in sorted(book.others)],
                ]
                for name, book in sorted(self.books.items())
            ],
            [len(self.undecodable), self._undecodable_sum.to_bytes(32, "big")],
            *self.answers.facts(),
        ]

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows that changed since the last ``mark_stored``: key and value."""
        for digest in self.new_undecodable:
            yield _UNDECODABLE + digest, b""
        for name, book in sorted(self.books.items()):
            for block in sorted(book.changed):
                yield _IDENTITY + name.encode() + b"\0" + block.to_bytes(8, "big"), book.block(block)
        for key, value in self.answers.rows():
            yield _ANSWER + key, value

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self.new_undecodable.clear()
        self.answers.mark_stored()
        for book in self.books.values():
            book.changed.clear()

    def restore(self, facts: list[Any], rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the whole state from facts and from what is its own among the rows, in order of key.

        Raises:
            ValueError: the rows are not what ``rows`` yields.
        """
        hashes: dict[str, list[bytes]] = {}
        answers: list[tuple[bytes, bytes]] = []
        for key, value in rows:
            if key.startswith(_IDENTITY):
                # Behind the name a separator and eight bytes; the name itself may hold the separator.
                hashes.setdefault(key[len(_IDENTITY) : -9].decode(), []).append(value)
            elif key.startswith(_UNDECODABLE):
                self._add_undecodable(key[len(_UNDECODABLE) :])
            elif key.startswith(_ANSWER):
                answers.append((key[len(_ANSWER) :], value))
        feeds, books, _, *answered = facts
        self.answers.restore(answered, answers)
        for row in feeds:
            self.feeds[row[0]] = FeedSource.of_row(*row)
        for name, intervals, total, others in books:
            book = self.books[name] = BookSource(name, self.window)
            whole = b"".join(hashes.pop(name, ()))
            held = sum(count for _, _, count in intervals)
            if len(whole) != held * HASH_BYTES:
                raise ValueError(f"identities of {name}: {len(whole) // HASH_BYTES} rows, {held} expected")
            book.restore(
                [(start, count, kept) for start, count, kept in intervals],
                whole,
                {sequence: dict.fromkeys(contents) for sequence, contents in others},
                int.from_bytes(total, "big"),
            )
        if hashes:
            raise ValueError(f"identities of {', '.join(sorted(hashes))}, which are no books")


def _quote(sequence: int) -> bytes:
    """Return what stands for the content of a quote or clock that a book sent."""
    return content_hash(f"quote {sequence}".encode())
