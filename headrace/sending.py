"""The client's way to the brokers: one producer at a time, made anew where it has failed."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from headrace.connect import producer
from runtime.sending import confirmed
from runtime.settings import Settings
from schemas.codec import Headers


class Sender:
    """Sends records; `open` it first, and `close` it."""

    def __init__(self, settings: Settings, max_request_size: int) -> None:
        self._settings = settings
        self._max_request_size = max_request_size
        self._producer: AIOKafkaProducer | None = None
        self._stack = AsyncExitStack()
        self._connecting = asyncio.Lock()
        self._is_open = False

    async def open(self) -> AIOKafkaClient:
        """Connect; gives the connection. Raises `StartBrokersError`."""
        self._is_open = True
        return (await self._connected()).client

    async def close(self) -> None:
        """Send what waits, as far as the brokers take it in a few seconds."""
        self._is_open = False
        async with self._connecting:
            self._producer = None
            await self._stack.aclose()

    async def send(self, topic: str, value: bytes, *, key: bytes, headers: Headers) -> Any:
        """Give where the record is, when all replicas have it.

        Raises:
            MessageSizeTooLargeError: it was not sent.
            KafkaError, StartBrokersError, TimeoutError: it may have arrived, or may still.
        """
        producer = await self._connected()
        try:
            return await confirmed(producer, topic, value, key=key, headers=headers)
        except MessageSizeTooLargeError:
            raise
        except KafkaError:
            # It may be of no use any more: its numbering of records is broken, or it is fenced.
            if self._producer is producer:
                self._producer = None
            raise

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if not self._is_open:
                raise RuntimeError("expected an open client: use `async with Headrace(...) as headrace`")
            if self._producer is None:
                # One that has failed is closed first, so that what it still sends comes before.
                await self._stack.aclose()
                self._producer = await self._stack.enter_async_context(producer(self._settings, self._max_request_size))
            return self._producer
