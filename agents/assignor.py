"""Faust's assignor, which must know every topic before it shares them out."""

from __future__ import annotations

from typing import Any

from faust.assignor.partition_assignor import PartitionAssignor

from agents.crash import die


class FoldAssignor(PartitionAssignor):
    """Faust passes over topics that the leader's metadata lacks, as those of a broker that has just come back do, and the group then
    rests with nothing assigned. The leader ends instead, and comes back with fresh metadata.
    """

    def assign(self, cluster: Any, member_metadata: Any) -> Any:
        """Share the partitions out."""
        wanted = self.app.wanted_topics()
        lacking = [name for name, count in wanted.items() if len(cluster.partitions_for_topic(name) or ()) != count]
        if lacking:
            die(f"the broker's metadata lacks {', '.join(sorted(lacking))}")
        return super().assign(cluster, member_metadata)
