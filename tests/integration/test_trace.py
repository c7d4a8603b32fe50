"""A trace reads of the brokers what the session's tree is in, and no more."""

import time
import uuid
from collections.abc import AsyncGenerator, Collection

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from histories import agent, catalog
from kafka_fixture import Broker
from msgspec.structs import replace
from team import HELPER, LEAD, Team, ask

from headrace.connect import producer
from headrace.records import read_partitions
from headrace.topics import apply_topics
from headrace.trace import CLOCKS_APART_MS, read_trace
from runtime.kafka import partition_for
from runtime.settings import Settings
from schemas.codec import encode
from schemas.events import AgentEvent

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARTITIONS = 11
HOUR_MS = 3_600_000
OLD, NEW = 30, 3
"""Records of others in each partition: from an hour before, and from now."""


def a_tree() -> Team:
    """A lead asks a helper, which asks itself; all have answered."""
    world = Team(catalog(replace(agent(LEAD), agents=(HELPER,)), replace(agent(HELPER), agents=(HELPER,))))
    world.session("s1").say("m1", agent=LEAD)
    world.hear(world.session("s1").model_says(ask()))
    world.deliver()
    world.hear(world.session("s1~1.2").model_says(ask()))
    world.deliver()
    world.hear(world.session("s1~1.2~1.2").model_says("deep"))
    world.deliver()
    world.hear(world.session("s1~1.2").model_says("less deep"))
    world.deliver()
    world.session("s1").model_says("done")
    return world


async def publish(settings: Settings, events: Collection[tuple[AgentEvent, int, int]]) -> None:
    """Events with their partitions and times."""
    async with producer(settings, 1 << 20) as client:
        for event, partition, at_ms in events:
            topic, key = settings.topic_prefix + "agent-events", event.session_id.encode()
            await client.send_and_wait(topic, encode(event), key=key, partition=partition, timestamp_ms=at_ms)


async def test_only_partitions_of_the_tree_are_read_and_those_of_the_asked_from_then_on(
    embedded_kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's own from their beginning; clocks may differ by some minutes."""
    settings = Settings(
        brokers=embedded_kafka.bootstrap, topic_prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=PARTITIONS, replication=1
    )
    await apply_topics(settings)
    world = a_tree()
    place = {name: partition_for(name.encode(), PARTITIONS) for name in world.sessions}
    assert len(set(place.values())) == 3, "each of the sessions is in a partition of its own"
    now_ms = int(time.time() * 1_000)
    other = replace(world.session("s1").seen[0], session_id="other")
    noise = [(other, partition, now_ms - HOUR_MS) for partition in range(PARTITIONS) for _ in range(OLD)]
    noise += [(other, partition, now_ms) for partition in range(PARTITIONS) for _ in range(NEW)]
    late = {"s1": 0, "s1~1.2": -CLOCKS_APART_MS // 2, "s1~1.2~1.2": CLOCKS_APART_MS}
    tree = [(event, place[name], now_ms + late[name]) for name, one in world.sessions.items() for event in one.seen]
    await publish(settings, [*noise, *tree])
    read: list[ConsumerRecord] = []

    async def counted(
        client: AIOKafkaConsumer, partitions: Collection[TopicPartition], since_ms: int | None = None
    ) -> AsyncGenerator[ConsumerRecord]:
        async for record in read_partitions(client, partitions, since_ms):
            read.append(record)
            yield record

    monkeypatch.setattr("headrace.trace.read_partitions", counted)
    (turn,) = await read_trace(settings, "s1")
    (child,) = turn.asked
    (grandchild,) = child.asked
    assert [(one.session_id, one.status) for one in (turn, child, grandchild)] == [
        (name, "completed") for name in ("s1", "s1~1.2", "s1~1.2~1.2")
    ]
    assert {record.partition for record in read} == set(place.values())
    assert len(read) == OLD + 3 * NEW + len(tree)
