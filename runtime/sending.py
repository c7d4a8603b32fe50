"""Records that the brokers confirm in time, and producers that end in time: aiokafka's own patience has no end.

An idempotent producer tries again for as long as brokers are away, and flushes before it stops.
"""

import asyncio
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.codec import Headers

CONFIRM_TIMEOUT_S = 10.0
"""Somebody waits. The record itself stays on its way: it may arrive later, and the same id is answered once."""
STOP_TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)


async def confirmed(
    producer: AIOKafkaProducer, topic: str, value: bytes, *, key: bytes | None, headers: Headers
) -> Any:
    """Send, and return where the record is when all replicas have it; raises `TimeoutError`: it may still arrive."""
    async with asyncio.timeout(CONFIRM_TIMEOUT_S):
        sending = await producer.send(topic, value, key=key, headers=headers)
        sending.add_done_callback(unwatched)
        return await asyncio.shield(sending)


async def stop(client: Any) -> None:
    """Stop a producer, which sends what waits, or a consumer; brokers that are away are not waited for.

    What a producer has not sent by then it goes on to send, for as long as the loop runs.
    """
    try:
        # In this task: a generator of records that was not read to its end may end with the loop, where none begins.
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await client.stop()
    except TimeoutError:
        log.warning("client_not_stopped", after_s=STOP_TIMEOUT_S)
    except (KafkaError, OSError) as error:
        log.warning("client_not_stopped", error=repr(error))


def unwatched(sending: "asyncio.Future[Any]") -> None:
    """A callback where whoever waits may go: reading the exception keeps asyncio from reporting it."""
    if not sending.cancelled():
        sending.exception()
