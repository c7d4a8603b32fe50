"""A Valkey server for tests: one for the whole session; tests name their keys after themselves.

A conftest makes it available with `from valkey_fixture import valkey_server`.
"""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from headrace.stack.valkey import Valkey

__all__ = ["ValkeyServer", "dump_keys", "valkey_server"]


class ValkeyServer(Valkey):
    """The stack's own, but nothing is kept on disk: a restart has lost everything."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, keep_data=False)

    async def kill(self) -> None:
        self.process.signal(signal.SIGKILL)
        await self.process.wait()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ValkeyServer]:
    """A running server, started at the first test that asks for it."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def dump_keys(url: str, prefix: str) -> dict[str, Any]:
    """Every key that begins with the prefix, with all that it holds and when it expires."""
    client: Redis = Redis.from_url(url, decode_responses=True)
    found: dict[str, Any] = {}
    try:
        async for key in client.scan_iter(match=f"{prefix}*", count=1_000):
            found[key.removeprefix(prefix)] = (await _content(client, key), await client.pexpiretime(key))
    finally:
        await client.aclose()
    return found


async def _content(client: Any, key: str) -> Any:
    match await client.type(key):
        case "hash":
            return await client.hgetall(key)
        case "stream":
            return await client.xrange(key)
        case "zset":
            return await client.zrange(key, 0, -1, withscores=True)
        case "set":
            return await client.smembers(key)
        case "string":
            return await client.get(key)
    raise AssertionError(key)
