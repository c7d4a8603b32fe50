"""Projections in Redis made again: under load, killed, held up, and where topics have lost records."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from kafka_fixture import Broker
from projection_lag import caught_up
from projection_records import Topics, conversation, deltas
from pydantic import SecretStr
from redis.asyncio import Redis
from retention import ONE_BYTE, remove_before
from valkey_fixture import ValkeyServer, dump_keys

from headrace.topics import apply_topics
from projections.calls import CallProjection
from projections.catalog import PROJECTIONS
from projections.errors import RebuildRunsError, StoreUnavailableError
from projections.key_layouts import LAYOUTS
from projections.loop import Writer
from projections.rebuild_redis import KeyDifference, RebuiltKeys, rebuild_keys
from projections.record import Record
from projections.redis_calls import RedisCalls
from projections.reread import Progress, Reread
from projections.run import project
from projections.shadow_keys import Lost, ShadowKeys, shadow_keys
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.topics import AGENT_DELTAS, AGENT_EVENTS, SESSION_LOG, TOPICS

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALLS = {name: one for name, one in PROJECTIONS.items() if isinstance(one, CallProjection)}
RECENT = datetime.now(UTC) - timedelta(hours=1)
DEADLINE_S = 60


class Rig:
    """A pipeline of this test's own; `truth` are the keys as its records make them, one after the other."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.settings = settings
        self.url = url
        self.prefix = f"headrace:{settings.topic_prefix}"
        self.topics = Topics()
        self.topics.now_ms = int(RECENT.timestamp() * 1000)
        self.redis: Any = Redis.from_url(url, decode_responses=True)
        self.redis_of_bytes: Any = Redis.from_url(url)
        self._published = 0

    async def publish(self, batch_bytes: int = 16_384) -> None:
        """What was put on the topics since."""
        names = {topic.name: topic_name(self.settings, topic) for topic in TOPICS}
        some, self._published = self.topics.records[self._published :], len(self.topics.records)
        async with AIOKafkaProducer(
            bootstrap_servers=self.settings.brokers, linger_ms=2, max_batch_size=batch_bytes
        ) as producer:
            await asyncio.gather(
                *[
                    await producer.send(
                        names[one.topic], one.value, partition=one.partition, timestamp_ms=one.timestamp_ms
                    )
                    for one in some
                ]
            )

    @contextlib.asynccontextmanager
    async def projecting(self) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        running = asyncio.create_task(project(self.settings, stopping, tuple(CALLS)))
        try:
            yield
        finally:
            stopping.set()
            await asyncio.wait_for(running, DEADLINE_S)

    async def projected(self) -> None:
        await caught_up(self.settings, CALLS)

    async def live(self) -> dict[str, Any]:
        """Every key but how far the projections are, which is not for readers."""
        found = await dump_keys(self.url, self.prefix)
        return {key: value for key, value in found.items() if not key.startswith(("progress:", "life:"))}

    async def truth(self) -> dict[str, Any]:
        prefix = f"truth:{self.settings.topic_prefix}"
        for name, projection in CALLS.items():
            await _write(self.url, name, prefix, self.topics.of(*(topic.name for topic in projection.topics)))
        found = await dump_keys(self.url, prefix)
        return {key: value for key, value in found.items() if not key.startswith(("progress:", "life:"))}

    async def rebuild(self, name: str) -> RebuiltKeys:
        return await rebuild_keys(self.settings, CALLS[name], lambda _: None)


async def _write(url: str, name: str, prefix: str, records: Sequence[Record]) -> None:
    store = RedisCalls(name, url, prefix)
    writer = Writer(CALLS[name], store, asyncio.Event())
    try:
        for begin in range(0, len(records), 500):
            await writer.write(records[begin : begin + 500])
    finally:
        await store.close()


