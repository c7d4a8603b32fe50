"""Every projection that there is, made again, is the live one: all columns of all rows, all that every key holds."""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from kafka_fixture import Broker
from projection_lag import caught_up
from projection_records import Topics, conversation, deltas, letter
from pydantic import SecretStr
from redis.asyncio import Redis
from valkey_fixture import ValkeyServer, dump_keys

from headrace.topics import apply_topics
from projections.calls import CallProjection
from projections.catalog import PROJECTIONS, TABLE_PROJECTIONS
from projections.database import connected
from projections.migrations import migrate
from projections.rebuild import Rebuilt, rebuild
from projections.rebuild_redis import RebuiltKeys, rebuild_keys
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.audit import AuditEvent, Outcome
from schemas.topics import AGENT_DELTAS, AGENT_EVENTS, AUDIT_EVENTS, DEAD_LETTERS, TOPICS

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEADLINE_S = 90
SESSIONS = 150
TABLES = sorted(table.name for projection in TABLE_PROJECTIONS.values() for table in projection.tables)

Dump = dict[str, Any]


def history(start: datetime) -> list[Topics]:
    """Three parts: turns with their deltas, then duplicates and poison among more of them."""
    parts = [Topics() for _ in range(3)]
    for number in range(SESSIONS):
        topics, partition = parts[number % 3], number % 4
        topics.now_ms = int(start.timestamp() * 1000)
        session_id = f"s{number}" if number % 10 else f"acme:s{number}"
        for delta in deltas(session_id, turn=1, texts=("Hel", "lo")):
            topics.put(AGENT_DELTAS.name, partition, delta)
        topics.tell(conversation(session_id, tenant=f"t{number % 2}", start=start), partition)
        topics.put(DEAD_LETTERS.name, partition, letter(number, start))
        act = AuditEvent(
            id=f"a{number // 2}", at=start, event_type="command_sent", outcome=Outcome.SUCCESS, ip_address="::1"
        )
        for _ in range(2):
            topics.put(AUDIT_EVENTS.name, number // 2 % 4, act)
    for record in parts[0].of(AGENT_EVENTS.name)[:200]:
        # Published again by a worker that came back.
        parts[1].put(record.topic, record.partition, record.value)
    for topic in {topic.name for projection in PROJECTIONS.values() for topic in projection.topics}:
        for number, poison in enumerate((b"", b"{", b"[]", b"\xff", b'{"type":"turn_started","at":1e400}')):
            parts[1 + number % 2].put(topic, number % 4, poison)
    return parts


BUDGETS = """
[house]
scope = "all"
day_micros = 1_000_000
[users]
scope = "user"
day_micros = 1_000_000
"""


async def publish(settings: Settings, topics: Topics) -> None:
    names = {topic.name: topic_name(settings, topic) for topic in TOPICS}
    async with AIOKafkaProducer(bootstrap_servers=settings.brokers, linger_ms=5) as producer:
        await asyncio.gather(
            *[
                await producer.send(names[one.topic], one.value, partition=one.partition, timestamp_ms=one.timestamp_ms)
                for one in topics.records
            ]
        )


async def start_projecting(settings: Settings, folder: str) -> asyncio.subprocess.Process:
    assert settings.postgres is not None
    assert settings.redis is not None
    assert settings.budgets is not None
    environment = os.environ | {
        "HEADRACE_BUDGETS": str(settings.budgets),
        "HEADRACE_BROKERS": settings.brokers,
        "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
        "HEADRACE_PARTITIONS": str(settings.partitions),
        "HEADRACE_POSTGRES": settings.postgres.get_secret_value(),
        "HEADRACE_REDIS": settings.redis.get_secret_value(),
        "HEADRACE_DATA_DIR": folder,
        "HEADRACE_LOG_FORMAT": "json",
    }
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "headrace", "project", env=environment)


async def begun(settings: Settings) -> bool:
    """Whether something is in both stores."""
    assert settings.postgres is not None
    assert settings.redis is not None
    async with connected(settings.postgres.get_secret_value()) as connection:
        rows = await connection.fetchval("SELECT count(*) FROM (SELECT 1 FROM events LIMIT 1) AS one")
    redis: Any = Redis.from_url(settings.redis.get_secret_value())
    try:
        return bool(rows and await redis.exists(f"headrace:{settings.topic_prefix}progress:live"))
    finally:
        await redis.aclose()


