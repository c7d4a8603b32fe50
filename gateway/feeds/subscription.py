"""One pub/sub connection to Redis: which channels, and what is said on them.

It is a bare connection, without the reconnecting of the library's own: whoever uses it must know that it broke, because
what was said meanwhile is lost.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

from redis.asyncio import Redis

from runtime.ending import cancelled
from runtime.stores import REDIS_OUTAGES

AT_ONCE = 500
"""Channels in one command."""


class Subscription:
    """What one asks for is sent by a task of its own, many at once; `next` raises where the connection breaks."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._is_answered = True
        self._commands: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def opened(cls, redis: Redis) -> AsyncIterator[Self]:
        """Connects as the client does, on a connection of its own.

        Raises:
            What `runtime.stores.REDIS_OUTAGES` has; also from `next`.
        """
        pool: Any = redis.connection_pool
        connection = pool.make_connection()
        subscription = cls(connection)
        try:
            await connection.connect()
            sending = asyncio.create_task(subscription._send(), name="subscribe")
            try:
                yield subscription
            finally:
                await cancelled(sending)
        finally:
            await connection.disconnect(nowait=True)

    def want(self, channel: str) -> None:
        """Subscribe; `next` says so when it is confirmed."""
        self._commands.put_nowait(("SUBSCRIBE", channel))

    def forget(self, channel: str) -> None:
        """Unsubscribe; what is on its way still comes."""
        self._commands.put_nowait(("UNSUBSCRIBE", channel))

    async def check(self) -> None:
        """Call it every few seconds: where nothing came since the last time, not even an answer, `next` raises."""
        if self._is_answered:
            self._is_answered = False
            self._commands.put_nowait(("PING", ""))
        else:
            await self._connection.disconnect(nowait=True)

    async def next(self) -> tuple[str, bytes | None]:
        """The next message: its channel and what it says; None: the channel is subscribed to now."""
        while True:
            message = await self._connection.read_response(timeout=math.inf, push_request=True)
            self._is_answered = True
            # The answer to a ping is a list in RESP2 only.
            if not isinstance(message, list):
                continue
            if message[0] == b"message":
                return message[1].decode(), message[2]
            if message[0] == b"subscribe":
                return message[1].decode(), None

    async def _send(self) -> None:
        while True:
            asked = [await self._commands.get()]
            while not self._commands.empty() and len(asked) < AT_ONCE:
                asked.append(self._commands.get_nowait())
            try:
                for command, group in groupby(asked, key=itemgetter(0)):
                    await self._connection.send_command(command, *[channel for _, channel in group if channel])
            except REDIS_OUTAGES:
                # `next` raises as well then.
                await self._connection.disconnect(nowait=True)
                return