@pytest_asyncio.fixture(loop_scope="session")
async def rig(
    request: pytest.FixtureRequest, embedded_kafka: Broker, valkey_server: ValkeyServer, tmp_path: Path
) -> AsyncIterator[Rig]:
    name = request.node.name.removeprefix("test_")
    settings = Settings(
        brokers=embedded_kafka.bootstrap,
        topic_prefix=f"{name}.",
        partitions=2,
        redis=SecretStr(valkey_server.url),
        data_dir=tmp_path,
    )
    await apply_topics(settings)
    rig = Rig(settings, valkey_server.url)
    yield rig
    await rig.redis.aclose()
    await rig.redis_of_bytes.aclose()


def same_only(result: RebuiltKeys) -> bool:
    return all(one.new == one.changed == one.gone == one.kept == 0 for one in result.kinds)


def of_kind(result: RebuiltKeys, kind: str) -> KeyDifference:
    (found,) = [one for one in result.kinds if one.kind == kind]
    return found


def a_turn_with_deltas(rig: Rig, session_id: str, partition: int) -> None:
    """The answer as it is written comes before the events, in the middle of them, or is lost."""
    for delta in deltas(session_id, turn=1, texts=("Hel", "lo")):
        rig.topics.put(AGENT_DELTAS.name, partition, delta)
    rig.topics.tell(conversation(session_id, tenant="t0", start=RECENT), partition)


@pytest.mark.timeout(300)
async def test_rebuilt_while_it_is_written(rig: Rig) -> None:
    """Each projection is made again while it is written: in the end, nothing was lost or repeated."""
    for number in range(100):
        a_turn_with_deltas(rig, f"before{number}", number % 2)
    await rig.publish()
    done = asyncio.Event()
    rounds = 0

    async def load() -> None:
        nonlocal rounds
        while not done.is_set():
            a_turn_with_deltas(rig, f"during{rounds}", rounds % 2)
            a_turn_with_deltas(rig, f"before{rounds % 100}", rounds % 2)
            await rig.publish()
            rounds += 1

    async with rig.projecting():
        loading = asyncio.create_task(load())
        results: list[RebuiltKeys] = []
        while rounds < 30 and not loading.done():
            results += [await rig.rebuild(name) for name in CALLS]
        done.set()
        await loading
        await rig.projected()
    for result in results:
        assert result.records > 0
        if result.kinds[0].kind != "live":
            assert same_only(result), result
    live = await rig.live()
    truth = await rig.truth()
    assert {key for key in live if key.split(":")[0] in ("rebuild", "rebuilding", "pause")} == set()
    assert live == truth
    print("paused:", [round(result.paused_seconds, 3) for result in results])


async def test_what_is_wrong_is_found_and_mended(rig: Rig) -> None:
    """A changed, a missing and an invented key of each kind are told, and right afterwards."""
    for number in range(10):
        # Three of them are tenants'.
        a_turn_with_deltas(rig, f"s{number}" if number < 7 else f"t{number}:s", number % 2)
    await rig.publish()
    async with rig.projecting():
        await rig.projected()
    right = await rig.live()
    for name, layout in LAYOUTS.items():
        assert same_only(await rig.rebuild(name))
        for kind in layout.kinds:
            keys = sorted(key for key in right if key.startswith(kind.prefix))
            assert keys, kind
            await rig.redis.delete(rig.prefix + keys[0])
            if len(keys) > 2:
                await rig.redis.persist(rig.prefix + keys[1])
                await rig.redis.copy(rig.prefix + keys[2], f"{rig.prefix}{kind.prefix}invented")
        for members in layout.members:
            await rig.redis.zadd(rig.prefix + members, {"s1": 1, "invented": 2})
            await rig.redis.zrem(rig.prefix + members, "s2")
        result = await rig.rebuild(name)
        for kind in layout.kinds:
            found = of_kind(result, kind.counted)
            many = int(found.same + found.new + found.changed > 2)
            assert (found.new, found.changed, found.gone) == (1, many, many), found
        for members in layout.members:
            found = of_kind(result, members)
            assert (found.same, found.new, found.changed, found.gone) == (8, 1, 1, 1)
    assert await rig.live() == right


