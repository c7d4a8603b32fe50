"""Projections in a real PostgreSQL: what is written once stays, whatever comes twice, breaks or dies."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from postgres_fixture import PostgresServer, dump
from projection_records import Topics, conversation, small_world

from projections.catalog import TABLE_PROJECTIONS
from projections.database import connected
from projections.errors import ChangedMigrationError, MigrateFirstError, MigrationFailedError, UpgradeHeadraceError
from projections.loop import Writer
from projections.migrations import Migration, migrate, read_migrations, require_migrated
from projections.record import Record
from projections.sql_files import sql
from projections.tables import Tables
from schemas.topics import AGENT_EVENTS, SESSION_LOG

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime(2026, 5, 10, tzinfo=UTC)


async def write(
    url: str, records: Sequence[Record], *, now: datetime = NOW, keep_days: float = 3_650, size: int = 7
) -> int:
    """Project the records in batches of `size`; gives how many were skipped."""
    skipped = 0
    for projection in TABLE_PROJECTIONS.values():
        tables = Tables(projection, url, keep_days, now=lambda: now)
        writer = Writer(projection, tables, asyncio.Event())
        wanted = [record for record in records if record.topic in {topic.name for topic in projection.topics}]
        for begin in range(0, len(wanted), size):
            await writer.write(wanted[begin : begin + size])
        skipped += writer.skipped
        await tables.close()
    return skipped


async def test_migrations_run_once(postgres: str) -> None:
    """Two that run at once apply each migration once, and the next finds nothing to do."""
    with pytest.raises(MigrateFirstError, match="headrace migrate"):
        await require_migrated(postgres)
    names = [migration.name for migration in read_migrations()]
    assert sorted(await asyncio.gather(migrate(postgres), migrate(postgres))) == [[], names]
    assert await migrate(postgres) == []
    await require_migrated(postgres)


async def test_a_migration_that_fails_leaves_nothing(postgres: str) -> None:
    """Those before it stay applied; it is applied as a whole or not at all."""
    first, broken = Migration(1, "0001_a", "CREATE TABLE a (x int)"), "CREATE TABLE b (x int); SELECT 1/0"
    with pytest.raises(MigrationFailedError, match=r"0002_b.*division by zero"):
        await migrate(postgres, [first, Migration(2, "0002_b", broken)])
    mended = Migration(2, "0002_b", "CREATE TABLE b (x int)")
    assert await migrate(postgres, [first, mended]) == ["0002_b"]


async def test_a_changed_migration_is_refused_by_name(postgres: str) -> None:
    """Whoever edits what was applied hears which file it is; so does whoever runs an old version on a new database."""
    first, second = Migration(1, "0001_a", "CREATE TABLE a (x int)"), Migration(2, "0002_b", "CREATE TABLE b (x int)")
    await migrate(postgres, [first])
    with pytest.raises(ChangedMigrationError, match="0001_a"):
        await migrate(postgres, [Migration(1, "0001_a", "CREATE TABLE a (x bigint)"), second])
    # Another kind of line ends is no change.
    assert await migrate(postgres, [Migration(1, "0001_a", "CREATE TABLE a (x int)"), second]) == ["0002_b"]
    with pytest.raises(UpgradeHeadraceError, match="0002_b"):
        await migrate(postgres, [first])


async def test_everything_comes_twice(postgres: str) -> None:
    """A second delivery, in other batches, changes no row; nor does an event that was published again."""
    await migrate(postgres)
    topics = small_world()
    assert await write(postgres, topics.records) == 0
    once = await dump(postgres)
    assert len(once["events"]) == len(topics.of(AGENT_EVENTS.name, SESSION_LOG.name))
    for record in topics.of(AGENT_EVENTS.name):
        topics.put(record.topic, record.partition, record.value)
    await write(postgres, topics.records, size=1_000)
    assert await dump(postgres) == once


async def test_usage_says_who_used_what(postgres: str) -> None:
    """Calls are joined with their turn's tenant and agent, whichever topic is read first."""
    await migrate(postgres)
    topics = small_world()
    await write(postgres, topics.of(SESSION_LOG.name))
    async with connected(postgres) as connection:
        (before,) = await connection.fetch("SELECT tenant, agent, calls, failed_calls, output_tokens FROM usage")
        assert tuple(before) == (None, None, 9, 3, 36)
        await write(postgres, topics.of(AGENT_EVENTS.name))
        rows = await connection.fetch("SELECT tenant, agent, model, calls, cost_micros FROM usage ORDER BY tenant")
        assert [tuple(row) for row in rows] == [("t0", "assistant", "m", 6, 8), ("t1", "assistant", "m", 3, 4)]


