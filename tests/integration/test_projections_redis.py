"""Projections in a real Valkey: what comes twice changes nothing, and a server that lost everything is filled again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from kafka_fixture import Broker
from projection_lag import caught_up
from projection_records import Topics, conversation, deltas, small_world
from pydantic import SecretStr
from redis.asyncio import Redis
from valkey_fixture import ValkeyServer, dump_keys

from headrace.topics import apply_topics
from projections.calls import CallProjection
from projections.catalog import PROJECTIONS
from projections.loop import Writer
from projections.record import Record
from projections.redis_calls import RedisCalls
from projections.run import project
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.topics import AGENT_DELTAS, AGENT_EVENTS, TOPICS

pytestmark = pytest.mark.asyncio(loop_scope="session")

RECENT = datetime.now(UTC) - timedelta(hours=1)
Loss = Callable[[ValkeyServer], Awaitable[None]]
CALLS = {name: one for name, one in PROJECTIONS.items() if isinstance(one, CallProjection)}
DEADLINE_S = 60


async def write(url: str, prefix: str, records: Sequence[Record], *names: str, size: int = 7) -> int:
    """Project the records in batches of `size`; gives how many were skipped."""
    skipped = 0
    for name, projection in CALLS.items():
        if names and name not in names:
            continue
        store = RedisCalls(name, url, prefix)
        await store.progress()
        writer = Writer(projection, store, asyncio.Event())
        wanted = [record for record in records if record.topic in {topic.name for topic in projection.topics}]
        for begin in range(0, len(wanted), size):
            await writer.write(wanted[begin : begin + size])
        skipped += writer.skipped
        await store.close()
    return skipped


@contextlib.asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Any]:
    client: Any = Redis.from_url(url, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()


def recent_topics() -> Topics:
    topics = Topics()
    topics.now_ms = int(RECENT.timestamp() * 1000)
    return topics


def with_deltas() -> Topics:
    """Sessions of which one is in the middle of an answer."""
    topics = small_world(start=RECENT)
    topics.now_ms = int(RECENT.timestamp() * 1000)
    for delta in deltas("s1", turn=3, texts=("Hel", "lo")):
        topics.put(AGENT_DELTAS.name, 0, delta)
    return topics


async def test_everything_comes_twice(valkey_server: ValkeyServer) -> None:
    """A second delivery, in other batches, changes no key; nor does an event that was published again."""
    topics = with_deltas()
    assert await write(valkey_server.url, "twice:", topics.records) == 0
    once = await dump_keys(valkey_server.url, "twice:")
    assert {key.split(":")[0] for key in once} >= {"live", "session", "sessions", "statistics", "summary", "user"}
    await write(valkey_server.url, "twice:", topics.records, size=1_000)
    assert await dump_keys(valkey_server.url, "twice:") == once
    for record in topics.of(AGENT_EVENTS.name):
        topics.put(record.topic, record.partition, record.value)
    await write(valkey_server.url, "twice:", topics.records, size=3)
    after = await dump_keys(valkey_server.url, "twice:")
    places = {"statistics:progress", *(key for key in once if key.startswith("progress:"))}
    assert {key: value for key, value in after.items() if key not in places} == {
        key: value for key, value in once.items() if key not in places
    }


async def test_a_reader_follows_an_answer(valkey_server: ValkeyServer) -> None:
    """Deltas are there while the turn runs, and go with its end; who resumes misses no event."""
    topics = recent_topics()
    topics.tell(conversation("s1", start=RECENT))
    events = topics.of(AGENT_EVENTS.name)
    end = next(number for number, record in enumerate(events) if b"turn_completed" in record.value)
    pieces = [topics.put(AGENT_DELTAS.name, 0, delta) for delta in deltas("s1", turn=1, texts=("Hel", "lo"))]
    await write(valkey_server.url, "follow:", [*events[:end], *pieces], "live")
    async with client_of(valkey_server.url) as client:
        entries = await client.xrange("follow:live:s1")
        assert [msgspec.json.decode(e["delta"])["type"] for _, e in entries if "delta" in e] == [
            "delta_reset",
            "text_delta",
            "text_delta",
        ]
        seen = entries[-2][0]
        await write(valkey_server.url, "follow:", events[end:], "live")
        # The last piece comes late, or again.
        late = topics.put(AGENT_DELTAS.name, 0, pieces[-1].value)
        await write(valkey_server.url, "follow:", [*pieces, late], "live")
        entries = await client.xrange("follow:live:s1")
        assert [msgspec.json.decode(e["event"])["seq"] for _, e in entries] == list(range(1, len(events) + 1))
        rest = await client.xrange("follow:live:s1", min=f"({seen}")
        assert len(rest) == len(events) - end
        assert 0 < await client.pttl("follow:live:s1") < 24 * 3_600_000


async def test_deltas_that_come_before_their_turns(valkey_server: ValkeyServer) -> None:
    """A Redis that is filled again may get the deltas of several turns first: each turn's go with its end."""
    topics = recent_topics()
    topics.tell(conversation("s1", start=RECENT))
    events = topics.of(AGENT_EVENTS.name)
    pieces = [
        topics.put(AGENT_DELTAS.name, 0, delta) for turn in (1, 2, 3) for delta in deltas("s1", turn, texts=("a", "b"))
    ]
    await write(valkey_server.url, "first:", [*pieces, *events], "live")
    async with client_of(valkey_server.url) as client:
        entries = await client.xrange("first:live:s1")
    assert [entry for entry, fields in entries if "event" in fields] == [f"{n}-0" for n in range(1, len(events) + 1)]
    assert [(entry, fields["turn"]) for entry, fields in entries if "delta" in fields] == [
        (f"0-{record.offset + 1}", "3") for record in pieces[-3:]
    ]


