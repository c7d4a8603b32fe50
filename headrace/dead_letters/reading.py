"""Topics read from a time on, which is much less than from their beginning."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime, timedelta

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from headrace.connect import consumer, partitions_of
from runtime.settings import Settings

POLL_MS = 500
CLOCKS_DIFFER = timedelta(minutes=5)
"""Records have the time of whoever wrote them, so reading begins that much earlier."""


async def read_since(
    settings: Settings, topic: str, since: datetime, partitions: Collection[int] | None = None
) -> AsyncIterator[ConsumerRecord]:
    """Every record from about `since` to what is there at the call, in the order of each partition.

    `topic` is named as on the cluster; `partitions` None: all.
    """
    async with consumer(settings) as client:
        found = await partitions_of(client, topic)
        chosen = [place for place in found if partitions is None or place.partition in partitions]
        ends = await _begin(client, chosen, since - CLOCKS_DIFFER)
        while any([await client.position(place) < end for place, end in ends.items()]):
            for place, records in (await client.getmany(*ends, timeout_ms=POLL_MS)).items():
                for record in records:
                    if record.offset < ends[place]:
                        yield record


async def _begin(client: AIOKafkaConsumer, chosen: list[TopicPartition], since: datetime) -> dict[TopicPartition, int]:
    """Look where `since` is, and where each partition ends now; those with nothing in between are left out."""
    ends = await client.end_offsets(chosen)
    starts = await client.offsets_for_times({place: max(0, int(since.timestamp() * 1000)) for place in chosen})
    reading = {
        place: ends[place] for place, start in starts.items() if start is not None and start.offset < ends[place]
    }
    client.assign(list(reading))
    for place in reading:
        client.seek(place, starts[place].offset)
    return reading
