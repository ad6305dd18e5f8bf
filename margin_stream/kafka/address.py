"""Where a Kafka store lives: ``kafka://HOST:PORT[,HOST:PORT]/NAME``, and the names of its topics."""

from __future__ import annotations

import re
from typing import NamedTuple

from margin_stream.journal.layout import StoreError
from margin_stream.settings import without_secret

SCHEME = "kafka://"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SERVER = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")

MESSAGE_LIMIT = 8 << 20
"""Bytes that a message of any topic may have: an input of 1 MiB grows a little on its way."""


class AddressError(StoreError, code="store_address_invalid"):
    """A store's address is not ``kafka://HOST:PORT[,HOST:PORT]/NAME``."""


class KafkaAddress(NamedTuple):
    """A store on Kafka."""

    servers: tuple[str, ...]
    name: str

    @property
    def url(self) -> str:
        """The address as text."""
        return f"{SCHEME}{','.join(self.servers)}/{self.name}"

    @property
    def topics(self) -> Topics:
        """The names of the store's topics."""
        return Topics(self.name)

    @property
    def group(self) -> str:
        """The consumer group of the workers, which is the Faust application's id."""
        return f"{self.name}.workers"


class Topics:
    """The names of a store's topics."""

    def __init__(self, name: str) -> None:
        self.manifest = f"{name}.manifest"
        """What the store is; one partition."""
        self.inputs = f"{name}.inputs"
        """The journal: one partition, kept for ever, open to other producers."""
        self.accounts = f"{name}.accounts"
        """Routed items, one partition a partition of accounts."""
        self.effects = f"{name}.effects"
        """Partition 0 is the intake's, partition p + 1 that of partition p of accounts."""
        self.alerts = f"{name}.alerts"
        self.quarantine = f"{name}.quarantine"
        self.digests = f"{name}.digests"
        """What every shard states its digest is, at sequence numbers that the intake asks for."""

    def cursor(self, outbox: str) -> str:
        """Return the topic that holds how far an outbox is. It is not derived: it lives on when partitions change."""
        return f"{self.inputs.removesuffix('.inputs')}.outbox.{outbox}"

    def changelog(self, source: str) -> str:
        """Return the changelog of the table that follows a topic."""
        return f"{source}.changelog"

    @property
    def derived(self) -> tuple[str, ...]:
        """Every topic that can be rebuilt from the journal."""
        logs = tuple(self.changelog(source) for source in (self.inputs, self.accounts, self.effects))
        return (self.accounts, self.effects, self.alerts, self.quarantine, self.digests, *logs)

    def partitions(self, count: int) -> dict[str, int]:
        """Return how many partitions each derived topic has when accounts have ``count``."""
        return {
            self.accounts: count,
            self.effects: count + 1,
            self.alerts: 1,
            self.quarantine: 1,
            self.digests: 1,
            self.changelog(self.inputs): 1,
            self.changelog(self.accounts): count,
            self.changelog(self.effects): count + 1,
        }


def parse_address(text: str) -> KafkaAddress:
    """Return the store that an address names.

    Raises:
        AddressError: with what is wrong and how an address looks.
    """
    form = "write kafka://HOST:PORT[,HOST:PORT]/NAME"
    servers, slash, name = text.removeprefix(SCHEME).partition("/")
    if "@" in text:
        # First of all: nothing of what may be a password is repeated.
        raise AddressError(
            f"--store {without_secret(text)}: names and passwords do not belong into an address", option="--store"
        )
    if not text.startswith(SCHEME) or not slash:
        raise AddressError(f"--store {text}: {form}", option="--store")
    for server in servers.split(","):
        found = _SERVER.fullmatch(server)
        if found is None or not 0 < int(found.group(2)) < 65536:
            raise AddressError(f"--store {text}: {server!r} is no HOST:PORT; {form}", option="--store")
    if _NAME.fullmatch(name) is None:
        raise AddressError(f"--store {text}: {name!r} is no name: 1-100 of A-Z a-z 0-9 . _ -; {form}", option="--store")
    return KafkaAddress(tuple(servers.split(",")), name)
