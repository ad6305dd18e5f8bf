"""Asking the workers of a store: who they are, how far they are, what they know of accounts."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, NamedTuple

import orjson
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from margin_stream.errors import Error
from margin_stream.kafka.address import KafkaAddress
from margin_stream.kafka.client import Client, Member
from margin_stream.views.call import by_deadline

TIMEOUT_S = 5
_UNIQUE = re.compile(r"-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
"""What the broker appends to a worker's name."""


class ShardStopped(Error, code="shard_stopped"):
    """A shard stopped at a fault; what waits for it would wait for ever."""


class Worker(NamedTuple):
    """A worker as the consumer group knows it."""

    name: str
    url: str


def workers(client: Client, address: KafkaAddress) -> list[Worker]:
    """Return the workers of a store; one that was killed is among them until its session ends."""
    return [Worker(_UNIQUE.sub("", member.name), _url(member)) for member in client.members(address.group)]


def _url(member: Member) -> str:
    try:
        data = ConsumerProtocolMemberMetadata.decode(member.metadata).user_data
        return str(json.loads(data)["url"]).rstrip("/")
    except (ValueError, KeyError, TypeError):
        return ""


def _get(url: str) -> tuple[int, Any]:
    """Return status and body of an answer; status 0 where there is none."""
    if not url.startswith(("http://", "https://")):
        return 0, None
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return answer.status, orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        try:
            return error.code, orjson.loads(error.read())
        except ValueError:
            return error.code, None
    except (OSError, ValueError):
        return 0, None


def ask_account(found: list[Worker], account: str) -> tuple[Worker, dict[str, Any] | None] | None:
    """Return who has an account, and its state (None where it is not open); None where no worker answers for it."""
    for worker in found:
        status, body = _get(f"{worker.url}/accounts/{urllib.parse.quote(account, safe='')}")
        if status == 200:
            return worker, body
        if status == 404 and isinstance(body, dict) and body.get("error") == "unknown":
            return worker, None
    return None


def ask_calls(
    found: list[Worker], partitions: int, account: str | None, open_only: bool
) -> list[dict[str, Any]] | None:
    """Return the margin calls that all workers together know, by deadline; None where a partition is with none of
    them."""
    rows: list[dict[str, Any]] = []
    seen: set[int] = set()
    query = urllib.parse.urlencode(
        {**({"account": account} if account else {}), **({"open": "1"} if open_only else {})}
    )
    for worker in found:
        status, body = _get(f"{worker.url}/calls?{query}")
        if status == 200 and not seen & set(body["partitions"]):
            seen.update(body["partitions"])
            rows.extend(body["calls"])
    return by_deadline(rows) if len(seen) == partitions else None


def check_shards(found: list[Worker]) -> None:
    """Ask all workers how their shards are.

    Raises:
        ShardStopped: one stopped at a fault.
    """
    for worker in found:
        for row in ask_shards(worker) or ():
            if row["failed"]:
                raise ShardStopped(
                    f"worker {worker.name}: {row['failed']}", topic=row["topic"], partition=row["partition"]
                )


def ask_shards(worker: Worker) -> list[dict[str, Any]] | None:
    """Return what a worker states of its shards; None where it does not answer."""
    status, body = _get(f"{worker.url}/shards")
    return body if status == 200 else None
