"""A broker as commands see it: topics made and deleted, messages sent and read, without an event loop of the
caller's."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
)

from margin_stream.errors import Error
from margin_stream.kafka import fetched
from margin_stream.kafka.address import MESSAGE_LIMIT
from margin_stream.kafka.fetched import OffsetsMissing
from margin_stream.settings import SettingsError, current, load

REQUEST_MS = 10_000
READ_WAIT_MS = 500
STALL_S = 30
T = TypeVar("T")


class Unreachable(Error, code="broker_unreachable"):
    """The broker does not answer."""


class SecurityError(Error, code="security_incomplete"):
    """The settings of security do not fit each other."""


def security(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return aiokafka's settings of security from the settings in force (``kafka.*``), or from those of an environment.

    Raises:
        SecurityError: they do not fit each other, one of them cannot be, or a file cannot be read.
    """
    try:
        kafka = (current() if environment is None else load(environment=environment)).settings.kafka
    except SettingsError as error:
        raise SecurityError(str(error), **error.where) from None
    protocol = kafka.security_protocol
    found: dict[str, Any] = {"security_protocol": protocol}
    try:
        if protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=kafka.ssl_cafile)
            if kafka.ssl_certfile:
                context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile)
            found["ssl_context"] = context
        if protocol.startswith("SASL"):
            password = kafka.sasl_password
            if kafka.sasl_password_file:
                password = Path(kafka.sasl_password_file).read_text().rstrip("\r\n")
            if not kafka.sasl_username or not password:
                raise SecurityError(
                    f"kafka.security_protocol is {protocol}: it needs kafka.sasl_username and kafka.sasl_password_file",
                    setting="kafka.security_protocol",
                )
            found |= {
                "sasl_mechanism": kafka.sasl_mechanism,
                "sasl_plain_username": kafka.sasl_username,
                "sasl_plain_password": password,
            }
    except OSError as error:
        file = error.filename or kafka.sasl_password_file or kafka.ssl_certfile or kafka.ssl_cafile or "kafka.*"
        raise SecurityError(f"{file}: cannot be used: {error.strerror or error}", file=file) from None
    return found


class Member(NamedTuple):
    """A worker as its consumer group knows it."""

    name: str
    metadata: bytes


