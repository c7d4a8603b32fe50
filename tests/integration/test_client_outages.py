"""The Python client, and commands that send, while brokers are away or have lost count."""

from pathlib import Path

import pytest
from client_fixture import own_topics
from kafka_fixture import Broker
from msgspec.structs import replace
from projection_records import letter

from headrace.client import Headrace
from headrace.dead_letters.send import Order, replay_all
from headrace.errors import RetryWithSameIdError, TryAgainError
from headrace.records import read_topic
from headrace.stack.kafka import EmbeddedKafka
from runtime.kafka import topic_name
from schemas.codec import decode_command
from schemas.topics import USER_MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.timeout(300)
async def test_brokers_that_go_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends is told to send again, a command to be tried again, and both end although nobody takes the rest."""
    monkeypatch.setattr("headrace.dead_letters.send.AT_ONCE", 1)
    async with EmbeddedKafka(tmp_path, progress=print) as kafka, own_topics(kafka.bootstrap) as settings:
        topic = topic_name(settings, USER_MESSAGES)
        letters = [replace(letter(number), topic=topic) for number in range(2)]
        replaying = replay_all(settings, [Order(letter=one, value=b"{}") for one in letters])
        async with Headrace.of(settings) as headrace:
            await headrace.send("s1", "hi", id="m1")
            await anext(replaying)
            await kafka.kill()
            monkeypatch.setattr("runtime.sending.CONFIRM_TIMEOUT_S", 1.0)
            monkeypatch.setattr("headrace.connect.CONFIRM_TIMEOUT_S", 1.0)
            with pytest.raises(RetryWithSameIdError, match="answered once") as caught:
                await headrace.send("s1", "hi", id="m2")
            assert caught.value.message_id == "m2"
            with pytest.raises(TryAgainError, match="did not confirm"):
                await anext(replaying)


async def test_a_producer_that_has_lost_count(embedded_kafka: Broker) -> None:
    """Its records are refused for ever: the message that finds out is sent again with another one."""
    async with own_topics(embedded_kafka.bootstrap) as settings, Headrace.of(settings) as headrace:
        await headrace.send("s1", "hi", id="m1")
        producer = headrace._sender._producer
        assert producer is not None
        numbers = producer._txn_manager._sequence_numbers
        for partition in numbers:
            numbers[partition] += 5
        with pytest.raises(RetryWithSameIdError, match="OutOfOrder"):
            await headrace.send("s1", "hi", id="m2")
        await headrace.send("s1", "hi", id="m2")
        found = [decode_command(one.value or b"").id async for one in read_topic(settings, USER_MESSAGES)]
        assert found == ["m1", "m2"]
