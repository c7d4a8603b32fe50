"""Reads the Redis streams `live:{session}`, many at once, on a connection of its own.

The connection is a bare one: the library's parsing of streams makes a dictionary of every entry.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.feeds.items import Item, item_of_stream

StreamId = tuple[int, int]
START: StreamId = (0, 0)

log = structlog.get_logger(__name__)


class Read:
    """What was read of one stream: its items, and the id of the last one."""

    __slots__ = ("count", "items", "last")

    def __init__(self, entries: list[tuple[bytes, list[bytes]]]) -> None:
        self.items: list[Item] = []
        for entry_id, fields in entries:
            try:
                self.items.append(item_of_stream(entry_id, fields))
            except (IndexError, ValueError):
                log.error("feed_entry_unreadable", entry=entry_id.decode(errors="replace"))
        self.count = len(entries)
        self.last = stream_id(entries[-1][0])


def stream_id(text: bytes) -> StreamId:
    major, _, minor = text.partition(b"-")
    return int(major), int(minor)


class Streams:
    """The connection; a failed read closes it, and the next one opens another."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._connection: Any = None

    async def read(self, after: Mapping[bytes, StreamId], count: int) -> dict[bytes, Read]:
        """At most `count` entries of each stream behind an id; streams without any are left out.

        Raises:
            What `runtime.stores.REDIS_OUTAGES` has.
        """
        try:
            return await self._read(after, count)
        except ResponseError as error:
            if len(after) == 1:
                log.error("feed_unreadable", keys=[key.decode() for key in after], error=str(error))
                return {}
        # One of the keys is not a stream; the others are.
        found: dict[bytes, Read] = {}
        for key, last in after.items():
            found |= await self.read({key: last}, count)
        return found

    async def _read(self, after: Mapping[bytes, StreamId], count: int) -> dict[bytes, Read]:
        ids = [f"{major}-{minor}" for major, minor in after.values()]
        if self._connection is None:
            pool: Any = self._redis.connection_pool
            self._connection = pool.make_connection()
        connection = self._connection
        try:
            # Does nothing where it is connected.
            await connection.connect()
            await connection.send_command("XREAD", "COUNT", count, "STREAMS", *after, *ids)
            found = await connection.read_response()
        except BaseException:
            # The answer to a command that was given up would be taken for that to the next.
            await self.close()
            raise
        # A map in RESP3, pairs in RESP2.
        pairs = found.items() if isinstance(found, dict) else found or ()
        return {key: Read(entries) for key, entries in pairs}

    async def close(self) -> None:
        """Drop the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
