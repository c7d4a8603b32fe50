"""Records of a projection's topics from the brokers, as a member of the projection's own consumer group."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from projections.errors import StoreUnavailableError
from projections.loop import FIRST_WAIT_S, LONGEST_WAIT_S, Progress, pause
from projections.projection import Projection
from projections.record import Record
from runtime.ending import ended
from runtime.kafka import client_arguments, projection_group, topic_name
from runtime.lenient_records import accept_any_header_name
from runtime.settings import Settings
from schemas.topics import MAX_INTERNAL_BYTES

MAX_RECORDS = 1_000
"""Of one batch: enough to make the cost of a transaction small, few enough to be written in a fraction of a second."""
WORTH_FETCHING_BYTES = 256 * 1024
"""Some hundred records: fetched at once, however short they have waited."""
IDLE_S = 0.5
LAG_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 10.0

log = structlog.get_logger()


def record_of(settings: Settings, record: ConsumerRecord) -> Record:
    """What a projection takes of a consumer's record; a missing value is an empty one."""
    topic = record.topic.removeprefix(settings.topic_prefix)
    return Record(topic, record.partition, record.offset, record.value or b"", record.timestamp)


class KafkaSource:
    """Records from the brokers; brokers that are away are waited for."""

    def __init__(
        self,
        settings: Settings,
        projection: Projection,
        progress: Callable[[], Awaitable[Progress | None]],
        stopping: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._projection = projection
        self._progress = progress
        self._stopping = stopping
        self._consumer: AIOKafkaConsumer | None = None
        self._taken: dict[TopicPartition, int] = {}
        self._unplaced: set[TopicPartition] = set()
        """Assigned and paused, until the store has said where to begin."""

    async def take(self) -> list[Record]:
        """The next records; raises `Stopped`."""
        consumer = await self._started()
        await self._place(consumer)
        try:
            found = await consumer.getmany(timeout_ms=int(IDLE_S * 1000), max_records=MAX_RECORDS)
        except KafkaError as error:
            # A record whose batch is damaged, a right that was taken away: begin again from what was committed.
            log.error("cannot_read", projection=self._projection.name, error=repr(error), wait_s=LONGEST_WAIT_S)
            await self.stop()
            await pause(LONGEST_WAIT_S, self._stopping)
            return []
        self._taken |= {partition: records[-1].offset + 1 for partition, records in found.items() if records}
        return [record_of(self._settings, record) for records in found.values() for record in records]

    async def commit(self) -> None:
        """Commit what was taken, or was in the store already; where it fails, later, or it comes again."""
        if self._consumer is None or not self._taken:
            return
        taken = dict(self._taken)
        try:
            await self._consumer.commit(taken)
        except (CommitFailedError, IllegalStateError):
            # Some of the partitions are another member's now, who begins where the store or the last commit was.
            pass
        except KafkaError as error:
            log.warning("cannot_commit", projection=self._projection.name, error=repr(error))
            return
        for one in taken:
            self._taken.pop(one, None)

    async def lag(self) -> int:
        """How many records of our partitions were not taken; 0 while the brokers do not say."""
        if self._consumer is None:
            return 0
        partitions = list(self._consumer.assignment())
        try:
            async with asyncio.timeout(LAG_TIMEOUT_S):
                ends = await self._consumer.end_offsets(partitions)
                return sum([ends[one] - await self._consumer.position(one) for one in partitions])
        except (KafkaError, TimeoutError):
            return 0

    async def stop(self) -> None:
        """Leave the group."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            self._taken.clear()
            self._unplaced.clear()
            await self._leave(consumer)

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        said = "the brokers do not answer"
        try:
            if await ended(consumer.stop(), "consumer", STOP_TIMEOUT_S):
                return
        except (OSError, KafkaError) as error:
            said = repr(error)
        # Without a goodbye, the others take over after the session's timeout.
        log.warning("left_without_goodbye", projection=self._projection.name, error=said)

    async def _started(self) -> AIOKafkaConsumer:
        wait_s = FIRST_WAIT_S
        while self._consumer is None:
            consumer = self._make()
            try:
                await consumer.start()
            except asyncio.CancelledError:
                await self._leave(consumer)
                raise
            except (KafkaError, OSError) as error:
                await self._leave(consumer)
                log.warning("brokers_unavailable", projection=self._projection.name, error=repr(error), wait_s=wait_s)
                await pause(wait_s, self._stopping)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            else:
                self._consumer = consumer
        return self._consumer

    def _make(self) -> Any:
        accept_any_header_name()
        name, settings = self._projection.name, self._settings
        consumer = AIOKafkaConsumer(
            **client_arguments(settings, f"headrace-project-{name}"),
            group_id=projection_group(settings, name),
            group_instance_id=None if settings.name is None else f"{settings.name}-{name}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._projection.wait_ms,
            fetch_min_bytes=1 if self._projection.is_prompt else WORTH_FETCHING_BYTES,
            max_partition_fetch_bytes=MAX_INTERNAL_BYTES,
        )
        topics = [topic_name(settings, topic) for topic in self._projection.topics]
        consumer.subscribe(topics, listener=_Listener(consumer, self._let_go, self._unplaced.update))
        return consumer

    def _let_go(self, partitions: Iterable[TopicPartition]) -> None:
        """What of them was written and not committed comes again, here or elsewhere."""
        for one in partitions:
            self._taken.pop(one, None)
            self._unplaced.discard(one)

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Begin what was assigned where the store is; where it does not know, where the last commit was.

        Here and not while the partitions are assigned: the store is never asked while records wait to be written, which
        would make it forget that it may be another one than they were taken for.
        """
        wait_s = FIRST_WAIT_S
        while self._unplaced:
            try:
                progress = await self._progress()
            except StoreUnavailableError as error:
                log.warning("store_unavailable", projection=self._projection.name, error=str(error), wait_s=wait_s)
                await pause(wait_s, self._stopping)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
                continue
            # A consumer that was given up may still be told of some that are not ours.
            for one in self._unplaced & consumer.assignment():
                if progress is not None:
                    offset = progress.get((one.topic.removeprefix(self._settings.topic_prefix), one.partition), 0)
                    # An offset that the topic no longer has becomes its oldest one.
                    consumer.seek(one, offset)
                    # Who wrote last may have died before the commit, and nothing may come that would be committed.
                    self._taken[one] = offset
                consumer.resume(one)
            self._unplaced.clear()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed.
    """Tells of partitions that are taken away, and of those that were just assigned, which nothing is read of yet."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        let_go: Callable[[Iterable[TopicPartition]], None],
        hold: Callable[[Iterable[TopicPartition]], None],
    ) -> None:
        self._consumer = consumer
        self._let_go = let_go
        self._hold = hold

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._let_go(revoked)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        # Before anything is awaited: from then on, records come from where the last commit was.
        self._consumer.pause(*assigned)
        self._hold(assigned)
