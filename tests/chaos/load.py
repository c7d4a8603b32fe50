"""People who write all the time, whatever happens, and somebody who watches how long they wait."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
import orjson

Key = tuple[str, str]
SESSIONS = 120
"""Enough that a conversation seldom waits for itself at the rates below."""
MALFORMED_EVERY = 25
ENDS = frozenset({"turn_completed", "turn_failed", "turn_cancelled"})
TEXTS = ("Good morning! [[say:To you too.]]", "What is 17*23?", '[[tool:post_note {"text": "NOTE"}]] Post it.')


class Load:
    """Sends to `user-messages` until it is stopped; `sent`: the messages that the brokers acknowledged, with when."""

    def __init__(self, bootstrap: str, per_s: float, *, padding: int = 0) -> None:
        self.sent: dict[Key, float] = {}
        self.malformed = 0
        self._per_s = per_s
        self._padding = "." * padding
        self._bootstrap = bootstrap
        self._producer: aiokafka.AIOKafkaProducer
        self._pending: set[asyncio.Future[Any]] = set()
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for number in self._numbers:
            await asyncio.sleep(max(0.0, begin + number / self._per_s - loop.time()))
            await self.send(number)

    async def send(self, number: int) -> None:
        key = (f"s{number % SESSIONS}", f"m{number}")
        text = TEXTS[number % len(TEXTS)].replace("NOTE", key[1]) + self._padding
        await self._send(orjson.dumps({"session_id": key[0], "id": key[1], "text": text}), key)
        if number % MALFORMED_EVERY == 0:
            await self._send(b'{"session_id": "%b"}' % key[0].encode(), key, is_malformed=True)

    async def start(self) -> None:
        # An outage is waited for: what is given up may be there all the same.
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True, request_timeout_ms=120_000
        )
        await self._producer.start()

    async def stop(self) -> None:
        """When it returns, all that was sent is acknowledged."""
        await asyncio.gather(*self._pending)
        await self._producer.stop()

    async def _send(self, body: bytes, key: Key, *, is_malformed: bool = False) -> None:
        def acknowledged(future: "asyncio.Future[Any]") -> None:
            self._pending.discard(future)
            if future.exception() is None:
                self.malformed += is_malformed
                if not is_malformed:
                    self.sent[key] = time.monotonic()

        future = await self._producer.send("user-messages", body, key=key[0].encode())
        self._pending.add(future)
        future.add_done_callback(acknowledged)


class Watch:
    """Hears of each end on `agent-events`: when, of which message."""

    def __init__(self) -> None:
        self.ended: dict[Key, float] = {}

    async def run(self, bootstrap: str) -> None:
        """Until cancelled."""
        consumer = aiokafka.AIOKafkaConsumer("agent-events", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            async for record in consumer:
                event = orjson.loads(record.value)
                if event["type"] in ENDS:
                    self.ended.setdefault((event["session_id"], event["message_id"]), time.monotonic())
        finally:
            await consumer.stop()

    def silence_s(self) -> float:
        """The longest time without any end, after the first one."""
        times = sorted(self.ended.values())
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)

    def longest_wait_s(self, sent: dict[Key, float]) -> float:
        """How long the message that waited longest waited for its end."""
        return max((self.ended[key] - at for key, at in sent.items() if key in self.ended), default=0.0)


@asynccontextmanager
async def running(load: Load) -> AsyncIterator[None]:
    """People write meanwhile."""
    await load.start()
    task = asyncio.create_task(load.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await load.stop()
