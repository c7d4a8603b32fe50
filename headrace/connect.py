"""Connections to the brokers for clients: aiokafka's objects, started and stopped, their errors turned into ours."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from headrace.errors import ApplyTopicsError, StartBrokersError, TryAgainError
from runtime.kafka import client_arguments, ssl_context
from runtime.lenient_records import accept_any_header_name
from runtime.sending import stop
from runtime.settings import Security, Settings
from schemas.topics import MAX_INTERNAL_BYTES

CONNECT_TIMEOUT_S = 15.0
REQUEST_TIMEOUT_MS = 20_000
"""aiokafka's default is 40 s; a person waits for these answers."""
CONFIRM_TIMEOUT_S = 30.0
"""For what a command sends at once: up to a hundred records."""

MAX_IDLE_FETCH_MS = 100
"""How long a fetch that finds nothing waits at the broker.

aiokafka has one fetch in flight per broker, so what arrives on a partition that was just read can wait for the fetch of
the idle ones to return. Measured with one question after the other: the same median at 20, 100 and 500 ms, and 4, 1 and
0.4 % of a CPU while nothing happens.
"""


async def why_unreachable(settings: Settings) -> StartBrokersError:
    """The error for brokers that did not let us in; aiokafka only logs the reason, so it is looked for again."""
    found = await asyncio.gather(*(_try(broker, settings.security) for broker in settings.brokers.split(",")))
    refusals = [reason for reason in found if reason is not None]
    if refusals:
        return StartBrokersError(f"the broker at {settings.brokers} {refusals[0]}")
    return StartBrokersError(
        f"no broker answers at {settings.brokers}: start a stack with `headrace dev`, or name the brokers with "
        "--brokers, HEADRACE_BROKERS or `brokers` in headrace.toml"
    )


async def _try(broker: str, security: Security) -> str | None:
    """Why the broker does not let us in; None where nobody answers."""
    host, _, port = broker.rpartition(":")
    context = ssl_context(security) if security.tls else None
    try:
        opening = asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
        _, writer = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
    except ssl.SSLError as error:
        return f"makes no TLS connection ({error}): correct the security settings"
    except OSError:
        return None
    writer.close()
    if security.sasl_mechanism is not None:
        return "takes the connection but not the credentials: correct the security.sasl_… settings"
    return "takes the connection but does not speak as expected: correct the address, or the security settings"


@asynccontextmanager
async def _started(client: Any, settings: Settings) -> AsyncIterator[Any]:
    try:
        try:
            await asyncio.wait_for(client.start(), CONNECT_TIMEOUT_S)
        except (KafkaError, TimeoutError, OSError) as error:
            raise await why_unreachable(settings) from error
        try:
            yield client
        except KafkaError as error:
            raise TryAgainError(f"the brokers at {settings.brokers} failed ({error!r}): try again") from error
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else stop(client))


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


@asynccontextmanager
async def confirming(settings: Settings) -> AsyncIterator[None]:
    """The brokers must confirm in time what is sent inside; a producer would wait for them for ever.

    Raises:
        TryAgainError: they did not.
    """
    try:
        async with asyncio.timeout(CONFIRM_TIMEOUT_S):
            yield
    except TimeoutError:
        raise TryAgainError(
            f"the brokers at {settings.brokers} did not confirm within {CONFIRM_TIMEOUT_S:g} s what was sent: it may "
            "have arrived, look before you try again"
        ) from None


async def partitions_of(client: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Every partition of the topic; raises `ApplyTopicsError` when there is no such topic."""
    return await require_topic(client._client, topic)  # noqa: SLF001 # the producer's is public, the consumer's is not


@asynccontextmanager
async def consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group and without partitions: assign some with `assign_at_end` or `assign`."""
    accept_any_header_name()
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
