"""The embedded broker is the real one: it keeps what it acknowledged, whatever happens to its process."""

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from kafka_fixture import Broker, free_port

from headrace.stack.errors import DataDirInUseError, KafkaStartError
from headrace.stack.kafka import Credentials, EmbeddedKafka

USER = Credentials("alice", 'correct "horse" \\ battery')

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedKafka]:
    """One broker, with a secure listener, for what leaves it as it is; the port that it was told is its own."""
    port = free_port()
    async with EmbeddedKafka(tmp_path_factory.mktemp("secured"), port=port, secure=USER) as kafka:
        assert kafka.bootstrap == f"127.0.0.1:{port}"
        yield kafka


async def create_topic(bootstrap: str, topic: str) -> None:
    """One partition of a topic that did not exist."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def list_topics(bootstrap: str) -> list[str]:
    """The names of all topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return list(await admin.list_topics())
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, *values: bytes) -> None:
    """Send, and wait for the acknowledgement of each."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=8 * 1024 * 1024)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def read_all(bootstrap: str, topic: str) -> list[bytes]:
    """All values of the topic's only partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        async with asyncio.timeout(30):
            while len(values) < end:
                values.append((await consumer.getone()).value)
        return values
    finally:
        await consumer.stop()


async def test_what_was_acknowledged_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    """Records, address and identity are the same after a clean stop and after kill -9."""
    kafka = EmbeddedKafka(tmp_path)
    await kafka.start()
    try:
        address, cluster_id, first_pid = kafka.bootstrap, kafka.cluster_id, kafka.process.pid
        await create_topic(address, "letters")
        await produce(address, "letters", b"a")
        await kafka.stop()
        await kafka.start()
        assert kafka.process.pid != first_pid
        await produce(address, "letters", b"b")
        await kafka.kill()
        await kafka.start()
        await produce(address, "letters", b"c")
        assert await read_all(address, "letters") == [b"a", b"b", b"c"]
        assert (kafka.bootstrap, kafka.cluster_id) == (address, cluster_id)
    finally:
        await kafka.stop()
    assert not kafka.process.running


async def test_a_broker_moves_to_another_port_when_its_own_was_taken(tmp_path: Path) -> None:
    """Clients that ask the stack for the address find the same data at the new one."""
    async with EmbeddedKafka(tmp_path) as kafka:
        before = kafka.bootstrap
        await create_topic(before, "letters")
        await produce(before, "letters", b"a")
    squatter = await asyncio.start_server(lambda _reader, writer: writer.close(), *before.split(":"))
    async with squatter:
        with pytest.raises(KafkaStartError, match=r"port \d+ of 127\.0\.0\.1 is taken"):
            await EmbeddedKafka(tmp_path, port=int(before.split(":")[1])).start()
        async with EmbeddedKafka(tmp_path) as moved:
            assert moved.bootstrap != before
            assert await read_all(moved.bootstrap, "letters") == [b"a"]


async def test_two_brokers_know_nothing_of_each_other(secured: EmbeddedKafka, embedded_kafka: Broker) -> None:
    """Two data directories are two clusters."""
    assert secured.bootstrap != embedded_kafka.bootstrap
    await create_topic(secured.bootstrap, "only-here")
    assert "only-here" in await list_topics(secured.bootstrap)
    assert "only-here" not in await list_topics(embedded_kafka.bootstrap)


async def test_a_second_broker_on_the_same_data_is_refused_at_once(secured: EmbeddedKafka) -> None:
    """The error names the process that holds the data, and the first broker goes on."""
    await create_topic(secured.bootstrap, "held")
    with pytest.raises(DataDirInUseError, match=f"process id {os.getpid()}"):
        await EmbeddedKafka(secured.home.parent).start()
    await produce(secured.bootstrap, "held", b"a")


