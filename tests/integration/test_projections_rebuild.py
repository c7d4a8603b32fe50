"""The whole way: records on real topics, the project process, a kill in the middle, a rebuild."""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from kafka_fixture import Broker
from postgres_fixture import TABLES, dump
from projection_lag import caught_up
from projection_records import Topics, conversation, small_world
from pydantic import SecretStr
from retention import MOMENTS, ONE_BYTE, remove_before

from headrace.topics import apply_topics
from projections.catalog import TABLE_PROJECTIONS
from projections.database import connected
from projections.migrations import migrate
from projections.rebuild import rebuild
from projections.record import Record
from projections.reread import Progress
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.topics import AGENT_EVENTS, SESSION_LOG, TOPICS

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEADLINE_S = 60
SESSIONS = 200


def settings_of(broker: Broker, prefix: str, postgres: str) -> Settings:
    return Settings(brokers=broker.bootstrap, topic_prefix=prefix, partitions=2, postgres=SecretStr(postgres))


async def publish(settings: Settings, records: Sequence[Record], batch_bytes: int = 16_384) -> None:
    names = {topic.name: topic_name(settings, topic) for topic in TOPICS}
    async with AIOKafkaProducer(
        bootstrap_servers=settings.brokers, linger_ms=5, max_batch_size=batch_bytes
    ) as producer:
        sent = [
            await producer.send(names[record.topic], record.value, partition=record.partition) for record in records
        ]
        await asyncio.gather(*sent)


async def start(settings: Settings, *arguments: str) -> asyncio.subprocess.Process:
    """`headrace project` as a process of its own."""
    assert settings.postgres is not None
    environment = os.environ | {
        "HEADRACE_BROKERS": settings.brokers,
        "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
        "HEADRACE_PARTITIONS": str(settings.partitions),
        "HEADRACE_POSTGRES": settings.postgres.get_secret_value(),
        "HEADRACE_LOG_FORMAT": "json",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace", "project", *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )


async def count(url: str, table: str = "events") -> int:
    async with connected(url) as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


async def ended(process: asyncio.subprocess.Process) -> str:
    _, logged = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return logged.decode()


@pytest.mark.timeout(300)
async def test_killed_resumed_rebuilt(embedded_kafka: Broker, postgres: str) -> None:
    """Kill -9 in the middle of a write loses nothing, and each projection made again is the live one, byte for byte."""
    settings = settings_of(embedded_kafka, "rebuild.", postgres)
    await apply_topics(settings)
    await migrate(postgres)
    start_at = datetime.now(UTC) - timedelta(days=2)
    topics = small_world([f"s{number}" for number in range(SESSIONS)], start=start_at)
    topics.put(AGENT_EVENTS.name, 0, b"not an event")
    half = len(topics.records) // 2
    await publish(settings, topics.records[:half])

    process = await start(settings)
    async with asyncio.timeout(DEADLINE_S):
        while not await count(postgres):
            await asyncio.sleep(0.05)
    async with connected(postgres) as connection, connection.transaction():
        await connection.execute("LOCK TABLE events IN SHARE MODE")
        await publish(settings, topics.records[half:])
        async with asyncio.timeout(DEADLINE_S):
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.05)
        process.kill()
        await ended(process)

    process = await start(settings)
    await caught_up(settings, TABLE_PROJECTIONS)
    process.terminate()
    logged = await ended(process)
    assert process.returncode == 0, logged
    live = await dump(postgres)
    assert len(live["events"]) == len(topics.of("session-log", "agent-events")) - 1
    assert len(live["model_calls"]) == SESSIONS * 3

    for projection in TABLE_PROJECTIONS.values():
        told: list[Progress] = []
        result = await rebuild(settings, projection, told.append)
        assert told[-1].done == told[-1].total == result.records
        assert [(t.added, t.removed) for t in result.tables] == [(0, 0)] * len(projection.tables)
        assert [t.same for t in result.tables] == [len(live[t.table]) for t in result.tables]
        print(f"{projection.name}: {result.records} records, {result.records / result.seconds:.0f}/s")
    assert await dump(postgres) == live


async def test_a_rebuild_mends_and_keeps(embedded_kafka: Broker, postgres: str) -> None:
    """What is wrong in the live tables is right after it; what the topics no longer have stays; views are served."""
    settings = settings_of(embedded_kafka, "mend.", postgres)
    await apply_topics(settings)
    await migrate(postgres)
    topics = small_world([f"s{number}" for number in range(20)], start=datetime.now(UTC) - timedelta(days=2))
    await publish(settings, topics.records)
    process = await start(settings)
    await caught_up(settings, TABLE_PROJECTIONS)
    right = await dump(postgres)
    await _spoil(postgres)
    # The live projection goes on while the others are made again.
    results = [await rebuild(settings, projection, lambda _: None) for projection in TABLE_PROJECTIONS.values()]
    differences = {table.table: (table.added, table.removed) for result in results for table in result.tables}
    assert differences == {
        "events": (1, 0),
        "turns": (0, 0),
        "model_calls": (3, 3),
        "dead_letters": (0, 1),
        "audit_log": (1, 1),
    }
    after = await dump(postgres)
    assert {name: after[name] for name in TABLES[:-1]} == {name: right[name] for name in TABLES[:-1]}
    assert [row for row in after["dead_letters"] if row not in right["dead_letters"]] != []
    more = Topics()
    more.tell(conversation("later", start=datetime.now(UTC)))
    await publish(settings, more.records)
    await caught_up(settings, TABLE_PROJECTIONS)
    process.terminate()
    await ended(process)
    assert await count(postgres) == len(right["events"]) + len(more.records)
    assert sum([1 for name in TABLES if await count(postgres, name) == 0]) == 0


@MOMENTS
async def test_retention_meanwhile(
    embedded_kafka: Broker, postgres: str, monkeypatch: pytest.MonkeyPatch, moment: Any
) -> None:
    """Rows stay whose records go after the rebuild has begun and before it reads them."""
    settings = settings_of(embedded_kafka, f"meanwhile-{moment.__name__}.", postgres)
    await apply_topics(settings)
    await migrate(postgres)
    topics = small_world([f"s{number}" for number in range(20)], start=datetime.now(UTC) - timedelta(days=2))
    await publish(settings, topics.records, ONE_BYTE)
    process = await start(settings)
    await caught_up(settings, TABLE_PROJECTIONS)
    process.terminate()
    await ended(process)
    right = await dump(postgres)
    remove_before(moment, monkeypatch, settings, topics.of(SESSION_LOG.name, AGENT_EVENTS.name))
    result = await rebuild(settings, TABLE_PROJECTIONS["events"], lambda _: None)
    assert result.records < len(right["events"]), "removed too late"
    assert [(t.same, t.added, t.removed) for t in result.tables] == [(len(right["events"]), 0, 0)]
    assert await dump(postgres) == right


async def _spoil(url: str) -> None:
    kept = (
        "at, processor, cause, error, session_id, record_at, record_key, record_value, record_headers, topic, partition"
    )
    statements = (
        "DELETE FROM events WHERE ctid = (SELECT min(ctid) FROM events)",
        "UPDATE model_calls SET cost_micros = 77 WHERE session_id = 's1'",
        "UPDATE audit_log SET outcome = 'denied' WHERE id = 'a0'",
        f"INSERT INTO dead_letters SELECT 'wrong', {kept}, \"offset\" FROM dead_letters LIMIT 1",
        f"INSERT INTO dead_letters SELECT 'older', {kept}, -1 FROM dead_letters LIMIT 1",
    )
    async with connected(url) as connection:
        for statement in statements:
            await connection.execute(statement)
