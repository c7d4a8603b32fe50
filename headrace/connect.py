"""Connections to the brokers for clients: aiokafka's objects, started and stopped, their errors turned into ours."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError, KafkaError, NodeNotReadyError

from headrace.errors import ApplyTopicsError, StartBrokersError, TryAgainError
from runtime.kafka import client_arguments
from runtime.settings import Settings
from schemas.topics import MAX_INTERNAL_BYTES

CONNECT_TIMEOUT_S = 15.0
REQUEST_TIMEOUT_MS = 20_000
"""aiokafka's default is 40 s; a person waits for these answers."""

MAX_IDLE_FETCH_MS = 20
"""How long a fetch that finds nothing waits at the broker.

aiokafka has one fetch in flight per broker: what arrives on a partition that was just read waits for the fetch of the
idle ones to return. So this is added to a reply's latency, while 50 fetches a second cost about 2 % of a CPU.
"""

Partition = tuple[str, int]


@contextmanager
def connecting(settings: Settings) -> Iterator[None]:
    """Turns what is raised while connecting into `StartBrokersError`."""
    try:
        yield
    except AuthenticationFailedError as error:
        raise StartBrokersError(
            f"the broker at {settings.brokers} refuses the credentials ({error}): correct the security.sasl_… settings"
        ) from error
    except ssl.SSLError as error:
        raise StartBrokersError(
            f"no TLS connection to {settings.brokers} ({error}): correct the security settings"
        ) from error
    except (KafkaConnectionError, NodeNotReadyError, TimeoutError, OSError) as error:
        raise StartBrokersError(
            f"no broker answers at {settings.brokers}: start a stack with `headrace dev`, or name the brokers with "
            "--brokers, HEADRACE_BROKERS or `brokers` in headrace.toml"
        ) from error


@asynccontextmanager
async def _started(client: Any, settings: Settings) -> AsyncIterator[Any]:
    try:
        with connecting(settings):
            await asyncio.wait_for(client.start(), CONNECT_TIMEOUT_S)
        try:
            yield client
        except KafkaError as error:
            raise TryAgainError(f"the brokers at {settings.brokers} failed ({error!r}): try again") from error
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is connected."""
    client = AIOKafkaAdminClient(**client_arguments(settings), request_timeout_ms=REQUEST_TIMEOUT_MS)
    async with _started(client, settings) as started:
        yield started


@asynccontextmanager
async def producer(settings: Settings, max_request_size: int) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that waits for all replicas and neither repeats nor reorders."""
    client = AIOKafkaProducer(
        **client_arguments(settings),
        acks="all",
        enable_idempotence=True,
        max_request_size=max_request_size,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    async with _started(client, settings) as started:
        yield started


async def partitions_of(client: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Every partition of the topic; raises `ApplyTopicsError` when there is no such topic."""
    return await require_topic(client._client, topic)  # noqa: SLF001 # the producer's is public, the consumer's is not


@asynccontextmanager
async def consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group and without partitions: assign some with `assign_at_end` or `assign`."""
    client = AIOKafkaConsumer(
        **client_arguments(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=MAX_IDLE_FETCH_MS,
        max_partition_fetch_bytes=MAX_INTERNAL_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    async with _started(client, settings) as started:
        yield started


async def require_topic(client: AIOKafkaClient, topic: str) -> list[TopicPartition]:
    """Every partition of the topic, from the connection's metadata.

    Raises:
        ApplyTopicsError: there is no such topic.
    """
    # All topics are asked for: one that is asked for by name is created where the brokers create what is asked for.
    numbers = (await client.fetch_all_metadata()).partitions_for_topic(topic)
    if not numbers:
        raise missing_topic(topic)
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def missing_topic(topic: str) -> ApplyTopicsError:
    """The error for a topic that is not on the cluster."""
    return ApplyTopicsError(f"topic {topic} does not exist on these brokers: create it with `headrace topics apply`")


async def assign_at_end(client: AIOKafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Read these partitions from what comes after this call returns; gives the offsets."""
    ends: dict[TopicPartition, int] = await client.end_offsets(partitions)
    client.assign(partitions)
    for partition, offset in ends.items():
        client.seek(partition, offset)
    return ends


async def assign_at_beginning(client: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
    """Read these partitions from their oldest record."""
    begins = await client.beginning_offsets(partitions)
    client.assign(partitions)
    for partition, offset in begins.items():
        client.seek(partition, offset)
