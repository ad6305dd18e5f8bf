"""Who may do what on a store's topics, as rules for the broker's authorizer. docs/kafka.md explains them."""

from __future__ import annotations

from typing import NamedTuple

from margin_stream.kafka.address import KafkaAddress


class Rule(NamedTuple):
    """One role may do some operations on a topic, a group, or on what begins with a name."""

    role: str
    """``producers`` send inputs, ``workers`` fold, ``readers`` ask and verify, ``operators`` make and rebuild."""
    operations: tuple[str, ...]
    resource: str
    """``topic`` or ``group``."""
    name: str
    prefixed: bool = False
    """Everything that begins with the name."""


def access_rules(address: KafkaAddress) -> list[Rule]:
    """Return the least that each role needs. Only workers write derived topics."""
    topics = address.topics
    all_of_it = f"{address.name}."
    logs = [topics.changelog(source) for source in (topics.inputs, topics.accounts, topics.effects)]
    return [
        Rule("producers", ("Write", "Describe"), "topic", topics.inputs),
        Rule("workers", ("Read", "Describe"), "topic", topics.inputs),
        Rule("workers", ("Read", "Describe"), "topic", topics.manifest),
        *(
            Rule("workers", ("Read", "Write"), "topic", name)
            for name in (topics.accounts, topics.effects, topics.alerts)
        ),
        *(Rule("workers", ("Write", "Describe"), "topic", name) for name in (topics.quarantine, topics.digests)),
        *(Rule("workers", ("Read", "Write", "Delete"), "topic", name) for name in logs),
        Rule("workers", ("Read",), "group", address.group),
        Rule("readers", ("Read", "Describe"), "topic", all_of_it, prefixed=True),
        Rule("readers", ("Describe",), "group", address.group),
        Rule("operators", ("All",), "topic", all_of_it, prefixed=True),
        Rule("operators", ("Describe",), "group", address.group),
    ]


def arguments(rule: Rule) -> list[str]:
    """Return a rule as options of Kafka's own tool; the principal is the role's name."""
    found = ["--add", "--allow-principal", f"User:{rule.role}"]
    for operation in rule.operations:
        found += ["--operation", operation]
    found += [f"--{rule.resource}", rule.name]
    return [*found, "--resource-pattern-type", "prefixed"] if rule.prefixed else found