async def test_a_session_that_begins_anew(postgres: str) -> None:
    """Its turns and events are numbered from 1 again, and are others than those of its first life."""
    await migrate(postgres)
    topics = Topics()
    topics.tell(conversation("s1", tenant="old", start=NOW - timedelta(days=40)))
    topics.tell(conversation("s1", tenant="new", start=NOW))
    await write(postgres, topics.records)
    found = await dump(postgres)
    assert len(found["events"]) == len(topics.records)
    async with connected(postgres) as connection:
        rows = await connection.fetch("SELECT tenant, calls FROM usage ORDER BY tenant")
    assert [tuple(row) for row in rows] == [("new", 3), ("old", 3)]


async def test_bad_records_are_left_out(postgres: str) -> None:
    """What is not JSON, of another shape, or refused by the database costs only itself."""
    await migrate(postgres)
    topics = small_world()
    good = len(topics.of(AGENT_EVENTS.name, SESSION_LOG.name))
    event = topics.of(AGENT_EVENTS.name)[0].value
    for bad in (
        b"",
        b"{",
        b"[" * 100_000,
        b'{"type": "strange"}',
        event.replace(b'"at":"2026', b'"at":"9999'),
        event.replace(b'"seq":1,', b'"seq":"1",'),
    ):
        topics.put(AGENT_EVENTS.name, 0, bad)
    topics.put(AGENT_EVENTS.name, 0, event.replace(b'"seq":1,', b'"seq":99,').replace(b'"m1"', b'"m\\u00001"'))
    # Events and usage each read these; usage keeps a turn of any time.
    assert await write(postgres, topics.records, size=1_000) == 6 + 5
    found = await dump(postgres)
    assert len(found["events"]) == good + 1


async def test_old_months_are_dropped(postgres: str) -> None:
    """A month is there when its first record is, and goes with all its rows; what comes later for it is not kept."""
    await migrate(postgres)
    topics = Topics()
    topics.tell(conversation("old", start=datetime(2026, 2, 27, tzinfo=UTC)))
    first = len(topics.of(AGENT_EVENTS.name, SESSION_LOG.name))
    topics.tell(conversation("new", start=datetime(2026, 5, 1, tzinfo=UTC)))
    await write(postgres, topics.records)
    assert len((await dump(postgres))["events"]) == len(topics.records)
    assert await write(postgres, topics.records, keep_days=60) == 0
    assert len((await dump(postgres))["events"]) == len(topics.records) - first
    async with connected(postgres) as connection:
        parts = await connection.fetch(sql("parts"), "events")
    assert sorted(part[0] for part in parts) == ["events_2026_05", "events_2026_06"]


async def test_the_database_dies_in_the_middle(postgres_server: PostgresServer, postgres: str) -> None:
    """The writer waits, goes on when it is back, and nothing is lost or twice."""
    await migrate(postgres)
    topics = small_world()
    projection = TABLE_PROJECTIONS["events"]
    wanted = topics.of(SESSION_LOG.name, AGENT_EVENTS.name)
    tables = Tables(projection, postgres, 3_650, now=lambda: NOW)
    writer = Writer(projection, tables, asyncio.Event())
    await writer.write(wanted[:10])
    await postgres_server.kill()
    rest = asyncio.create_task(writer.write(wanted[5:]))
    await asyncio.sleep(0.5)
    assert not rest.done()
    await postgres_server.start()
    await asyncio.wait_for(rest, 30)
    await tables.close()
    assert (writer.skipped, len((await dump(postgres))["events"])) == (0, len(wanted))