async def test_readers_are_woken(valkey_server: ValkeyServer) -> None:
    """What was added is published by its id, what was there is not; a session that begins anew says so."""
    topics = recent_topics()
    topics.tell(conversation("s1", start=RECENT))
    events = topics.of(AGENT_EVENTS.name)
    pieces = [topics.put(AGENT_DELTAS.name, 0, delta) for delta in deltas("s1", turn=1, texts=("a",))]
    topics.tell(conversation("s1", start=RECENT + timedelta(minutes=30)))
    first_again = topics.of(AGENT_EVENTS.name)[len(events)]
    async with client_of(valkey_server.url) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe("wake:feed:s1")
        assert await subscription.get_message(timeout=5) is None
        await write(valkey_server.url, "wake:", [*events[:2], *pieces, *events[:3], first_again], "live")
        said = []
        while (message := await subscription.get_message(timeout=1)) is not None:
            said.append(message["data"])
    deltas_said = [f"2-{record.offset + 1}" for record in pieces]
    assert said == ["1-0", "2-0", *deltas_said, "3-0", "anew"]


async def test_what_readers_ask_for(valkey_server: ValkeyServer) -> None:
    """A session's status, a user's conversations, what agents and tools did."""
    topics = with_deltas()
    await write(valkey_server.url, "ask:", topics.records)
    async with client_of(valkey_server.url) as client:
        session = await client.hgetall("ask:session:s2")
        assert (session["status"], session["turn_id"], session["agent"]) == ("failed", "s2/2", "assistant")
        assert await client.zcard("ask:sessions") == 3
        assert set(await client.zrange("ask:user:t0/ann", 0, -1)) == {"s1", "s3"}
        summary = await client.hgetall("ask:summary:s1")
        assert (summary["title"], summary["messages"]) == ("what is 1 + 2?", "1")
        total = await client.hgetall("ask:statistics:total")
        assert (total["agent/assistant/turns_completed"], total["tool/add/calls"]) == ("3", "3")
        minutes = [key async for key in client.scan_iter(match="ask:statistics:minute:*")]
        assert sum([int(await client.hget(key, "tool/add/calls") or 0) for key in minutes]) == 3


async def test_a_session_that_begins_anew(valkey_server: ValkeyServer) -> None:
    """Its events count from 1 again: the feed and the session are those of its new life, the statistics of both."""
    topics = recent_topics()
    topics.tell(conversation("s1", start=RECENT))
    count = len(topics.of(AGENT_EVENTS.name))
    topics.tell(conversation("s1", start=RECENT + timedelta(minutes=30)))
    await write(valkey_server.url, "anew:", topics.records)
    async with client_of(valkey_server.url) as client:
        assert await client.xlen("anew:live:s1") == count
        assert await client.hget("anew:session:s1", "seq") == str(count)
        assert await client.hget("anew:statistics:total", "agent/assistant/turns_started") == "4"


async def test_bad_records_are_left_out(valkey_server: ValkeyServer) -> None:
    """What is not of its shape, and a call that Redis refuses, cost only themselves."""
    topics = small_world(start=RECENT)
    topics.put(AGENT_EVENTS.name, 0, b"{")
    topics.put(AGENT_DELTAS.name, 0, b"[]")
    async with client_of(valkey_server.url) as client:
        await client.set("bad:live:s2", "not a stream")
    skipped = await write(valkey_server.url, "bad:", topics.records, "live", size=1_000)
    of_s2 = sum(b'"session_id":"s2"' in record.value for record in topics.of(AGENT_EVENTS.name))
    assert skipped == 2 + of_s2
    async with client_of(valkey_server.url) as client:
        assert await client.xlen("bad:live:s1") == await client.xlen("bad:live:s3") > 0


