"""Commands of a store on Kafka: kafka init, status, repartition; worker; and what ``ingest`` does there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from margin_stream.cli.error_output import failure, report
from margin_stream.cli.errors import DONE
from margin_stream.cli.output import OnStore, print_note, show, show_rows
from margin_stream.cli.usage import UsageError, WrongKindOfStore
from margin_stream.kafka.address import KafkaAddress, parse_address
from margin_stream.settings import without_secret

if TYPE_CHECKING:
    from margin_stream.core.intake.admission import Counts
    from margin_stream.core.store_fold import Digests
    from margin_stream.kafka.client import Client
    from margin_stream.kafka.reader import KafkaReader


def address_of(common: OnStore) -> KafkaAddress:
    """Return the Kafka store that a command names.

    Raises:
        WrongKindOfStore: it names a folder.
        AddressError: it is no address.
    """

    if not common.on_kafka:
        named = without_secret(common.store)
        text = f"--store {named}: this command is for stores on Kafka: kafka://HOST:PORT[,HOST:PORT]/NAME"
        raise WrongKindOfStore(text, store=without_secret(common.store))
    return parse_address(common.store)


@contextmanager
def connected(common: OnStore) -> Iterator[tuple[Client, KafkaAddress]]:
    """Connect to the brokers of the Kafka store that a command names."""
    address = address_of(common)
    with client_of(address) as client:
        yield client, address


def client_of(address: KafkaAddress) -> Client:
    """Return a client. Its library tells of every lost connection; what matters of that is raised."""
    import logging

    from margin_stream.kafka.client import Client

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return Client(address.servers)


def init(
    *,
    partitions: Annotated[int, Parameter(help="Partitions of accounts: as many workers can share the work.")] = 4,
    replicas: Annotated[
        int, Parameter(help="Replicas of every topic; 0: as many as there are brokers, at most 3.")
    ] = 0,
    rules_version: Annotated[
        int | None,
        Parameter(help="The rules version that the store begins with; for a copy, that of the original store."),
    ] = None,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Create the topics of a store, and print the access rules (ACLs) for them. Safe to run again.

    Try:
      margin-stream kafka init --store kafka://localhost:9092/demo --partitions 4
    """
    from margin_stream.kafka import topics_admin
    from margin_stream.kafka.access import access_rules, arguments
    from margin_stream.schemas.rules_versions import latest

    with connected(common) as (client, address):
        if rules_version is not None and not 1 <= rules_version <= latest():
            raise UsageError(f"--rules-version {rules_version}: from 1 to {latest()}", option="--rules-version")
        manifest = topics_admin.init(client, address, partitions, replicas, rules_version=rules_version)
    acls = [" ".join(arguments(rule)) for rule in access_rules(address)]
    made = {
        "store": address.url,
        "store_id": manifest.store_id,
        "partitions": manifest.partitions,
        "journal": address.topics.inputs,
    }
    show(common, made | {"acls": acls} if common.json else made)
    if not common.json:
        print_note(common, "where the broker has an authorizer, name your principals for the roles User:... and run:")
        for line in acls:
            print_note(common, f"  kafka-acls.sh --bootstrap-server {address.servers[0]} {line}")
    return DONE


