"""Makes a projection again from its topics: into a shadow of its tables, compared with the live ones, then swapped.

The shadow has the same tables in a schema of its own. Rows of records that the topics no longer have are taken over
from the live tables, and so is what the live projection wrote while the shadow was made. Then, in one transaction, the
live tables' partitions are dropped and those of the shadow attached in their place: views and privileges stay as they
are.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from projections.database import connected, store_errors
from projections.errors import RebuildRunsError, StoreUnavailableError
from projections.loop import Writer
from projections.migrations import require_migrated
from projections.projection import TableProjection
from projections.source import MAX_RECORDS, projection_group, record_of
from projections.sql_files import sql
from projections.tables import Tables
from runtime.kafka import client_arguments, topic_name
from runtime.lenient_records import accept_any_header_name
from runtime.settings import Settings
from runtime.stores import postgres_url
from schemas.topics import MAX_INTERNAL_BYTES

LOCK = 4_847_201_392
SHADOW = "headrace_rebuild"
PROGRESS_INTERVAL_S = 1.0
POLL_MS = 1_000


class Progress(Struct, frozen=True, kw_only=True):
    """How far a rebuild is: `done` of `total` offsets."""

    done: int
    total: int
    per_second: float


class TableDifference(Struct, frozen=True, kw_only=True):
    """How a rebuilt table differs from the live one, as far as both had the records: rows by all their columns."""

    table: str
    same: int
    added: int
    removed: int


class Rebuilt(Struct, frozen=True, kw_only=True):
    """What a rebuild did."""

    records: int
    skipped: int
    seconds: float
    tables: tuple[TableDifference, ...]


class Span(Struct, frozen=True):
    """What a partition of `topic` holds, and how far the live projection is in it: offsets, the last two exclusive."""

    topic: str
    begin: int
    end: int
    live: int


Spans = dict[TopicPartition, Span]


async def rebuild(settings: Settings, projection: TableProjection, tell: Callable[[Progress], None]) -> Rebuilt:
    """Make the projection again and put it in the place of the old one.

    Raises:
        ProjectionError: the database is not as it must be, does not answer, or another rebuild runs.
    """
    url = postgres_url(settings)
    await require_migrated(url)
    started = monotonic()
    async with _topics(settings, projection) as (consumer, spans), connected(url) as connection:
        with store_errors():
            if not await connection.fetchval(sql("try_lock"), LOCK):
                raise RebuildRunsError("another rebuild runs on this database: wait until it has ended")
            live = await connection.fetchval(sql("current_schema"))
            await _make_shadow(connection, projection, live)
            await _take_over(connection, projection, live, spans)
        tables = Tables(projection, url, projection.keep_days(settings.projections), schemas=f'"{SHADOW}", "{live}"')
        writer = Writer(projection, tables, asyncio.Event())
        try:
            await _read(settings, consumer, spans, writer, tell)
            await tables.retain()
        finally:
            await tables.close()
        with store_errors():
            differences = await _compare(connection, projection, live)
            await _swap(connection, projection, live)
    return Rebuilt(
        records=writer.records, skipped=writer.skipped, seconds=monotonic() - started, tables=tuple(differences)
    )


@asynccontextmanager
async def _topics(settings: Settings, projection: TableProjection) -> AsyncIterator[tuple[AIOKafkaConsumer, Spans]]:
    """A consumer of all the topics' partitions, not in the group, at the oldest records; and what there is to read."""
    accept_any_header_name()
    consumer = AIOKafkaConsumer(
        **client_arguments(settings),
        group_id=projection_group(settings, projection.name),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_INTERNAL_BYTES,
    )
    try:
        try:
            await consumer.start()
            yield consumer, await _spans(settings, projection, consumer)
        except KafkaError as error:
            raise StoreUnavailableError(f"the brokers at {settings.brokers} failed ({error!r}): try again") from error
    finally:
        await consumer.stop()


