"""Topics on a real broker: created once, whoever asks, and compared with what they must be."""

import asyncio
import uuid

import pytest
from aiokafka.admin import NewTopic
from kafka_fixture import Broker, free_port

from headrace.connect import admin
from headrace.errors import StartBrokersError
from headrace.topics import TopicsNotCreatedError, apply_topics, check_topics, expected_topics
from runtime.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="session")


def own(broker: Broker, replication: int = 1) -> Settings:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    return Settings(brokers=broker.bootstrap, topic_prefix=prefix, partitions=3, replication=replication)


async def test_created_once(embedded_kafka: Broker) -> None:
    """What was missing is found, created, and found no more; a second time nothing happens."""
    settings = own(embedded_kafka)
    before = await check_topics(settings)
    assert {finding.topic for finding in before} == {topic.name for topic in expected_topics(settings)}
    assert {finding.what for finding in before} == {"missing"}
    assert set(await apply_topics(settings)) == {finding.topic for finding in before}
    assert await check_topics(settings) == []
    assert await apply_topics(settings) == []


async def test_many_at_once(embedded_kafka: Broker) -> None:
    """Five workers that start together create each topic once, and none of them fails."""
    settings = own(embedded_kafka)
    created = [name for names in await asyncio.gather(*(apply_topics(settings) for _ in range(5))) for name in names]
    assert sorted(created) == sorted(topic.name for topic in expected_topics(settings))
    assert await check_topics(settings) == []


async def test_what_differs_is_said(embedded_kafka: Broker) -> None:
    """Another partition count cannot work; another retention works, but is not as documented."""
    settings = own(embedded_kafka)
    events, deltas = settings.topic_prefix + "agent-events", settings.topic_prefix + "agent-deltas"
    async with admin(settings) as client:
        compacted = NewTopic(deltas, 3, 1, topic_configs={"cleanup.policy": "compact"})
        await client.create_topics([NewTopic(events, 2, 1), compacted])
    await apply_topics(settings)
    found = {(f.topic, f.what): f for f in await check_topics(settings)}
    count = found[events, "partitions"]
    assert (count.expected, count.found, count.level) == ("3", "2", "fail")
    assert found[events, "max.message.bytes"].level == "warn"
    assert found[deltas, "cleanup.policy"].level == "fail"
    assert "--set cleanup.policy=delete" in found[deltas, "cleanup.policy"].to_do


async def test_too_many_replicas(embedded_kafka: Broker) -> None:
    """The brokers' own reason is in the message."""
    with pytest.raises(TopicsNotCreatedError, match=r"user-messages: .*replication factor"):
        await apply_topics(own(embedded_kafka, replication=3))


async def test_no_broker() -> None:
    """The message names the address and says how to start one."""
    settings = Settings(brokers=f"127.0.0.1:{free_port()}")
    with pytest.raises(StartBrokersError, match=rf"{settings.brokers}.*headrace dev"):
        await check_topics(settings)
