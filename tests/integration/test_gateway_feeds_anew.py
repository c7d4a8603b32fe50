"""A session that was forgotten and is named again is followed from its new beginning, wherever its reader was."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from feeds_fixture import bodies, live, nothing_more, opened, past, store, take
from projection_records import Topics, conversation
from valkey_fixture import ValkeyServer

from gateway.feeds import Feeds, Position
from projections.migrations import migrate
from projections.record import Record
from schemas.topics import AGENT_EVENTS

pytestmark = pytest.mark.asyncio(loop_scope="session")


def life(start: datetime) -> list[Record]:
    topics = Topics()
    topics.now_ms = int(start.timestamp() * 1000)
    topics.tell(conversation("s1", start=start))
    return topics.of(AGENT_EVENTS.name)


NOW = datetime.now(UTC)
OLD, NEW = life(NOW - timedelta(days=40)), life(NOW - timedelta(hours=1))


@asynccontextmanager
async def stored(valkey: ValkeyServer, postgres: str, prefix: str, records: list[Record]) -> AsyncIterator[Feeds]:
    await migrate(postgres)
    await store(postgres, records)
    async with past(postgres) as database, opened(valkey.url, prefix, database) as feeds:
        yield feeds


async def test_followed_before_it_begins(valkey_server: ValkeyServer, postgres: str) -> None:
    """Redis has forgotten it, PostgreSQL has not: who follows from now on gets the new life from its first event."""
    async with stored(valkey_server, postgres, "anew1:", OLD) as feeds, feeds.follow("s1", None) as follower:
        assert follower.start == Position(len(OLD), 0)
        async with live(valkey_server.url, "anew1:") as writer:
            await writer.write(NEW[:3])
        assert bodies(await take(follower, 3)) == [record.value for record in NEW[:3]]
        await nothing_more(follower)


@pytest.mark.parametrize("in_store", [0, 2, 3], ids=["the store is behind", "by one", "the store has all"])
async def test_resumed_after_it_began(valkey_server: ValkeyServer, postgres: str, in_store: int) -> None:
    """A position of the old life is behind none of the new one's events, whether or not these are stored already."""
    prefix = f"anew2{in_store}:"
    async with live(valkey_server.url, prefix) as writer:
        await writer.write(NEW[:3])
    async with (
        stored(valkey_server, postgres, prefix, [*OLD, *NEW[:in_store]]) as feeds,
        feeds.follow("s1", Position(len(OLD), 0)) as follower,
    ):
        assert bodies(await take(follower, 3)) == [record.value for record in NEW[:3]]
        await nothing_more(follower)


async def test_resumed_where_only_the_store_has_it(valkey_server: ValkeyServer, postgres: str) -> None:
    """Redis came back empty: the new life comes from PostgreSQL, and then from Redis, each event once."""
    prefix = "anew3:"
    async with (
        stored(valkey_server, postgres, prefix, [*OLD, *NEW[:2]]) as feeds,
        feeds.follow("s1", Position(len(OLD), 0)) as follower,
    ):
        assert bodies(await take(follower, 2)) == [record.value for record in NEW[:2]]
        async with live(valkey_server.url, prefix) as writer:
            await writer.write(NEW[:3])
        assert bodies(await take(follower, 1)) == [NEW[2].value]


async def test_resumed_while_redis_is_filled_again(valkey_server: ValkeyServer, postgres: str) -> None:
    """A position that Redis has not reached yet is in the same life: nothing comes twice."""
    prefix = "anew4:"
    async with live(valkey_server.url, prefix) as writer:
        await writer.write(NEW[:2])
        async with (
            stored(valkey_server, postgres, prefix, [*OLD, *NEW[:4]]) as feeds,
            feeds.follow("s1", Position(4, 0)) as follower,
        ):
            await writer.write(NEW[2:5])
            assert bodies(await take(follower, 1)) == [NEW[4].value]