async def _started(part: Any, stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start a part of aiokafka; one that does not come up in time is stopped again."""
    try:
        await asyncio.wait_for(part.start(), REQUEST_MS / 1000)
    except BaseException:
        with contextlib.suppress(Exception):
            await stop()
        raise


class Client:
    """A connection to a broker for one thread; close it."""

    def __init__(self, servers: Iterable[str]) -> None:
        fetched.install()
        self._servers = list(servers)
        self._security = security()
        self._loop = asyncio.new_event_loop()
        # aiokafka tells of every lost connection; what matters of it is raised.
        self._loop.set_exception_handler(lambda *_: None)
        self._admin_client: AIOKafkaAdminClient | None = None
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._readers: list[AIOKafkaConsumer] = []

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.run_until_complete(work)
        except (TimeoutError, KafkaConnectionError, KafkaTimeoutError) as error:
            servers = ",".join(self._servers)
            raise Unreachable(
                f"{servers}: the broker does not answer ({error or type(error).__name__})", servers=servers
            ) from None

    def _settings(self) -> dict[str, Any]:
        return {"bootstrap_servers": self._servers, "request_timeout_ms": REQUEST_MS, **self._security}

    def ask(self, work: Callable[[AIOKafkaAdminClient], Coroutine[Any, Any, T]]) -> T:
        """Return what some work with the admin client gives.

        Raises:
            Unreachable: the broker does not answer.
        """

        async def asked() -> T:
            return await work(await self._admin())

        return self._run(asked())

    # ---- topics ---------------------------------------------------------------------------------------------------

    async def _admin(self) -> AIOKafkaAdminClient:
        if self._admin_client is None:
            client = AIOKafkaAdminClient(**self._settings())
            await _started(client, client.close)
            self._admin_client = client
        return self._admin_client

    def topics(self) -> set[str]:
        """Return the names of all topics."""
        return set(self.ask(AIOKafkaAdminClient.list_topics))

    def partition_counts(self, topics: Iterable[str]) -> dict[str, int]:
        """Return how many partitions each of the topics has, those that exist."""

        async def work(admin: AIOKafkaAdminClient) -> dict[str, int]:
            return {
                row["topic"]: len(row["partitions"])
                for row in await admin.describe_topics(list(topics))
                if not row["error_code"]
            }

        return self.ask(work)

    def create_topics(
        self, topics: Mapping[str, int], settings: Mapping[str, Mapping[str, str]], replicas: int
    ) -> None:
        """Make topics; those that exist are left as they are.

        Args:
            topics: name -> partitions.
            settings: name -> settings of the topic.
            replicas: of each; 0 for as many as there are brokers, at most 3.

        Raises:
            KafkaError: the broker refuses.
        """

        async def work(admin: AIOKafkaAdminClient) -> None:
            count = replicas or min(3, len((await admin.describe_cluster())["brokers"]))
            for name, partitions in topics.items():
                fresh = NewTopic(name, partitions, count, topic_configs=dict(settings.get(name, {})))
                for _ in range(100):
                    answer = await admin.create_topics([fresh])
                    code, text = answer.topic_errors[0][1], answer.topic_errors[0][2]
                    if code in (0, 36):
                        break
                    if code not in (7, 41):
                        raise KafkaError(f"topic {name}: {text or code}")
                    await asyncio.sleep(0.1)

        self.ask(work)
        self._await_topics(set(topics), there=True)

    def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics and wait until they are gone."""
        present = sorted(set(names) & self.topics())
        if present:
            self.ask(partial(AIOKafkaAdminClient.delete_topics, topics=present))
            self._await_topics(set(present), there=False)

    def _await_topics(self, names: set[str], *, there: bool) -> None:
        async def work(admin: AIOKafkaAdminClient) -> None:
            for _ in range(300):
                found = names & set(await admin.list_topics())
                if (found == names) if there else not found:
                    return
                await asyncio.sleep(0.1)
            raise KafkaTimeoutError(f"topics {sorted(names)} do not {'appear' if there else 'go'}")

        self.ask(work)

    def members(self, group: str) -> list[Member]:
        """Return the members of a consumer group."""

        async def work(admin: AIOKafkaAdminClient) -> list[Member]:
            for attempt in range(100):
                try:
                    answers = await admin.describe_consumer_groups([group])
                    break
                except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
                    # A broker that never had a group makes the topic of its groups first.
                    if attempt == 99:
                        raise
                    await asyncio.sleep(0.1)
            members = (member for answer in answers for row in answer.groups for member in row[5])
            return [Member(member[0], bytes(member[3] or b"")) for member in members]

        return self.ask(work)

    # ---- reading --------------------------------------------------------------------------------------------------

    async def _new_consumer(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._settings(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=MESSAGE_LIMIT,
            fetch_max_wait_ms=100,
            check_crcs=True,
            isolation_level=fetched.ISOLATION,
        )
        await _started(consumer, consumer.stop)
        return consumer

    async def _shared(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = await self._new_consumer()
        return self._consumer

    def end(self, topic: str, partition: int = 0) -> int:
        """Return the offset behind the last message that counts."""

        async def work() -> int:
            place = TopicPartition(topic, partition)
            return int((await (await self._shared()).end_offsets([place]))[place])

        return self._run(work())

    def beginning(self, topic: str, partition: int = 0) -> int:
        """Return the offset of the first message."""

        async def work() -> int:
            place = TopicPartition(topic, partition)
            return int((await (await self._shared()).beginning_offsets([place]))[place])

        return self._run(work())

    def read(
        self, topic: str, partition: int = 0, start: int = 0, end: int | None = None, *, whole: bool = False
    ) -> Iterator[ConsumerRecord]:
        """Yield messages from one offset up to another (by default the end as it is now), in order. Markers of
        transactions, and what they took back, are passed over.

        Args:
            topic: its name.
            partition: of it.
            start: the first offset.
            end: the offset behind the last.
            whole: no other message may be missing.

        Raises:
            Unreachable: nothing came for half a minute.
            OffsetsMissing: messages are missing, and must not be.
        """
        first = max(start, self.beginning(topic, partition))
        if whole and first > start:
            raise OffsetsMissing(topic, partition, start, first)
        last = self.end(topic, partition) if end is None else end
        if first >= last:
            return
        place = TopicPartition(topic, partition)

        async def opened() -> AIOKafkaConsumer:
            consumer = await self._new_consumer()
            consumer.assign([place])
            consumer.seek(place, first)
            return consumer

        consumer = self._run(opened())
        self._readers.append(consumer)
        try:
            expected = first
            idle = 0.0
            position = first
            while max(expected, position) < last:
                batch = self._run(consumer.getmany(place, timeout_ms=READ_WAIT_MS, max_records=2000)).get(place, [])
                idle = 0.0 if batch else idle + READ_WAIT_MS / 1000
                if idle >= STALL_S:
                    raise Unreachable(
                        f"{topic}-{partition}: nothing came behind offset {expected} for {STALL_S} s; the broker is "
                        "slow, or a transaction is open there",
                        topic=topic,
                        partition=partition,
                        offset=expected,
                    )
                for record in batch:
                    if record.offset >= last:
                        return
                    if whole and record.offset > (found := fetched.behind(topic, partition, expected)):
                        raise OffsetsMissing(topic, partition, found, record.offset)
                    expected = record.offset + 1
                    yield record
                position = self._run(consumer.position(place))
        finally:
            self._readers.remove(consumer)
            with contextlib.suppress(Exception):
                self._run(consumer.stop())

    def last(self, topic: str, partition: int = 0) -> ConsumerRecord | None:
        """Return the last message of a partition, or None."""
        end = self.end(topic, partition)
        return next(iter(self.read(topic, partition, end - 1, end)), None) if end else None

    # ---- sending --------------------------------------------------------------------------------------------------

    async def _sender(self) -> AIOKafkaProducer:
        if self._producer is None:
            settings = self._settings() | {"request_timeout_ms": 30_000}
            producer = AIOKafkaProducer(
                **settings, acks="all", enable_idempotence=True, linger_ms=2, max_request_size=MESSAGE_LIMIT
            )
            await _started(producer, producer.stop)
            self._producer = producer
        return self._producer

    def send(self, topic: str, values: Iterable[bytes | None], *, partition: int = 0) -> int:
        """Send messages in order and wait until the broker has all of them; return the offset of the last."""

        async def work() -> int:
            producer = await self._sender()
            # A message without value needs a key.
            futures = [
                await producer.send(topic, value, key=b"" if value is None else None, partition=partition)
                for value in values
            ]
            offset = -1
            for future in futures:
                offset = (await future).offset
            return offset

        return self._run(work())

    def close(self) -> None:
        """Let go of every connection."""

        async def work() -> None:
            for part in (self._producer, self._consumer, *self._readers):
                if part is not None:
                    with contextlib.suppress(Exception):
                        await asyncio.wait_for(part.stop(), 5)
            if self._admin_client is not None:
                with contextlib.suppress(Exception):
                    await self._admin_client.close()

        with contextlib.suppress(Exception):
            self._loop.run_until_complete(work())
        self._loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


__all__ = ["Client", "KafkaError", "Member", "SecurityError", "Unreachable", "security"]