@pytest.mark.timeout(300)
async def test_killed_and_made_again(rig: Rig) -> None:
    """A rebuild that is killed while it reads has changed nothing that is read; the next one removes what it left."""
    for number in range(300):
        rig.topics.tell(conversation(f"s{number}", tenant="t0", start=RECENT), number % 2)
    await rig.publish()
    async with rig.projecting():
        await rig.projected()
    right = await rig.live()
    while not await killed_in_time(rig):
        pass
    left = await rig.live()
    assert {key: value for key, value in left.items() if not key.startswith(("rebuild", "pause:"))} == right
    # Who was at work is waited for as long as it may be silent.
    await rig.redis.pexpire(f"{rig.prefix}rebuilding:live", 1_000)
    assert same_only(await rig.rebuild("live"))
    assert await rig.live() == right


async def killed_in_time(rig: Rig) -> bool:
    """Kill a rebuild once there is something of its shadow; False where all of it was done by then."""
    environment = os.environ | {
        "HEADRACE_BROKERS": rig.settings.brokers,
        "HEADRACE_TOPIC_PREFIX": rig.settings.topic_prefix,
        "HEADRACE_PARTITIONS": "2",
        "HEADRACE_REDIS": rig.url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace", "rebuild", "live", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    shadow: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(shadow) < 10 and process.returncode is None:
            shadow = [key async for key in rig.redis.scan_iter(match=f"{rig.prefix}rebuild:live:*", count=1_000)]
    if process.returncode is None:
        process.kill()
    status = await process.wait()
    assert status in (0, -9)
    return status == -9


async def test_held_up(rig: Rig) -> None:
    """A rebuild whose pause is over, or whose place another one took, changes nothing."""
    rig.topics.tell(conversation("s1", start=RECENT))
    await rig.publish()
    async with rig.projecting():
        await rig.projected()
    right = await rig.live()
    shadow = ShadowKeys(rig.redis_of_bytes, "live", LAYOUTS["live"], rig.prefix)
    await shadow.claim()
    await shadow.pause()
    await rig.redis.delete(f"{rig.prefix}pause:live", f"{rig.prefix}rebuilding:live")
    with pytest.raises(Exception, match="NOTPAUSED"):
        await shadow.swap(Lost())
    with pytest.raises(RebuildRunsError):
        await shadow.pause()
    assert await rig.live() == right
    with pytest.raises(StoreUnavailableError, match="NOTPAUSED"):
        async with shadow_keys(rig.url, "live", LAYOUTS["live"], rig.prefix) as another:
            await another.swap(Lost())
    assert await rig.live() == right


async def test_one_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second rebuild of a projection is refused while one is at work, and that of another one is not."""
    monkeypatch.setattr("projections.shadow_keys.CLAIM_PATIENCE_S", 0.2)
    async with shadow_keys(rig.url, "live", LAYOUTS["live"], rig.prefix):
        with pytest.raises(RebuildRunsError):
            await rig.rebuild("live")
        await rig.rebuild("sessions")


async def test_what_topics_lost_is_kept(rig: Rig) -> None:
    """Keys whose records are gone stay, whole where some of their records are gone; what is newer is made again."""
    early = RECENT - timedelta(minutes=30)
    rig.topics.now_ms = int(early.timestamp() * 1000)
    for number in range(4):
        rig.topics.tell(conversation(f"acme:old{number}", tenant="t0", start=early), number % 2)
    cut = {
        topic: len([one for one in rig.topics.of(topic) if one.partition == 0])
        for topic in ("agent-events", "session-log")
    }
    rig.topics.now_ms = int(RECENT.timestamp() * 1000)
    for number in range(4):
        rig.topics.tell(conversation(f"acme:new{number}", tenant="t0", start=RECENT), number % 2)
    await rig.publish()
    async with rig.projecting():
        await rig.projected()
    right = await rig.live()
    admin = AIOKafkaAdminClient(bootstrap_servers=rig.settings.brokers)
    await admin.start()
    await admin.delete_records(
        {
            # In the middle of the first session's conversation and after the others.
            TopicPartition(topic_name(rig.settings, topic), partition): RecordsToDelete(cut[topic.name] - partition * 2)
            for topic in (AGENT_EVENTS, SESSION_LOG)
            for partition in range(2)
        }
    )
    await admin.close()
    results = {name: await rig.rebuild(name) for name in CALLS}
    assert await rig.live() == right
    live, session = of_kind(results["live"], "live"), of_kind(results["sessions"], "session")
    assert (live.same, live.kept) == (4, 4)
    # The session that was cut in the middle has begun a turn since, which says all there is to say.
    assert (session.same, session.kept) == (5, 3)
    assert of_kind(results["sessions"], "sessions").kept == 3
    assert of_kind(results["sessions"], "sessions:{tenant}").same == 1
    assert of_kind(results["summaries"], "summary").kept == 4
    assert of_kind(results["statistics"], "statistics:total").kept == 1
    await rig.redis.hset(f"{rig.prefix}session:acme:new1", "status", "wrong")
    await rig.redis.hset(f"{rig.prefix}summary:acme:new1", "title", "wrong")
    assert of_kind(await rig.rebuild("sessions"), "session").changed == 1
    assert of_kind(await rig.rebuild("summaries"), "summary").changed == 1
    assert await rig.live() == right


async def projected_sessions(rig: Rig) -> dict[str, Any]:
    """The keys of many sessions, one a minute."""
    for number in range(40):
        start = RECENT + timedelta(minutes=number)
        rig.topics.now_ms = int(start.timestamp() * 1000)
        rig.topics.tell(conversation(f"s{number}", tenant="t0", start=start), number % 2)
    await rig.publish(ONE_BYTE)
    async with rig.projecting():
        await rig.projected()
    return await rig.live()


async def test_retention_meanwhile(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys stay whose records go after the rebuild has begun and before it reads them."""
    right = await projected_sessions(rig)
    remove_before(Reread.read, monkeypatch, rig.settings, rig.topics.of(AGENT_EVENTS.name))
    result = await rig.rebuild("sessions")
    assert of_kind(result, "session").gone == 0
    assert of_kind(result, "session").kept > 30
    assert await rig.live() == right


async def test_retention_overtakes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild that finds a gap in the middle of what it has read changes nothing, and says so."""
    right = await projected_sessions(rig)
    remove_before(Writer.write, monkeypatch, rig.settings, rig.topics.of(AGENT_EVENTS.name))
    with pytest.raises(StoreUnavailableError, match="lost records to its retention"):
        await rig.rebuild("sessions")
    assert await rig.live() == right
    assert of_kind(await rig.rebuild("sessions"), "session").gone == 0
    assert await rig.live() == right


async def test_old_records_and_their_duplicates(rig: Rig) -> None:
    """Time is that of the records: an event of last week that was published twice counts once, and its feed is over."""
    start = datetime.now(UTC) - timedelta(days=3)
    rig.topics.tell(conversation("s1", tenant="t0", start=start))
    for record in rig.topics.of(AGENT_EVENTS.name):
        rig.topics.put(record.topic, record.partition, record.value)
    # A conversation goes on after 20 of the 24 hours that its feed is kept, and again 20 hours later.
    for hours in (40, 20, 0):
        rig.topics.tell(conversation("s2", tenant="t0", start=RECENT - timedelta(hours=hours)))
    await rig.publish()
    told: list[Progress] = []
    for projection in CALLS.values():
        await rebuild_keys(rig.settings, projection, told.append)
    assert told[-1].done == told[-1].total
    live = await rig.live()
    assert "live:s1" not in live
    assert live["session:s1"][0]["status"] == "failed"
    assert live["statistics:total"][0]["agent/assistant/turns_started"] == str(2 + 3 * 2)
    events = [entry for _, entry in live["live:s2"][0]]
    assert len(events) > 0
    # Who projects for the first time goes on from there, and repeats nothing.
    rig.topics.tell(conversation("s3", tenant="t0", start=RECENT))
    await rig.publish()
    async with rig.projecting():
        await rig.projected()
    later = await rig.live()
    assert later["statistics:total"][0]["agent/assistant/turns_started"] == str(2 + 4 * 2)
    assert {key: later[key] for key in live if key.endswith((":s1", ":s2"))} == {
        key: live[key] for key in live if key.endswith((":s1", ":s2"))
    }