async def restarted_empty(server: ValkeyServer) -> None:
    await server.kill()
    await server.start()


async def flushed(server: ValkeyServer) -> None:
    async with client_of(server.url) as client:
        await client.flushall()


@pytest.mark.parametrize("lost", [restarted_empty, flushed])
async def test_a_server_that_lost_everything_is_filled_again(
    embedded_kafka: Broker, valkey_server: ValkeyServer, tmp_path: Path, lost: Loss
) -> None:
    """Restarted empty under the running process, or emptied by hand: it has in the end what it would have had."""
    prefix = f"lost-{lost.__name__}."
    settings = Settings(
        brokers=embedded_kafka.bootstrap,
        topic_prefix=prefix,
        partitions=2,
        redis=SecretStr(valkey_server.url),
        data_dir=tmp_path,
    )
    await apply_topics(settings)
    first, second = small_world(("s1", "s2"), start=RECENT), small_world(("s3", "s4"), start=RECENT)
    stopping = asyncio.Event()
    running = asyncio.create_task(project(settings, stopping))
    try:
        await publish(settings, first)
        await filled(settings, first)
        await lost(valkey_server)
        await publish(settings, second)
        await filled(settings, first, second)
        await caught_up(settings, CALLS)
    finally:
        stopping.set()
        await asyncio.wait_for(running, DEADLINE_S)
    found = await dump_keys(valkey_server.url, f"headrace:{prefix}")
    assert {key for key in found if key.startswith("live:")} == {"live:s1", "live:s2", "live:s3", "live:s4"}
    assert found["statistics:total"][0]["agent/assistant/turns_started"] == "8"


async def test_a_process_dies_before_it_commits_the_last_records(
    embedded_kafka: Broker, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    """Nothing is left to be read: the next one says all the same how far the store is, and nothing seems to lag."""
    settings = Settings(
        brokers=embedded_kafka.bootstrap,
        topic_prefix="uncommitted.",
        partitions=2,
        redis=SecretStr(valkey_server.url),
        data_dir=tmp_path,
    )
    await apply_topics(settings)
    topics = with_deltas()
    await publish(settings, topics)
    await write(valkey_server.url, f"headrace:{settings.topic_prefix}", topics.records)
    stopping = asyncio.Event()
    running = asyncio.create_task(project(settings, stopping))
    try:
        await caught_up(settings, CALLS)
    finally:
        stopping.set()
        await asyncio.wait_for(running, DEADLINE_S)


async def publish(settings: Settings, topics: Topics) -> None:
    names = {topic.name: topic_name(settings, topic) for topic in TOPICS}
    async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
        for record in topics.records:
            await producer.send_and_wait(names[record.topic], record.value, partition=record.partition)


async def filled(settings: Settings, *worlds: Topics) -> None:
    """Wait until every projection has every record."""
    assert settings.redis is not None
    events = sum(len(world.of(AGENT_EVENTS.name)) for world in worlds)
    async with asyncio.timeout(DEADLINE_S), client_of(settings.redis.get_secret_value()) as client:
        for name in ("live", "sessions", "statistics"):
            while await _done(client, f"headrace:{settings.topic_prefix}progress:{name}") < events:
                await asyncio.sleep(0.1)


async def _done(client: Any, key: str) -> int:
    progress = await client.hgetall(key)
    return sum(int(offset) for place, offset in progress.items() if place.startswith(AGENT_EVENTS.name))


async def test_the_sessions_of_a_tenant_are_a_list_of_their_own(valkey_server: ValkeyServer) -> None:
    """They are known by their ids; what is older than a session is kept leaves the lists, whichever comes first."""
    new, old = recent_topics(), recent_topics()
    new.tell(conversation("acme:1", start=RECENT))
    new.tell(conversation("beta:1", start=RECENT))
    old.tell(conversation("acme:0", start=RECENT - timedelta(days=8)))
    for prefix, order in (("a:", (new, old)), ("b:", (old, new))):
        for topics in order:
            await write(valkey_server.url, prefix, topics.records, "sessions")
        async with client_of(valkey_server.url) as client:
            assert await client.zrange(f"{prefix}sessions:acme", 0, -1) == ["acme:1"]
            assert await client.zrange(f"{prefix}sessions:beta", 0, -1) == ["beta:1"]
            assert await client.zrange(f"{prefix}sessions", 0, -1) == ["acme:1", "beta:1"]
