"""Reads the topics of a projection again, from the oldest records that they have, beside the live projection."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from projections.errors import StoreUnavailableError
from projections.loop import Writer
from projections.projection import Projection
from projections.source import MAX_RECORDS, record_of
from runtime.kafka import client_arguments, projection_group, topic_name
from runtime.lenient_records import accept_any_header_name
from runtime.settings import Settings
from schemas.topics import MAX_INTERNAL_BYTES, Topic

PROGRESS_INTERVAL_S = 1.0
POLL_MS = 1_000
FETCH_MAX_WAIT_MS = 20
"""The live projection can wait for the last records, and a fetch of others that is under way comes first."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far a rebuild is: `done` of `total` offsets."""

    done: int
    total: int
    per_second: float


Tell = Callable[[Progress], None]


class Span(Struct, frozen=True):
    """What a partition of `topic` holds, and how far the live projection is in it: offsets, the last two exclusive."""

    topic: str
    begin: int
    end: int
    live: int


Spans = dict[TopicPartition, Span]


class Reread:
    """The topics' partitions.

    Each was read without a gap from its offset in `begins` on; `oldest_ms` is the timestamp of the first record there.
    Those of `torn` lost records that came after some that were read.
    """

    def __init__(self, settings: Settings, projection: Projection, consumer: AIOKafkaConsumer) -> None:
        self.begins: dict[TopicPartition, int] = {}
        self.oldest_ms: dict[TopicPartition, int] = {}
        self.torn: set[TopicPartition] = set()
        self._read_to: dict[TopicPartition, int] = {}
        self._settings = settings
        self._projection = projection
        self._consumer = consumer
        self._topics: dict[TopicPartition, Topic] = {}

    async def spans(self) -> Spans:
        """What there is to read."""
        # The consumer's own metadata shows only what it reads.
        metadata = await self._consumer._client.fetch_all_metadata()  # noqa: SLF001
        self._topics = {
            TopicPartition(name, number): topic
            for topic in self._projection.topics
            for name in [topic_name(self._settings, topic)]
            for number in sorted(metadata.partitions_for_topic(name) or ())
        }
        partitions = list(self._topics)
        self._consumer.assign(partitions)
        begins, ends = await self._consumer.beginning_offsets(partitions), await self._consumer.end_offsets(partitions)
        # Asked for after the ends: what the live projection has is then at least what it had when they were known.
        committed = {one: await self._consumer.committed(one) for one in partitions}
        self.begins = dict(begins)
        return {
            one: Span(topic.name, begins[one], ends[one], min(committed[one] or 0, ends[one]))
            for one, topic in self._topics.items()
        }

    async def ends(self) -> dict[TopicPartition, int]:
        """Where the partitions end by now."""
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(list(self._topics))
        return found

    async def read(self, spans: Spans, writer: Writer, tell: Tell) -> None:
        """Give all records inside the spans to the writer: one topic after the other, in the projection's order."""
        total, before, started = sum(span.end - span.begin for span in spans.values()), writer.records, monotonic()
        told = started
        for one, span in spans.items():
            self._consumer.seek(one, span.begin)
            self._read_to[one] = span.begin
        for topic in self._projection.topics:
            left = {one for one, span in spans.items() if self._topics[one] == topic and span.begin < span.end}
            while left:
                await self._read_some(spans, left, writer)
                if monotonic() - told >= PROGRESS_INTERVAL_S:
                    told = monotonic()
                    tell(_progress(writer.records - before, total, told - started))
        tell(_progress(writer.records - before, total, monotonic() - started))

    async def _read_some(self, spans: Spans, left: set[TopicPartition], writer: Writer) -> None:
        found = await self._consumer.getmany(*left, timeout_ms=POLL_MS, max_records=MAX_RECORDS)
        for one in left:
            await self._see(one, found.get(one, ()))
        inside = [record for one, records in found.items() for record in records if record.offset < spans[one].end]
        await writer.write([record_of(self._settings, record) for record in inside])
        left -= {one for one in left if self._read_to[one] >= spans[one].end}

    async def _see(self, one: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        """Retention may remove records before they are read; the consumer then goes on at the oldest one in silence."""
        before = self._read_to[one]
        position: int = await self._consumer.position(one)
        first, last = (records[0].offset, records[-1].offset + 1) if records else (position, position)
        # Not every offset that is skipped is a loss: the marks of transactions have offsets too.
        if (before, last) != (first, position):
            oldest = (await self._consumer.beginning_offsets([one]))[one]
            lost_before, lost_after = before < min(first, oldest), last < min(position, oldest)
            if lost_after or (lost_before and one in self.oldest_ms):
                self.torn.add(one)
            if lost_before or lost_after:
                self.begins[one] = oldest
                self.oldest_ms.pop(one, None)
        if records:
            self.oldest_ms.setdefault(one, records[0].timestamp)
        self._read_to[one] = position


def _progress(done: int, total: int, seconds: float) -> Progress:
    return Progress(done=done, total=total, per_second=done / max(seconds, 1e-9))


@asynccontextmanager
async def reread(settings: Settings, projection: Projection) -> AsyncIterator[Reread]:
    """A consumer of the topics, which is not in the group of the live projection.

    Raises:
        StoreUnavailableError: the brokers failed.
    """
    accept_any_header_name()
    consumer = AIOKafkaConsumer(
        **client_arguments(settings),
        group_id=projection_group(settings, projection.name),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        max_partition_fetch_bytes=MAX_INTERNAL_BYTES,
    )
    try:
        try:
            await consumer.start()
            yield Reread(settings, projection, consumer)
        except KafkaError as error:
            raise StoreUnavailableError(f"the brokers at {settings.brokers} failed ({error!r}): try again") from error
    finally:
        await consumer.stop()
