"""Faust's assignor, which must know every topic before it shares them out, and bear a worker that has come back under
another URL."""

from __future__ import annotations

import logging
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

from margin_stream.agents.crash import die

log = logging.getLogger("margin_stream.agents")


class _Followed:
    """The cluster's metadata, with as many partitions of a topic as workers follow."""

    def __init__(self, cluster: Any, wanted: dict[str, int]) -> None:
        self._cluster = cluster
        self._wanted = wanted

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Return the numbers of the partitions."""
        count = self._wanted.get(topic)
        return self._cluster.partitions_for_topic(topic) if count is None else set(range(count))


class FoldAssignor(PartitionAssignor):
    """Faust passes over topics that the leader's metadata lacks, as those of a broker that has just come back do, and
    the group then rests with nothing assigned. The leader ends instead, and comes back with fresh metadata.
    """

    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        """Say to the group what this worker follows.

        A worker that is stopped before its tables are registered subscribes without their changelogs and still joins.
        Faust then shares changelogs out apart from what they belong to, and a static member is given that share again
        when it comes back: nothing would ever be restored. It ends before it joins.
        """
        lacking = self.app.wanted_topics().keys() - topics
        if lacking:
            die(f"the subscription lacks {', '.join(sorted(lacking))}")
        return super().metadata(topics)

    def assign(self, cluster: Any, member_metadata: Any) -> Any:
        """Share the partitions out."""
        wanted = self.app.wanted_topics()
        found = {name: len(cluster.partitions_for_topic(name) or ()) for name in wanted}
        journal = self.app.address.topics.inputs
        lacking = [name for name, n in wanted.items() if found[name] != n and not (name == journal and found[name])]
        if lacking:
            die(f"the broker's metadata lacks {', '.join(sorted(lacking))}")
        if found[journal] > 1:
            log.warning(
                "%s has %d partitions; the journal is the first alone: `kafka status` counts the records in the "
                "others, `kafka move-strays` moves them",
                journal,
                found[journal],
            )
        return super().assign(_Followed(cluster, wanted), member_metadata)

    def on_assignment(self, assignment: Any) -> None:
        """Take this worker's share.

        A static member that comes back is given the share it had, without a rebalance, and with the URL it had then.
        Faust asserts that it is the URL of now, and its coordinator hangs for ever where it is not; so the URL is put
        right first.
        """
        metadata = ClientMetadata.loads(self._decompress(assignment.user_data))
        url = str(self._url)
        if metadata.url != url:
            metadata.url = url
            assignment = ConsumerProtocolMemberAssignment(
                assignment.version, assignment.assignment, self._compress(metadata.dumps())
            )
        super().on_assignment(assignment)
