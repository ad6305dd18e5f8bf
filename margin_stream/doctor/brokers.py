"""Checks of a store on Kafka: the brokers, the topics and their settings."""

from __future__ import annotations

from collections.abc import Iterator

from margin_stream.doctor.findings import Finding, ok, problem, skipped, warning
from margin_stream.journal.layout import StoreError
from margin_stream.kafka.address import MESSAGE_LIMIT, KafkaAddress
from margin_stream.kafka.broker_info import Topic, describe_brokers, describe_topics
from margin_stream.kafka.client import Client, KafkaError
from margin_stream.kafka.strays import strays
from margin_stream.kafka.topics_admin import TopicsIncomplete, TopicsMissing, read_manifest

TESTED = "4.3"


def broker(client: Client, address: KafkaAddress, session_s: float) -> Iterator[Finding]:
    """Check brokers and topics.

    Args:
        client: connected.
        address: of the store.
        session_s: how long workers may be silent (the setting ``worker.session_s``).

    Raises:
        Unreachable: no broker answers.
    """
    found = describe_brokers(client)
    yield ok("broker.reachable", f"{', '.join(address.servers)}: {found.size} brokers, controller {found.controller}")
    if found.at_least is None or found.at_least < (4, 0):
        text = (
            "older than 2.8"
            if found.at_least is None
            else f"at least {'.'.join(map(str, found.at_least))}, older than 4.0"
        )
        yield warning("broker.version", text, f"It may do; tested with Kafka {TESTED}.")
    else:
        yield ok("broker.version", f"4.0 or newer, by its protocol (tested with {TESTED})")
    least_ms = found.settings.get("group.min.session.timeout.ms")
    if least_ms is None:
        yield skipped("broker.sessions", "the broker does not tell group.min.session.timeout.ms")
    elif int(least_ms) > session_s * 1000:
        mend = (
            f"Set worker.session_s to {int(least_ms) / 1000:g} or more, or the broker's group.min.session.timeout.ms "
            f"to {session_s * 1000:.0f}."
        )
        yield problem(
            "broker.sessions",
            f"group.min.session.timeout.ms is {least_ms}, workers ask for {session_s * 1000:.0f}",
            mend,
        )
    else:
        yield ok(
            "broker.sessions", f"group.min.session.timeout.ms is {least_ms}, workers ask for {session_s * 1000:.0f}"
        )
    yield from _topics(client, address)


def _topics(client: Client, address: KafkaAddress) -> Iterator[Finding]:
    try:
        manifest = read_manifest(client, address)
    except TopicsMissing as error:
        yield skipped(
            "store.topics", str(error), f"`margin-stream kafka init --store {address.url} --partitions N` makes it."
        )
        return
    except TopicsIncomplete as error:
        mend = (
            "If creating or repartitioning it was interrupted: "
            f"`margin-stream kafka repartition --store {address.url} --partitions N`."
        )
        yield problem("store.topics", str(error), mend)
        return
    except (StoreError, KafkaError) as error:
        yield problem(
            "store.topics", str(error), "Correct what is named; `margin-stream verify` checks the topics' content."
        )
        return
    topics = address.topics
    names = [topics.inputs, topics.manifest, *topics.derived]
    found = describe_topics(client, names)
    yield ok(
        "store.topics",
        f"{len(found)} topics, {manifest.partitions} partitions of accounts, rules version {manifest.rules_version}",
    )
    for name in names:
        if name in found:
            yield _settings(name, found[name], forever=name != topics.digests)
    workers = client.members(address.group)
    yield ok("store.workers", f"{len(workers)} workers" if workers else "no worker runs: commands fold by themselves")
    records = client.end(topics.inputs)
    first = client.beginning(topics.inputs)
    if first:
        yield problem(
            "store.journal",
            f"begins at record {first}: what was before is gone",
            "Restore the topic from a copy; see its retention.",
        )
    else:
        yield ok("store.journal", f"{records:,} records, from the first")
    outside = strays(client, address)
    if outside:
        yield problem(
            "store.strays",
            f"{sum(outside.values()):,} records lie in other partitions of {topics.inputs}: they are not in the journal",
            f"`margin-stream kafka move-strays --store {address.url}` moves them there.",
        )


def _settings(name: str, topic: Topic, *, forever: bool) -> Finding:
    """Check one topic: nothing that is needed may be deleted by the broker, and large inputs must fit."""
    given = topic.settings
    wrong, mend, thin = [], [], []
    if given.get("cleanup.policy") != "delete":
        wrong.append(f"cleanup.policy is {given.get('cleanup.policy')}")
        mend.append("cleanup.policy=delete")
    if forever and given.get("retention.ms") != "-1":
        wrong.append(f"retention.ms is {given.get('retention.ms')}: records will be deleted")
        mend.append("retention.ms=-1")
    if forever and given.get("retention.bytes", "-1") != "-1":
        wrong.append(f"retention.bytes is {given.get('retention.bytes')}: records will be deleted")
        mend.append("retention.bytes=-1")
    if int(given.get("max.message.bytes", MESSAGE_LIMIT)) < MESSAGE_LIMIT:
        wrong.append(f"max.message.bytes is {given.get('max.message.bytes')}")
        mend.append(f"max.message.bytes={MESSAGE_LIMIT}")
    least = int(given.get("min.insync.replicas", 1))
    text = f"{topic.partitions} partitions, {topic.replicas} copies, min.insync.replicas {least}"
    if wrong:
        change = (
            f"`kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {','.join(mend)}` "
            "(and restore what was deleted)."
        )
        return problem(f"topic.{name}", "; ".join(wrong), change)
    if topic.offline:
        return problem(
            f"topic.{name}", f"{text}; {topic.offline} partitions have no leader", "Bring the missing brokers back."
        )
    if topic.replicas < 2:
        thin.append("one copy: a lost disk loses it")
    elif least < 2:
        thin.append("a write counts with one copy")
    if topic.replicas > 1 and least >= topic.replicas:
        thin.append("no broker may be away, or writes stop")
    if thin:
        return warning(
            f"topic.{name}",
            f"{text}: {'; '.join(thin)}",
            "Three brokers, replicas 3 and min.insync.replicas=2 are meant for production.",
        )
    return ok(f"topic.{name}", text)
