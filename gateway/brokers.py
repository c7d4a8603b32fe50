"""What the brokers say about topics and consumer groups: asked while somebody looks, once a second at most."""

import asyncio
from collections.abc import Mapping
from time import monotonic

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from msgspec import Struct

from gateway.problems import unavailable
from runtime.ending import ended
from runtime.kafka import client_arguments, group_id, projection_group, topic_name
from runtime.settings import Settings
from schemas.topics import TOPICS

CACHED_S = 1.0
RATE_WINDOW_S = 5.0
"""Rates are over this time: short enough to see a change, long enough to be steady."""
FIRST_WAIT_S = 0.3
"""A rate needs two samples; whoever asks first, or after a while, waits so long for the second."""
TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 2.0
IDLE_S = 60.0
"""The connections are closed when nobody has asked for so long."""
CLIENT_ID = "headrace-gateway-pipeline"

log = structlog.get_logger(__name__)
Partition = tuple[str, int]
"""A topic, named as in the table of topics, and the number of its partition."""


class Sample(Struct, frozen=True, kw_only=True):
    """Offsets at one moment. `committed` has those of groups: of projections by their names, of the workers by ""."""

    at_s: float
    begins: Mapping[Partition, int]
    ends: Mapping[Partition, int]
    committed: Mapping[str, Mapping[Partition, int]]


class Brokers:
    """Samples of the brokers. Connects when it is asked, and lets go when nobody asks any more."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names = {topic_name(settings, topic): topic.name for topic in TOPICS}
        self._lock = asyncio.Lock()
        self._samples: list[Sample] = []
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def samples(self) -> tuple[Sample, Sample]:
        """An earlier sample and one of now; the same for all who ask within a second.

        Raises:
            Problem: `unavailable`.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._refresh()
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("brokers_failed", error=repr(error))
                await self._close()
                raise unavailable("a broker") from error
            self._close_when_idle()
        return self._samples[0], self._samples[-1]

    async def stop(self) -> None:
        """Let go of the brokers."""
        if self._idle is not None:
            self._idle.cancel()
        async with self._lock:
            await self._close()

    async def _refresh(self) -> None:
        now = monotonic()
        if self._samples and now - self._samples[-1].at_s < CACHED_S:
            return
        self._samples = [sample for sample in self._samples if now - sample.at_s < RATE_WINDOW_S]
        if not self._samples:
            self._samples.append(await self._sample())
            await asyncio.sleep(FIRST_WAIT_S)
        self._samples.append(await self._sample())

    async def _sample(self) -> Sample:
        consumer, admin = await self._connected()
        metadata = await consumer._client.fetch_all_metadata()  # noqa: SLF001  # The consumer's own shows only what it reads.
        partitions = [
            TopicPartition(name, number)
            for name in self._names
            for number in sorted(metadata.partitions_for_topic(name) or ())
        ]
        at_s = monotonic()
        begins, ends = await asyncio.gather(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))
        return Sample(
            at_s=at_s, begins=self._plain(begins), ends=self._plain(ends), committed=await self._committed(admin)
        )

    async def _committed(self, admin: AIOKafkaAdminClient) -> dict[str, dict[Partition, int]]:
        prefix = projection_group(self._settings, "")
        named = {group_id(self._settings): ""}
        groups = [str(group) for group, *_ in await admin.list_consumer_groups()]
        named |= {group: group.removeprefix(prefix) for group in groups if group.startswith(prefix)}
        # Of a group that never was there, new brokers cannot say anything.
        named = {group: name for group, name in named.items() if group in groups}
        found = await asyncio.gather(*(admin.list_consumer_group_offsets(group) for group in named))
        return {
            name: self._plain({place: committed.offset for place, committed in offsets.items()})
            for name, offsets in zip(named.values(), found, strict=True)
        }

    def _plain(self, offsets: Mapping[TopicPartition, int]) -> dict[Partition, int]:
        """By the names of the table of topics; others are left out."""
        return {
            (self._names[place.topic], place.partition): offset
            for place, offset in offsets.items()
            if place.topic in self._names
        }

    async def _connected(self) -> tuple[AIOKafkaConsumer, AIOKafkaAdminClient]:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                **client_arguments(self._settings, CLIENT_ID), group_id=None, enable_auto_commit=False
            )
            await self._consumer.start()
        if self._admin is None:
            self._admin = AIOKafkaAdminClient(**client_arguments(self._settings, CLIENT_ID))
            await self._admin.start()
        return self._consumer, self._admin

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        if consumer is not None:
            await ended(consumer.stop(), "consumer", STOP_TIMEOUT_S)
        if admin is not None:
            await ended(admin.close(), "admin client", STOP_TIMEOUT_S)
        self._samples = []

    def _close_when_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._begin_to_close)

    def _begin_to_close(self) -> None:
        task = asyncio.create_task(self.stop(), name="close brokers")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
