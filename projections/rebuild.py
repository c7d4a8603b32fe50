"""Makes a projection in PostgreSQL again: into a shadow of its tables, compared with the live ones, then swapped.

The shadow has the same tables in a schema of its own. Rows of records that the topics no longer have are taken over
from the live tables, and so is what the live projection wrote while the shadow was made. Then, in one transaction, the
live tables' partitions are dropped and those of the shadow attached in their place: views and privileges stay as they
are.
"""

import asyncio
from time import monotonic
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from projections.database import connected, store_errors
from projections.errors import RebuildRunsError
from projections.loop import Writer
from projections.migrations import require_migrated
from projections.projection import Table, TableProjection
from projections.reread import Spans, Tell, reread
from projections.sql_files import sql
from projections.tables import Tables
from runtime.settings import Settings
from runtime.stores import postgres_url

LOCK = 4_847_201_392
SHADOW = "headrace_rebuild"


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


async def rebuild(settings: Settings, projection: TableProjection, tell: Tell) -> Rebuilt:
    """Make the projection again and put it in the place of the old one.

    Raises:
        ProjectionError: the database is not as it must be, does not answer, or another rebuild runs.
    """
    url = postgres_url(settings)
    await require_migrated(url)
    started = monotonic()
    async with reread(settings, projection) as topics, connected(url) as connection:
        spans = await topics.spans()
        with store_errors():
            if not await connection.fetchval(sql("try_lock"), LOCK):
                raise RebuildRunsError("another rebuild runs on this database: wait until it has ended")
            live = await connection.fetchval(sql("current_schema"))
            await _make_shadow(connection, projection, live)
            await _take_over(connection, projection, live, spans)
        tables = Tables(projection, url, projection.keep_days(settings.projections), schemas=f'"{SHADOW}", "{live}"')
        writer = Writer(projection, tables, asyncio.Event())
        try:
            await topics.read(spans, writer, tell)
            lost = {one: replace(span, begin=topics.begins[one]) for one, span in spans.items()}
            if lost != spans:
                with store_errors():
                    await _take_over(connection, projection, live, lost)
            await tables.retain()
        finally:
            await tables.close()
        with store_errors():
            differences = await _compare(connection, projection, live)
            await _swap(connection, projection, live)
    return Rebuilt(
        records=writer.records, skipped=writer.skipped, seconds=monotonic() - started, tables=tuple(differences)
    )


async def _make_shadow(connection: Any, projection: TableProjection, live: str) -> None:
    """Empty tables of the shape of the live ones, without partitions yet."""
    async with connection.transaction():
        await connection.execute(sql("create_shadow_schema").format(shadow=SHADOW))
        for table in projection.tables:
            by = await connection.fetchval(sql("partition_key"), f'"{live}".{table.name}')
            await connection.execute(
                sql("create_shadow_table").format(shadow=SHADOW, live=live, table=table.name, by=by)
            )


async def _make_parts(connection: Any, table: Table, live: str) -> list[Any]:
    """The partitions that the live table has and its shadow does not; gives those of the live table."""
    parts: list[Any] = await connection.fetch(sql("parts"), f'"{live}".{table.name}')
    there = {part[0] for part in await connection.fetch(sql("parts"), f'"{SHADOW}".{table.name}')}
    for part in parts:
        if part[0] not in there:
            await connection.execute(
                sql("create_shadow_part").format(shadow=SHADOW, table=table.name, part=part[0], bound=part[1])
            )
    return parts


async def _take_over(connection: Any, projection: TableProjection, live: str, spans: Spans) -> None:
    """Note what the topics have, and copy the live rows of records that are older than that."""
    places = [(span.topic, one.partition, span.begin, span.end, span.live) for one, span in spans.items()]
    async with connection.transaction():
        await connection.executemany(sql("insert_span").format(shadow=SHADOW), places)
        for table in projection.tables:
            await _make_parts(connection, table, live)
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
            old = await _make_parts(connection, table, live)
            await connection.execute(sql("copy_newer").format(shadow=SHADOW, live=live, table=table.name))
            for part in old:
                await connection.execute(sql("drop_part").format(live=live, part=part[0]))
            for part in await connection.fetch(sql("parts"), f'"{SHADOW}".{table.name}'):
                await connection.execute(
                    sql("move_part").format(shadow=SHADOW, live=live, table=table.name, part=part[0], bound=part[1])
                )
        await connection.execute(sql("drop_shadow_schema").format(shadow=SHADOW))
