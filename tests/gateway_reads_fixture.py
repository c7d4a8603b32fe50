"""What the gateway's readers are tried on: the real projections' rows of histories of sessions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

import pytest_asyncio
from aiokafka import AIOKafkaProducer
from gateway_fixture import Answer, Door, door, projecting, stores
from kafka_fixture import Broker
from projection_lag import caught_up
from projection_records import Topics, audited, conversation, letter
from valkey_fixture import ValkeyServer

from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.dead_letter import DeadLetter
from schemas.topics import AUDIT_EVENTS, DEAD_LETTERS, TOPICS

DEADLINE_S = 60


@cache
def start() -> datetime:
    """When a test's history begins: some minutes ago, and on one day."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    midnight = at.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    return min(at, midnight - timedelta(minutes=5))


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(embedded_kafka: Broker, postgres: str, valkey_server: ValkeyServer) -> AsyncIterator[Door]:
    start.cache_clear()
    async with stores(embedded_kafka, postgres, valkey_server) as settings, door(settings) as opened:
        yield opened


async def publish(settings: Settings, topics: Topics) -> None:
    """What the pipeline would have written, not long ago: brokers delete what is older than its topic keeps."""
    oldest_ms = int(start().timestamp() * 1000)
    names = {topic.name: topic_name(settings, topic) for topic in TOPICS}
    async with AIOKafkaProducer(bootstrap_servers=settings.brokers, linger_ms=5) as producer:
        sent = [
            await producer.send(
                names[record.topic],
                record.value,
                partition=record.partition,
                timestamp_ms=max(record.timestamp_ms, oldest_ms),
            )
            for record in topics.records
        ]
        await asyncio.gather(*sent)


@asynccontextmanager
async def filled(gateway: Door, topics: Topics) -> AsyncIterator[None]:
    """The projections have all of it, and go on."""
    await publish(gateway.settings, topics)
    async with projecting(gateway.settings):
        await caught_up(gateway.settings)
        yield


def world() -> Topics:
    """Two tenants and nobody's: conversations, a letter and an act of each."""
    topics = Topics()
    topics.now_ms = int(start().timestamp() * 1000)
    for number, session_id in enumerate(("acme:1", "beta:1", "plain")):
        tenant = session_id.partition(":")[0] if ":" in session_id else None
        topics.tell(conversation(session_id, tenant=tenant, start=start() + timedelta(minutes=number)), number % 2)
        topics.put(DEAD_LETTERS.name, 0, letter_of(number, session_id))
        topics.put(AUDIT_EVENTS.name, 0, act_of(number, session_id, tenant))
    return topics


def letter_of(number: int, session_id: str | None, **sides: Any) -> DeadLetter:
    fields = {name: getattr(letter(number), name) for name in DeadLetter.__struct_fields__}
    at = start() + timedelta(seconds=number)
    return DeadLetter(
        **(fields | {"at": at, "session_id": session_id, "headers": (("a", b"b"), ("c", b"\xff"))} | sides)
    )


def act_of(number: int, session_id: str, tenant: str | None) -> Any:
    return audited(number, start() + timedelta(seconds=number), session_id=session_id, tenant=tenant)


async def get(gateway: Door, path: str, key: str, **query: Any) -> Any:
    answer = await ask(gateway, path, key, **query)
    assert answer.status == 200, answer.text
    return answer.body


async def ask(gateway: Door, path: str, key: str, **query: Any) -> Answer:
    text = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
    return await gateway.ask("GET", f"{path}?{text}" if text else path, key)


async def every_page(gateway: Door, path: str, key: str, **query: Any) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = await get(gateway, path, key, **query, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