async def dump(settings: Settings) -> Dump:
    """Tables with all columns by name, in order; keys with all that they hold and when they expire."""
    assert settings.postgres is not None
    assert settings.redis is not None
    async with connected(settings.postgres.get_secret_value()) as connection:
        rows = {
            name: sorted(str(dict(row)) for row in await connection.fetch(f"SELECT * FROM {name}")) for name in TABLES
        }
    keys = await dump_keys(settings.redis.get_secret_value(), f"headrace:{settings.topic_prefix}")
    return rows | {key: value for key, value in keys.items() if not key.startswith("progress:")}


async def make_all_again(settings: Settings) -> list[str]:
    """Names what differed."""
    different: list[str] = []
    for projection in PROJECTIONS.values():
        result: Rebuilt | RebuiltKeys
        if isinstance(projection, CallProjection):
            result = await rebuild_keys(settings, projection, lambda _: None)
            different += [one.kind for one in result.kinds if one.new or one.changed or one.gone or one.kept]
        else:
            result = await rebuild(settings, TABLE_PROJECTIONS[projection.name], lambda _: None)
            different += [one.table for one in result.tables if one.added or one.removed]
        assert result.records > 0
        assert result.skipped > 0, "poison was expected"
    return different


@pytest.mark.timeout(300)
async def test_all_made_again_are_the_live_ones(
    embedded_kafka: Broker, postgres: str, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After duplicates, poison, a kill -9, two processes sharing partitions; what is tampered with is found."""
    budgets = tmp_path_factory.mktemp("budgets") / "budgets.toml"
    budgets.write_text(BUDGETS)
    settings = Settings(
        brokers=embedded_kafka.bootstrap,
        topic_prefix="equal.",
        partitions=4,
        postgres=SecretStr(postgres),
        redis=SecretStr(valkey_server.url),
        budgets=budgets,
    )
    await apply_topics(settings)
    await migrate(postgres)
    first, second, third = history(datetime.now(UTC) - timedelta(hours=1))
    folders = [str(tmp_path_factory.mktemp("project")) for _ in range(3)]
    processes = [await start_projecting(settings, folder) for folder in folders[:2]]
    try:
        await publish(settings, first)
        async with asyncio.timeout(DEADLINE_S):
            while not await begun(settings):
                await asyncio.sleep(0.02)
        processes[0].kill()
        await publish(settings, second)
        processes.append(await start_projecting(settings, folders[2]))
        await publish(settings, third)
        await caught_up(settings)
    finally:
        await _end(processes)
    live = await dump(settings)
    assert len(live["turns"]) == 2 * SESSIONS
    assert len([key for key in live if key.startswith("live:")]) == SESSIONS
    assert live["statistics:total"][0]["agent/assistant/turns_started"] == str(2 * SESSIONS)

    assert await make_all_again(settings) == []
    assert await dump(settings) == live

    await _tamper(settings)
    assert await dump(settings) != live
    kinds = ["budget", "live", "session", "sessions:{tenant}", "statistics:total", "user"]
    assert sorted(await make_all_again(settings)) == sorted([*TABLES, *kinds])
    assert await dump(settings) == live


async def _end(processes: Sequence[asyncio.subprocess.Process]) -> None:
    for process in processes:
        if process.returncode is None:
            process.terminate()
    for process in processes:
        await asyncio.wait_for(process.wait(), DEADLINE_S)


async def _tamper(settings: Settings) -> None:
    """One column of one row of each table, and a value, an entry, a counter and a time in Redis."""
    assert settings.postgres is not None
    assert settings.redis is not None
    async with connected(settings.postgres.get_secret_value()) as connection:
        for table in TABLES:
            await connection.execute(f"DELETE FROM {table} WHERE ctid = (SELECT min(ctid) FROM {table})")
    prefix = f"headrace:{settings.topic_prefix}"
    redis: Any = Redis.from_url(settings.redis.get_secret_value(), decode_responses=True)
    await redis.xdel(f"{prefix}live:s7", "2-0")
    await redis.hset(f"{prefix}session:s7", "status", "running")
    await redis.zincrby(f"{prefix}sessions:acme", 1, "acme:s10")
    await redis.hincrby(f"{prefix}statistics:total", "agent/assistant/turns_started", 1)
    await redis.persist(f"{prefix}user:t1/ann")
    async for key in redis.scan_iter(f"{prefix}budget:house/*"):
        await redis.hincrby(key, "micros", -1)
    await redis.aclose()
