"""Topics that a process reads from end to end, by itself and without a group, and then follows."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from runtime.kafka import client_arguments, topic_name
from runtime.settings import Settings
from schemas.topics import MAX_INTERNAL_BYTES, Topic

FETCH_MAX_WAIT_MS = 500
"""A fetch returns as soon as there is a record; this bounds only how often it asks for nothing."""
POLL_MS = 1_000
RETRY_S = 2.0

log = structlog.get_logger(__name__)


class NotReadError(Exception):
    """A topic that a process must know before it begins cannot be read; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A topic of one partition.

    `take` gets each of its records in order, and `reached` the offset up to which it has been read, which may be beyond
    the last record: compaction leaves gaps. `since` is how far back it begins; None: with its first record.
    """

    topic: Topic
    take: Callable[[ConsumerRecord], None]
    reached: Callable[[int], None] | None = None
    since: timedelta | None = None


class Follower:
    """Reads topics; `start` returns when all of them have been read to their ends of then."""

    def __init__(self, settings: Settings, followed: Sequence[Followed], client_id: str) -> None:
        assert all(one.topic.partitions == 1 for one in followed), "the order of two partitions is not known"
        self._followed = {TopicPartition(topic_name(settings, one.topic), 0): one for one in followed}
        self._settings = settings
        self._client_id = client_id
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self, timeout_s: float) -> None:
        """Connect, and read what there is.

        Raises:
            NotReadError: that took longer, or the brokers refuse.
        """
        names = ", ".join(place.topic for place in self._followed)
        expected = f"expected to read {names} to the end within {timeout_s:.0f} s"
        to_do = "see that the brokers answer, and that the topics exist (`headrace topics apply`)"
        try:
            async with asyncio.timeout(timeout_s):
                await self._read_to_end()
        except TimeoutError:
            await self.stop()
            raise NotReadError(f"{expected}, got no further: {to_do}") from None
        except KafkaError as error:
            await self.stop()
            raise NotReadError(f"{expected}, got {error!r}: {to_do}") from error

    async def run(self) -> None:
        """Follow the topics for ever; while the brokers fail, what was read stays."""
        while True:
            try:
                if self._consumer is None:
                    await self._read_to_end()
                await self._take(POLL_MS)
            except (KafkaError, OSError) as error:
                log.warning("following_failed", error=repr(error), topics=[place.topic for place in self._followed])
                await self.stop()
                await asyncio.sleep(RETRY_S)

    async def stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def end(self, topic: Topic) -> int:
        """The offset after the last record that a followed topic has now; raises aiokafka's errors."""
        place = TopicPartition(topic_name(self._settings, topic), 0)
        consumer = self._consumer
        if consumer is None:
            raise KafkaError("not connected")
        return int((await consumer.end_offsets([place]))[place])

    async def _read_to_end(self) -> None:
        consumer = self._consumer = AIOKafkaConsumer(
            **client_arguments(self._settings, self._client_id),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            max_partition_fetch_bytes=MAX_INTERNAL_BYTES,
        )
        await consumer.start()
        places = list(self._followed)
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
        for place, followed in self._followed.items():
            consumer.seek(place, await _begin(consumer, place, followed.since, begins[place], ends[place]))
        while any([await consumer.position(place) < ends[place] for place in places]):
            await self._take(POLL_MS)
        for place, followed in self._followed.items():
            _tell(followed, ends[place] - 1)

    async def _take(self, timeout_ms: int) -> None:
        consumer = self._consumer
        assert consumer is not None
        found: dict[TopicPartition, list[Any]] = await consumer.getmany(timeout_ms=timeout_ms)
        for place, records in found.items():
            followed = self._followed[place]
            for record in records:
                followed.take(record)
            _tell(followed, records[-1].offset)


def _tell(followed: Followed, offset: int) -> None:
    if followed.reached is not None:
        followed.reached(offset)


async def _begin(
    consumer: AIOKafkaConsumer, place: TopicPartition, since: timedelta | None, first: int, end: int
) -> int:
    if since is None:
        return first
    from_ms = int((datetime.now(UTC) - since).timestamp() * 1000)
    found = (await consumer.offsets_for_times({place: from_ms}))[place]
    return end if found is None else max(first, int(found.offset))
