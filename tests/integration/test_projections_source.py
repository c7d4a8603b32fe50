"""A projection's records from real brokers: nothing is taken before the store has said where to begin."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from client_fixture import own_topics
from kafka_fixture import Broker

from headrace.connect import admin, producer
from projections.errors import StoreUnavailableError
from projections.loop import Progress
from projections.source import KafkaSource
from projections.summaries import SUMMARIES
from runtime.kafka import projection_group, topic_name
from runtime.settings import Settings
from schemas.topics import SESSION_LOG

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEADLINE_S = 60


@pytest_asyncio.fixture(loop_scope="session")
async def settings(embedded_kafka: Broker) -> AsyncIterator[Settings]:
    async with own_topics(embedded_kafka.bootstrap, partitions=2) as settings:
        yield settings


async def write(settings: Settings, count: int) -> None:
    """So many records on each partition."""
    async with producer(settings, 1 << 20) as sending:
        for number in range(2 * count):
            await sending.send_and_wait(topic_name(settings, SESSION_LOG), b"{}", partition=number % 2)


@asynccontextmanager
async def source_of(
    settings: Settings, progress: Callable[[], Awaitable[Progress | None]]
) -> AsyncIterator[KafkaSource]:
    source = KafkaSource(settings, SUMMARIES, progress, asyncio.Event())
    try:
        yield source
    finally:
        await source.stop()


async def unknown() -> None:
    """A store that does not know how far it is."""


async def places(source: KafkaSource, count: int) -> set[tuple[int, int]]:
    """Partition and offset of what is taken until it is so much."""
    found: set[tuple[int, int]] = set()
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < count:
            found |= {(record.partition, record.offset) for record in await source.take()}
    return found


async def committed(settings: Settings) -> dict[int, int]:
    async with admin(settings) as groups:
        found = await groups.list_consumer_group_offsets(projection_group(settings, SUMMARIES.name))
    return {one.partition: metadata.offset for one, metadata in found.items()}


async def test_a_store_that_lost_everything_is_waited_for(settings: Settings) -> None:
    """What came after the last commit is not taken before the store has said that it wants all from the first one."""
    await write(settings, 3)
    async with source_of(settings, unknown) as source:
        assert len(await places(source, 6)) == 6
        await source.commit()
    assert await committed(settings) == {0: 3, 1: 3}
    await write(settings, 2)
    asked = 0
    records: list[Any] = []

    async def empty() -> Progress:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailableError("it is away")
        # Long enough for records to come from where the last commit was, where nothing holds them back.
        await asyncio.wait({taking}, timeout=1.5)
        return {}

    async def first() -> None:
        while not records:
            records.extend(await source.take())

    async with source_of(settings, empty) as source:
        taking = asyncio.create_task(first())
        await asyncio.wait_for(asyncio.shield(taking), DEADLINE_S)
        assert min(record.offset for record in records) == 0
        taken = {(record.partition, record.offset) for record in records}
        assert taken | await places(source, 10 - len(taken)) == {(n % 2, n // 2) for n in range(10)}


async def test_a_partition_that_went_while_a_commit_failed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next commit is that of the others only: one with a partition of somebody else's would fail for all."""
    await write(settings, 1)
    async with source_of(settings, unknown) as source:
        await places(source, 2)
        consumer: Any = source._consumer

        async def fail(offsets: object) -> None:
            del offsets
            source._let_go([TopicPartition(topic_name(settings, SESSION_LOG), 0)])
            raise KafkaConnectionError

        with monkeypatch.context() as patch:
            patch.setattr(consumer, "commit", fail)
            await source.commit()
        await source.commit()
        assert await committed(settings) == {1: 1}