async def test_a_topic_is_made_on_purpose_only(embedded_kafka: Broker) -> None:
    """A misspelt topic is an error, as on a production cluster."""
    producer = AIOKafkaProducer(bootstrap_servers=embedded_kafka.bootstrap, request_timeout_ms=2000)
    await producer.start()
    try:
        with pytest.raises(KafkaError):
            await producer.send_and_wait("mispelt", b"a")
    finally:
        await producer.stop()
    assert "mispelt" not in await list_topics(embedded_kafka.bootstrap)


async def test_a_large_record_passes(embedded_kafka: Broker) -> None:
    """A transcript is larger than Kafka's default of 1 MiB."""
    large = os.urandom(7 * 1024 * 1024)
    await create_topic(embedded_kafka.bootstrap, "large-record")
    await produce(embedded_kafka.bootstrap, "large-record", large)
    assert await read_all(embedded_kafka.bootstrap, "large-record") == [large]


async def test_a_group_hands_over_after_one_second(embedded_kafka: Broker) -> None:
    """Groups may ask for a session timeout of one second, and the first member does not wait for others."""
    await create_topic(embedded_kafka.bootstrap, "grouped")
    await produce(embedded_kafka.bootstrap, "grouped", b"a")
    consumer = AIOKafkaConsumer(
        "grouped",
        bootstrap_servers=embedded_kafka.bootstrap,
        group_id="grouped",
        auto_offset_reset="earliest",
        session_timeout_ms=1000,
        heartbeat_interval_ms=300,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            while await consumer.committed(TopicPartition("grouped", 0)) != 1:
                assert (await consumer.getone()).value == b"a"
                # A member that was paused for a second has lost its place: it joins again, and reads again.
                with contextlib.suppress(KafkaError):
                    await consumer.commit()
    finally:
        await consumer.stop()


def secure_producer(kafka: EmbeddedKafka, password: str, context: ssl.SSLContext) -> AIOKafkaProducer:
    """A client of the SASL_SSL listener."""
    return AIOKafkaProducer(
        bootstrap_servers=kafka.secure_bootstrap,
        security_protocol="SASL_SSL",
        ssl_context=context,
        sasl_mechanism="PLAIN",
        sasl_plain_username=USER.user,
        sasl_plain_password=password,
        request_timeout_ms=30_000,
    )


async def test_the_secure_listener_wants_the_password_and_shows_a_certificate(secured: EmbeddedKafka) -> None:
    """A client with both gets in; a wrong password and a certificate that is not trusted are refused."""
    await create_topic(secured.bootstrap, "letters")
    producer = secure_producer(secured, USER.password, secured.ssl_context())
    await producer.start()
    await producer.send_and_wait("letters", b"sealed")
    await producer.stop()
    assert await read_all(secured.bootstrap, "letters") == [b"sealed"]
    refused = {
        "wrong password": (("wrong", secured.ssl_context())),
        "not trusted": (USER.password, ssl.create_default_context()),
    }
    for password, context in refused.values():
        stranger = secure_producer(secured, password, context)
        with pytest.raises(KafkaError):
            await stranger.start()
        await stranger.stop()
    assert USER.password not in secured.process.log_tail(1000)
    assert (secured.home / "server.properties").stat().st_mode & 0o077 == 0


async def test_a_broker_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """A damaged identity of the data is Kafka's own complaint, and the person sees it."""
    async with EmbeddedKafka(tmp_path) as kafka:
        identity = kafka.home / "data" / "meta.properties"
    identity.write_text(identity.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(KafkaStartError, match=r"(?s)Kafka did not start: process \d+ ended with status 1 .*node id"):
        await kafka.start()
    assert not kafka.process.running


async def test_a_frozen_broker_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    """Ctrl-C ends the stack also when the broker answers no more."""
    async with EmbeddedKafka(tmp_path) as kafka:
        kafka.process.signal(signal.SIGSTOP)
        await kafka.stop(deadline_s=0.5)
        assert (await kafka.process.wait()).code == -signal.SIGKILL
