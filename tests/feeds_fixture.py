"""Feeds on real servers, what fills them, and what their readers take."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.database import Database
from gateway.feeds import Entry, Feeds, Follower
from projections.events import EVENTS
from projections.live import LIVE
from projections.loop import Writer
from projections.migrations import migrate
from projections.record import Record
from projections.redis_calls import RedisCalls
from projections.tables import Tables

DEADLINE_S = 20


@asynccontextmanager
async def opened(url: str, prefix: str, database: Database | None = None) -> AsyncIterator[Feeds]:
    redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=2, socket_connect_timeout=2)
    try:
        async with Feeds(redis, prefix, database) as feeds:
            yield feeds
    finally:
        await redis.aclose()


@asynccontextmanager
async def live(url: str, prefix: str) -> AsyncIterator[Writer]:
    """What `headrace project` does with the feed."""
    store = RedisCalls("live", url, prefix)
    await store.progress()
    try:
        yield Writer(LIVE, store, asyncio.Event())
    finally:
        await store.close()


@asynccontextmanager
async def past(url: str) -> AsyncIterator[Database]:
    await migrate(url)
    database = Database(url)
    await database.start()
    try:
        yield database
    finally:
        await database.close()


async def store(url: str, records: Sequence[Record]) -> None:
    tables = Tables(EVENTS, url, 3_650)
    await Writer(EVENTS, tables, asyncio.Event()).write(records)
    await tables.close()


async def take(follower: Follower, count: int) -> list[Entry]:
    """The next so many entries, and none more that is there already."""
    entries: list[Entry] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(entries) < count:
            entries += await follower.take()
    assert len(entries) == count, [entry.body for entry in entries]
    return entries


async def nothing_more(follower: Follower) -> None:
    """Whatever is on its way has come by then."""
    await asyncio.sleep(0.2)
    follower.poke()
    assert await follower.take() == []


def bodies(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.body for entry in entries]