async def _spans(settings: Settings, projection: TableProjection, consumer: AIOKafkaConsumer) -> Spans:
    metadata = await consumer._client.fetch_all_metadata()  # noqa: SLF001  # The consumer's own shows only what it reads.
    names = {
        TopicPartition(name, number): topic.name
        for topic in projection.topics
        for name in [topic_name(settings, topic)]
        for number in sorted(metadata.partitions_for_topic(name) or ())
    }
    partitions = list(names)
    consumer.assign(partitions)
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    # Asked for after the ends: what the live projection has is then at least what it had when they were known.
    committed = {one: await consumer.committed(one) for one in partitions}
    for one in partitions:
        consumer.seek(one, begins[one])
    return {one: Span(name, begins[one], ends[one], min(committed[one] or 0, ends[one])) for one, name in names.items()}


async def _read(
    settings: Settings,
    consumer: AIOKafkaConsumer,
    spans: Spans,
    writer: Writer,
    tell: Callable[[Progress], None],
) -> None:
    total = sum(span.end - span.begin for span in spans.values())
    started = told = monotonic()
    left = {one for one, span in spans.items() if span.begin < span.end}
    while left:
        found = await consumer.getmany(*left, timeout_ms=POLL_MS, max_records=MAX_RECORDS)
        inside = [record for one, records in found.items() for record in records if record.offset < spans[one].end]
        await writer.write([record_of(settings, record) for record in inside])
        positions = {one: await consumer.position(one) for one in left}
        left = {one for one, position in positions.items() if position < spans[one].end}
        if monotonic() - told >= PROGRESS_INTERVAL_S or not left:
            told = monotonic()
            tell(Progress(done=writer.records, total=total, per_second=writer.records / max(told - started, 1e-9)))


async def _make_shadow(connection: Any, projection: TableProjection, live: str) -> None:
    """Empty tables of the same shape and the same partitions as the live ones."""
    async with connection.transaction():
        await connection.execute(sql("create_shadow_schema").format(shadow=SHADOW))
        for table in projection.tables:
            by = await connection.fetchval(sql("partition_key"), f'"{live}".{table.name}')
            await connection.execute(
                sql("create_shadow_table").format(shadow=SHADOW, live=live, table=table.name, by=by)
            )
            for part in await connection.fetch(sql("parts"), f'"{live}".{table.name}'):
                await connection.execute(
                    sql("create_shadow_part").format(shadow=SHADOW, table=table.name, part=part[0], bound=part[1])
                )


async def _take_over(connection: Any, projection: TableProjection, live: str, spans: Spans) -> None:
    """Note what the topics have, and copy the live rows of records that are older than that."""
    places = [(span.topic, one.partition, span.begin, span.end, span.live) for one, span in spans.items()]
    async with connection.transaction():
        await connection.executemany(sql("insert_span").format(shadow=SHADOW), places)
        for table in projection.tables:
            await connection.execute(sql("copy_older").format(shadow=SHADOW, live=live, table=table.name))


async def _compare(connection: Any, projection: TableProjection, live: str) -> list[TableDifference]:
    found = []
    for table in projection.tables:
        row = await connection.fetchrow(sql("compare").format(shadow=SHADOW, live=live, table=table.name))
        found.append(TableDifference(table=table.name, same=row["same"], added=row["added"], removed=row["removed"]))
    return found


async def _swap(connection: Any, projection: TableProjection, live: str) -> None:
    """The shadow's partitions in place of the live ones, all tables at once."""
    async with connection.transaction():
        for table in projection.tables:
            await connection.execute(sql("lock_table").format(live=live, table=table.name))
        for table in projection.tables:
            old = await connection.fetch(sql("parts"), f'"{live}".{table.name}')
            there = {part[0] for part in await connection.fetch(sql("parts"), f'"{SHADOW}".{table.name}')}
            for part in old:
                if part[0] not in there:
                    await connection.execute(
                        sql("create_shadow_part").format(shadow=SHADOW, table=table.name, part=part[0], bound=part[1])
                    )
            await connection.execute(sql("copy_newer").format(shadow=SHADOW, live=live, table=table.name))
            for part in old:
                await connection.execute(sql("drop_part").format(live=live, part=part[0]))
            for part in await connection.fetch(sql("parts"), f'"{SHADOW}".{table.name}'):
                await connection.execute(
                    sql("move_part").format(shadow=SHADOW, live=live, table=table.name, part=part[0], bound=part[1])
                )
        await connection.execute(sql("drop_shadow_schema").format(shadow=SHADOW))