def repartition(
    *,
    partitions: Annotated[int, Parameter(help="The new number of partitions of accounts.")],
    replicas: Annotated[
        int, Parameter(help="Replicas of every topic; 0: as many as there are brokers, at most 3.")
    ] = 0,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Change the number of partitions: what is derived is deleted, and the workers rebuild it from the journal.

    Stop the workers first. Digests and effects are the same afterwards.

    Try:
      margin-stream kafka repartition --store kafka://localhost:9092/demo --partitions 8
    """
    from margin_stream.kafka import topics_admin

    with connected(common) as (client, address):
        manifest = topics_admin.repartition(client, address, partitions, replicas)
    print_note(common, "start the workers again: they fold the journal from the start")
    show(common, {"store": address.url, "partitions": manifest.partitions, "generation": manifest.generation})
    return DONE


def move_strays(*, common: OnStore = OnStore()) -> int:  # noqa: B008 (frozen)
    """Move what lies in other partitions of the journal's topic into the journal, which is partition 0.

    The records are sent in order of their timestamps, then deleted where they were. Safe to run again.

    Try:
      margin-stream kafka move-strays --store kafka://localhost:9092/demo
    """
    from margin_stream.kafka import strays, topics_admin

    with connected(common) as (client, address):
        topics_admin.read_manifest(client, address)
        moved = strays.move(client, address)
    show(common, {"store": address.url, "records_moved": moved})
    return DONE


def status(*, common: OnStore = OnStore()) -> int:  # noqa: B008 (frozen)
    """Show how far the workers are: per shard lag, checkpoint age, restore time, repeats trimmed.

    Try:
      margin-stream kafka status --store kafka://localhost:9092/demo
    """
    from margin_stream.kafka import producer, strays, topics_admin, worker_client

    with connected(common) as (client, address):
        manifest = topics_admin.read_manifest(client, address)
        outside = sum(strays.strays(client, address).values())
        reported = producer.DigestReader(client, address, manifest).poll()
        found = worker_client.workers(client, address)
        ends = {0: client.end(address.topics.inputs)}
    rows: list[dict[str, Any]] = []
    silent = []
    for worker in found:
        shards = worker_client.ask_shards(worker)
        if shards is None:
            silent.append(worker.name)
        else:
            rows.extend({"worker": worker.name, **row} for row in shards)
    rows.sort(key=lambda row: (row["topic"], row["partition"]))
    view = {
        "store": address.url,
        "partitions": manifest.partitions,
        "generation": manifest.generation,
        "workers": len(found) - len(silent),
        "silent_workers": silent,
        "journal_records": ends[0],
        "records_outside_the_journal": outside,
        "digests_at": None if reported is None else reported.digests.sequence,
        "state_digest": None if reported is None else reported.digests.state,
        "effects_digest": None if reported is None else reported.digests.effects,
    }
    if outside:
        report(
            failure(
                "records_outside_journal",
                f"{outside} records lie in other partitions of {address.topics.inputs}",
                store=address.url,
            ),
            as_json=common.json,
        )
    if common.json:
        show(common, view | {"shards": rows})
        return DONE
    show(common, view)
    if rows:
        print()
        columns = (
            "topic",
            "partition",
            "worker",
            "ready",
            "offset",
            "lag",
            "sequence",
            "checkpoint_age_s",
            "restore_s",
            "restores",
        )
        show_rows(common, rows, (*columns, "skipped", "trimmed", "holes", "foreign", "failed"), empty="")
    else:
        print_note(common, "no worker runs: `margin-stream worker` starts one")
    return DONE


# ---- worker ----------------------------------------------------------------------------------------------------------


class Ingested:
    """What ``ingest`` did to a store on Kafka."""

    def __init__(self, counts: Counts, of_refused: int, effects: int, digests: Digests, by: str) -> None:
        self.counts, self.of_refused, self.effects, self.digests, self.by = counts, of_refused, effects, digests, by


def ingest(
    common: OnStore,
    lines: Iterable[bytes],
    *,
    refused: Callable[[Any], bool],
    wait: bool,
    stop: Callable[[], bool],
    progress: Callable[[], None],
) -> Ingested | None:
    """Send lines to the journal, and wait until they are folded by workers, or fold them here where none runs. None
    without waiting."""
    from margin_stream.core.intake.admission import Counts
    from margin_stream.kafka import producer, topics_admin, worker_client

    with connected(common) as (client, address):
        manifest = topics_admin.read_manifest(client, address)
        before_end = client.end(address.topics.inputs)
        reader = producer.DigestReader(client, address, manifest)

        def alive() -> bool:
            found = worker_client.workers(client, address)
            worker_client.check_shards(found)
            return bool(found)

        before = None
        if wait and alive():
            before = producer.await_folded(reader, before_end - 1, alive) if before_end else None
        producer.produce(
            client, address, producer.records_of(lines, manifest.rules_version, refused), sent=progress, stop=stop
        )
        if not wait or stop():
            return None
        end = client.end(address.topics.inputs)
        if end and alive():
            after = producer.await_folded(reader, end - 1, alive)
            if after is not None and (before is not None or not before_end):
                counts, effects, of_refused = after.counts, after.effects, after.of_refused
                if before is not None:
                    counts = Counts(*(a - b for a, b in zip(after.counts, before.counts, strict=True)))
                    effects -= before.effects
                    of_refused -= before.of_refused
                return Ingested(counts, of_refused, effects, after.digests, "the workers")
        return _fold_here(client, address, before_end)


def _fold_here(client: Client, address: KafkaAddress, before_end: int) -> Ingested:
    from margin_stream.core.intake.admission import Counts
    from margin_stream.core.store_fold import StoreFold
    from margin_stream.kafka.reader import KafkaReader

    reader = KafkaReader(client, address)
    system = StoreFold(reader.partitions, rules_version=reader.rules_version)
    counts = Counts()
    effects = of_refused = 0
    sources = system.intake.sources
    for record in reader.items():
        known = sources.duplicates_of_refused
        offered = [system.admission.item(item) for item in record.items]
        emitted = system.fold()
        if record.number > before_end:
            for one in offered:
                counts = counts.plus(one)
            effects += sum(map(len, emitted))
            of_refused += sources.duplicates_of_refused - known
    return Ingested(counts, of_refused, effects, system.digests(), "this process: no worker runs")


# ---- questions -------------------------------------------------------------------------------------------------------


@contextmanager
def opened(common: OnStore) -> Iterator[KafkaReader]:
    """Open a Kafka store for reading."""
    from margin_stream.kafka.reader import KafkaReader

    with connected(common) as (client, address):
        yield KafkaReader(client, address)


def ask_state(common: OnStore, account: str) -> tuple[bool, dict[str, Any] | None]:
    """Ask the workers for an account; return whether one answered, and its state."""
    from margin_stream.kafka import topics_admin, worker_client

    with connected(common) as (client, address):
        topics_admin.read_manifest(client, address)
        answer = worker_client.ask_account(worker_client.workers(client, address), account)
    if answer is None:
        print_note(common, "no worker answers for the account: folded here, from the journal")
        return False, None
    print_note(common, f"answered by worker {answer[0].name} at {answer[0].url}")
    return True, answer[1]


def ask_calls(common: OnStore, account: str | None, open_only: bool) -> list[dict[str, Any]] | None:
    """Ask the workers for margin calls; None where not every partition is with one that answers."""
    from margin_stream.kafka import topics_admin, worker_client

    with connected(common) as (client, address):
        manifest = topics_admin.read_manifest(client, address)
        found = worker_client.workers(client, address)
        rows = worker_client.ask_calls(found, manifest.partitions, account, open_only) if found else None
    print_note(
        common,
        "folded here, from the journal: not every partition is with a worker that answers"
        if rows is None
        else "answered by the workers",
    )
    return rows
