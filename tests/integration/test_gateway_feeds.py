"""Sessions are followed in a real Valkey and a real PostgreSQL: nothing is lost, nothing comes twice, whatever dies."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from feeds_fixture import DEADLINE_S, bodies, live, nothing_more, opened, past, store, take
from postgres_fixture import PostgresServer
from projection_records import Topics, conversation, deltas
from redis.asyncio import Redis
from valkey_fixture import ValkeyServer

from gateway.database import Database
from gateway.feeds import BEGINNING, Entry, Position, TooSlow
from gateway.feeds import feeds as feeds_module
from gateway.problems import Code, Problem
from projections.migrations import migrate
from projections.record import Record
from schemas.codec import decode_agent_event
from schemas.topics import AGENT_DELTAS, AGENT_EVENTS

pytestmark = pytest.mark.asyncio(loop_scope="session")

START = datetime.now(UTC) - timedelta(hours=1)


def answered(session_id: str = "s1") -> tuple[Topics, list[Record]]:
    """A session of some turns, and its feed as it happens: each turn's deltas come after its start."""
    topics = Topics()
    topics.now_ms = int(START.timestamp() * 1000)
    topics.tell(conversation(session_id, start=START))
    feed: list[Record] = []
    for record in topics.of(AGENT_EVENTS.name):
        feed.append(record)
        event = decode_agent_event(record.value)
        if b'"turn_started"' in record.value:
            turn = int(event.turn_id.rpartition("/")[2])
            texts = [f"{turn}.{number}" for number in range(4)]
            feed += [topics.put(AGENT_DELTAS.name, 0, delta) for delta in deltas(session_id, turn, texts)]
    return topics, feed


async def test_an_answer_is_followed_and_resumed_everywhere(valkey_server: ValkeyServer) -> None:
    """As it is written, each entry comes once and as it is on its topic; from each position comes exactly the rest."""
    _, feed = answered()
    running = max(number for number, record in enumerate(feed) if b'"turn_started"' in record.value)
    ended, feed = feed[:running], feed[running:-1]
    async with opened(valkey_server.url, "everywhere:") as feeds, live(valkey_server.url, "everywhere:") as writer:
        await writer.write(ended)
        async with feeds.follow("s1", None) as follower:
            seen: list[Entry] = []
            for record in feed:
                await writer.write([record])
                seen += await take(follower, 1)
            await nothing_more(follower)
        assert bodies(seen) == [record.value for record in feed]
        assert len({entry.position for entry in seen}) == len(seen)
        for number, entry in enumerate(seen):
            async with feeds.follow("s1", entry.position) as again:
                rest = seen[number + 1 :]
                assert await take(again, len(rest)) == rest if rest else True
        async with feeds.follow("s1", seen[2].position) as again:
            assert await take(again, len(seen) - 3) == seen[3:]
            await nothing_more(again)


