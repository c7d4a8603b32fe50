"""What no pipeline on these brokers and this model can be faster than, measured in the same run.

`RoundTrips`: a record is produced (acks=all) and consumed, with aiokafka, by one process, on a topic of its own.
`Calls`: a streamed call of the model with Anthropic's SDK, read to its end.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import aiokafka
import anthropic
import httpx2
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from stack import Figures, Meter

PARTITIONS = 8
WARM_UPS = 20
RECORD_BYTES = 300
"""A user message with its headers, roughly."""
MAX_TOKENS = 4_096


async def closed_loop(one: Callable[[int], Awaitable[float]], count: int, concurrency: int, meter: Meter) -> Figures:
    """`count` times `one(number)`, `concurrency` at a time; each returns its seconds."""
    latencies: list[float] = []
    numbers = iter(range(count))

    async def line() -> None:
        # All lines take from the same numbers: the next one begins where one has ended.
        latencies.extend([await one(number) for number in numbers])

    await asyncio.gather(*(line() for _ in range(min(concurrency, count))))
    return meter.figures(latencies)


class RoundTrips:
    """An async context manager; `topic` exists as long as it is open."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._topic = f"bench-floor-{uuid.uuid4().hex[:8]}"
        self._waiting: dict[bytes, asyncio.Future[float]] = {}
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._brokers)
        await admin.start()
        self._open.push_async_callback(admin.close)
        await admin.create_topics([NewTopic(self._topic, PARTITIONS, 1)])
        self._open.push_async_callback(admin.delete_topics, [self._topic])
        await asyncio.sleep(0.5)
        self._producer = aiokafka.AIOKafkaProducer(bootstrap_servers=self._brokers, acks="all")
        await self._producer.start()
        self._open.push_async_callback(self._producer.stop)
        consumer = aiokafka.AIOKafkaConsumer(self._topic, bootstrap_servers=self._brokers, fetch_max_wait_ms=100)
        await consumer.start()
        self._open.push_async_callback(consumer.stop)
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
        hearing = asyncio.create_task(self._hear(consumer))
        self._open.callback(hearing.cancel)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def trip(self, _: int = 0) -> float:
        """Seconds from `send` until the record came back."""
        key = uuid.uuid4().hex.encode()
        back: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[key] = back
        started = time.perf_counter()
        await self._producer.send(self._topic, b"x" * RECORD_BYTES, key=key)
        return await back - started

    async def measure(self, count: int, concurrency: int) -> Figures:
        await asyncio.gather(*(self.trip() for _ in range(WARM_UPS)))
        return await closed_loop(self.trip, count, concurrency, Meter({}))

    async def _hear(self, consumer: Any) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=1_000)
            now = time.perf_counter()
            for records in batches.values():
                for record in records:
                    self._waiting.pop(record.key).set_result(now)


class Calls:
    """An async context manager; the SDK's client with aiohttp, which is its faster one."""

    def __init__(self, model: str) -> None:
        self._client = anthropic.AsyncAnthropic(
            api_key="simulated",
            base_url=model,
            max_retries=0,
            timeout=600,
            http_client=anthropic.DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=0, max_keepalive_connections=1_000)
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._client.close()

    async def call(self, text: str, hear: Callable[[str], None] | None = None) -> float:
        """Seconds of one call; `hear` gets each piece of text as it comes."""
        started = time.perf_counter()
        stream = await self._client.messages.create(
            model="claude-sonnet-5-5",
            max_tokens=MAX_TOKENS,
            messages=[{"role": "user", "content": text}],
            stream=True,
        )
        async for event in stream:
            if hear is not None and event.type == "content_block_delta" and event.delta.type == "text_delta":
                hear(event.delta.text)
        return time.perf_counter() - started

    async def measure(self, text: str, count: int, concurrency: int) -> Figures:
        await asyncio.gather(*(self.call(text) for _ in range(WARM_UPS)))
        return await closed_loop(lambda _: self.call(text), count, concurrency, Meter({}))
