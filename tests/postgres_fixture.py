"""A PostgreSQL server for tests: one for the whole session, a database for each test.

A conftest makes it available with `from postgres_fixture import postgres, postgres_server`.
"""

import itertools
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from headrace.stack.postgres import Postgres
from projections.database import connected

__all__ = ["TABLES", "PostgresServer", "dump", "postgres", "postgres_server"]

TABLES = ("events", "turns", "model_calls", "audit_log", "dead_letters")

_numbers = itertools.count(1)


class PostgresServer(Postgres):
    """The stack's own, as quick as it can be; killed and started as a test needs it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, options=("-c", "fsync=off"))

    def of(self, database: str) -> str:
        """The URL of this database."""
        return self.url.rsplit("/", 1)[0] + f"/{database}"

    async def kill(self) -> None:
        """As a crash would: no checkpoint, no goodbye."""
        self.process.signal(signal.SIGKILL)
        await self.process.wait()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresServer]:
    """A running server, started at the first test that asks for it."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    try:
        await server.start()
        yield server
    finally:
        await server.process.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def postgres(postgres_server: PostgresServer) -> str:
    """The URL of an empty database of this test's own."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(postgres_server.url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return postgres_server.of(name)


async def dump(url: str) -> dict[str, list[Any]]:
    """Every row of every table that projections write, in order, as text."""
    async with connected(url) as connection:
        return {
            name: [row[0] for row in await connection.fetch(f"SELECT t::text FROM {name} AS t ORDER BY 1")]
            for name in (*TABLES, "usage")
        }