async def test_readers_share_a_subscription(valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis hears of a session once, however many follow it, and no more when all have gone."""
    monkeypatch.setattr(feeds_module, "REREAD_S", 0.1)
    _, feed = answered()
    client: Any = Redis.from_url(valkey_server.url)
    async with opened(valkey_server.url, "share:") as feeds, live(valkey_server.url, "share:") as writer:
        async with feeds.follow("s1", BEGINNING) as one, feeds.follow("s1", BEGINNING) as two:
            await writer.write(feed[:3])
            assert await take(one, 3) == await take(two, 3)
            assert dict(await client.pubsub_numsub("share:feed:s1"))[b"share:feed:s1"] == 1
        async with asyncio.timeout(DEADLINE_S):
            while dict(await client.pubsub_numsub("share:feed:s1"))[b"share:feed:s1"]:
                await asyncio.sleep(0.05)
        async with feeds.follow("s1", BEGINNING) as one:
            await take(one, 3)
            await writer.write(feed[3:5])
            await take(one, 2)
    await client.aclose()


async def test_a_wake_up_that_was_missed(valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody was told of is found all the same."""
    monkeypatch.setattr(feeds_module, "REREAD_S", 0.2)
    client: Any = Redis.from_url(valkey_server.url)
    async with opened(valkey_server.url, "missed:") as feeds, feeds.follow("s1", None) as follower:
        fields = {"event": '{"type":"turn_started"}', "turn": 1, "end": 0, "at": 5}
        await client.xadd("missed:live:s1", fields, id="1-0")
        (entry,) = await take(follower, 1)
        assert (entry.type, entry.position) == ("turn_started", Position(1, 0))
    await client.aclose()


async def test_what_is_no_feed_costs_only_itself(valkey_server: ValkeyServer) -> None:
    """A key of another type, or an entry of another shape, keeps no other session from being read."""
    _, feed = answered()
    client: Any = Redis.from_url(valkey_server.url)
    await client.set("strange:live:other", "not a stream")
    await client.xadd("strange:live:s2", {"x": "y"}, id="1-0")
    async with (
        opened(valkey_server.url, "strange:") as feeds,
        live(valkey_server.url, "strange:") as writer,
        feeds.follow("other", BEGINNING),
        feeds.follow("s2", BEGINNING),
        feeds.follow("s1", None) as one,
    ):
        await client.publish("strange:feed:other", "9-0")
        await client.publish("strange:feed:s2", "9-0")
        await writer.write(feed[:3])
        await take(one, 3)
    await client.aclose()


@pytest.mark.parametrize("begin", ["now", "middle", "beginning"])
async def test_a_redis_that_comes_back_empty(valkey_server: ValkeyServer, begin: str) -> None:
    """Killed under its readers in the middle of an answer, and filled again, deltas first: exactly the rest comes."""
    topics, feed = answered()
    events, pieces = topics.of(AGENT_EVENTS.name), topics.of(AGENT_DELTAS.name)
    prefix = f"killed-{begin}:"
    middle = len(feed) - 3
    async with opened(valkey_server.url, prefix) as feeds:
        async with live(valkey_server.url, prefix) as writer:
            await writer.write(feed[:middle])
        count = sum(record.topic == AGENT_EVENTS.name for record in feed[:middle]) + 3
        async with feeds.follow("s1", BEGINNING) as first:
            seen = await take(first, count)
        after = {"now": None, "middle": seen[2].position, "beginning": BEGINNING}[begin]
        there = {"now": count, "middle": 3, "beginning": 0}[begin]
        async with feeds.follow("s1", after) as follower:
            found = await take(follower, count - there) if there < count else []
            await valkey_server.kill()
            await asyncio.sleep(0.3)
            await valkey_server.start()
            async with live(valkey_server.url, prefix) as again:
                for record in (*pieces, *events[:-1]):
                    await again.write([record])
                found += await take(follower, 2)
                await again.write([*pieces, *events])
            found += await take(follower, 1)
            await nothing_more(follower)
        assert bodies(found) == bodies(seen[there:]) + [record.value for record in feed[middle:]]


async def test_a_turn_that_ends_while_redis_is_away(valkey_server: ValkeyServer) -> None:
    """What was not shown of its answer is in its end: no delta comes behind that."""
    topics, feed = answered()
    async with (
        opened(valkey_server.url, "ends:") as feeds,
        live(valkey_server.url, "ends:") as writer,
        feeds.follow("s1", BEGINNING) as follower,
    ):
        await writer.write(feed[:3])
        seen = await take(follower, 3)
        await valkey_server.kill()
        await valkey_server.start()
        async with live(valkey_server.url, "ends:") as again:
            await again.write([*topics.of(AGENT_DELTAS.name), *topics.of(AGENT_EVENTS.name)])
        seen += await take(follower, len(topics.of(AGENT_EVENTS.name)) - 1)
        await nothing_more(follower)
        assert bodies(seen[3:]) == [record.value for record in topics.of(AGENT_EVENTS.name)[1:]]


async def test_what_redis_has_no_more(valkey_server: ValkeyServer, postgres: str) -> None:
    """Older events come from PostgreSQL, byte for byte as on their topic; then it goes on in Redis."""
    topics, _ = answered()
    events = topics.of(AGENT_EVENTS.name)
    await migrate(postgres)
    await store(postgres, events[:-1])
    client: Any = Redis.from_url(valkey_server.url)
    async with past(postgres) as database, opened(valkey_server.url, "past:", database) as feeds:
        async with feeds.follow("s1", BEGINNING) as follower, feeds.follow("s1", None) as late:
            assert bodies(await take(follower, len(events) - 1)) == [record.value for record in events[:-1]]
            # Only the last ones are in Redis.
            async with live(valkey_server.url, "past:") as writer:
                await writer.write(events[-1:])
            assert bodies(await take(follower, 1)) == bodies(await take(late, 1)) == [events[-1].value]
        for seq in range(1, len(events)):
            async with feeds.follow("s1", Position(seq, 0)) as follower:
                assert bodies(await take(follower, len(events) - seq)) == [record.value for record in events[seq:]]
    await client.aclose()


async def test_an_event_store_that_is_behind(valkey_server: ValkeyServer, postgres: str) -> None:
    """Redis shows a gap: the reader waits until PostgreSQL has what is missing; what nobody has is passed over."""
    topics, _ = answered()
    events = topics.of(AGENT_EVENTS.name)
    await migrate(postgres)
    await store(postgres, events[:1])
    async with (
        past(postgres) as database,
        opened(valkey_server.url, "behind:", database) as feeds,
        feeds.follow("s1", BEGINNING) as follower,
        live(valkey_server.url, "behind:") as writer,
    ):
        await take(follower, 1)
        await writer.write(events[3:])
        taking = asyncio.create_task(take(follower, len(events) - 2))
        await asyncio.sleep(0.3)
        assert not taking.done()
        await store(postgres, [events[1], *events[3:]])
        assert bodies(await taking) == [events[1].value, *[record.value for record in events[3:]]]


async def test_postgresql_is_away(valkey_server: ValkeyServer, postgres_server: PostgresServer) -> None:
    """A session that Redis has is followed all the same; where events are missing, the reader is told to come again."""
    _, feed = answered()
    database = Database(f"postgresql://nobody@127.0.0.1:{postgres_server.port}/missing")
    await database.start()
    try:
        async with opened(valkey_server.url, "away:", database) as feeds, live(valkey_server.url, "away:") as writer:
            async with feeds.follow("s1", BEGINNING) as one:
                await writer.write(feed[:2])
                await take(one, 2)
            client: Any = Redis.from_url(valkey_server.url)
            await client.delete("away:live:s1")
            async with feeds.follow("s1", Position(1, 0)) as one:
                await writer.write([record for record in feed if record.topic == AGENT_EVENTS.name][3:])
                with pytest.raises(Problem) as problem:
                    await take(one, 1)
                assert problem.value.code is Code.UNAVAILABLE
            await client.aclose()
    finally:
        await database.close()


async def test_a_reader_who_takes_nothing(valkey_server: ValkeyServer) -> None:
    """More waits than a reader may have waiting: it ends, resumes, and has everything; another one is not delayed."""
    topics = Topics()
    topics.now_ms = int(START.timestamp() * 1000)
    topics.tell(conversation("s1", start=START))
    started = topics.of(AGENT_EVENTS.name)[0]
    pieces = [topics.put(AGENT_DELTAS.name, 0, delta) for delta in deltas("s1", 1, [str(n) for n in range(1_500)])]
    async with opened(valkey_server.url, "slow:") as feeds, live(valkey_server.url, "slow:") as writer:
        async with feeds.follow("s1", BEGINNING) as slow, feeds.follow("s1", BEGINNING) as quick:
            ended: list[Problem | None] = []
            slow.on_end = lambda: ended.append(slow.why)
            taking = asyncio.create_task(take(quick, 1 + len(pieces)))
            await writer.write([started])
            seen = await take(slow, 1)
            for begin in range(0, len(pieces), 100):
                await writer.write(pieces[begin : begin + 100])
            await taking
            with pytest.raises(TooSlow):
                await slow.take()
            assert len(ended) == 1
        async with feeds.follow("s1", seen[-1].position) as again:
            assert bodies(await take(again, len(pieces))) == [record.value for record in pieces]


async def test_redis_is_away(valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes then is told so; who is there waits."""
    _, feed = answered()
    async with (
        opened(valkey_server.url, "gone:") as feeds,
        feeds.follow("s1", BEGINNING) as follower,
    ):
        await valkey_server.kill()
        with monkeypatch.context() as patch:
            patch.setattr(feeds_module, "JOIN_TIMEOUT_S", 0.5)
            with pytest.raises(Problem) as problem:
                async with feeds.follow("s2", None):
                    pass
        assert problem.value.code is Code.UNAVAILABLE
        await valkey_server.start()
        async with live(valkey_server.url, "gone:") as writer:
            await writer.write(feed[:4])
        await take(follower, 4)
        async with asyncio.timeout(DEADLINE_S), feeds.follow("s2", None):
            pass


async def test_the_gateway_stops(valkey_server: ValkeyServer) -> None:
    """Whoever follows is told."""
    async with opened(valkey_server.url, "stop:") as feeds:
        following = feeds.follow("s1", None)
        follower = await following.__aenter__()
    with pytest.raises(Problem) as problem:
        await follower.take()
    assert problem.value.code is Code.STOPPING
    await following.__aexit__(None, None, None)
