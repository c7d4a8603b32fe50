"""How far each projection is behind its topics, from the brokers: it need not run to be asked about."""

from aiokafka import TopicPartition
from msgspec import Struct

from headrace.connect import admin, consumer, partitions_of
from projections.catalog import needed
from runtime.kafka import projection_group, topic_name
from runtime.settings import Settings


class PartitionStatus(Struct, frozen=True, kw_only=True):
    """Of one projection in one partition; `committed` is None where it never wrote anything from there."""

    projection: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


async def projection_status(settings: Settings) -> list[PartitionStatus]:
    """Every projection that is needed, and every partition.

    Raises:
        StartBrokersError: no broker answers.
        ApplyTopicsError: a topic is missing.
    """
    found = []
    async with consumer(settings) as client, admin(settings) as groups:
        for projection in needed(settings).values():
            committed = await groups.list_consumer_group_offsets(projection_group(settings, projection.name))
            for topic in projection.topics:
                name = topic_name(settings, topic)
                partitions = await partitions_of(client, name)
                begins, ends = await client.beginning_offsets(partitions), await client.end_offsets(partitions)
                for one in partitions:
                    done = _offset(committed, one)
                    found.append(
                        PartitionStatus(
                            projection=projection.name,
                            topic=name,
                            partition=one.partition,
                            committed=done,
                            end=ends[one],
                            lag=ends[one] - max(done or 0, begins[one]),
                        )
                    )
    return found


def _offset(committed: dict[TopicPartition, object], partition: TopicPartition) -> int | None:
    found = committed.get(partition)
    offset: int = getattr(found, "offset", -1)
    return None if offset < 0 else offset
