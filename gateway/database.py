"""PostgreSQL as endpoints read it: SQL by the name of its file in `gateway/sql/`, on a pool of connections."""

from pathlib import Path
from typing import Any

import asyncpg
import structlog

from gateway.problems import Code, Problem, unavailable
from runtime.sql_files import sql_loader
from runtime.stores import POSTGRES_OUTAGES

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0
"""Somebody waits for the answer."""
STATEMENT_TIMEOUT_MS = 8_000
"""The server gives up before we do, and does not work for nobody."""
SERVER_SETTINGS = {
    "application_name": "headrace gateway",
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    # A filter that is not given is NULL: only a plan for these very arguments leaves it out and finds the index.
    "plan_cache_mode": "force_custom_plan",
    # Sums over some hundred thousand calls stay in memory.
    "work_mem": "32MB",
    # The compiler takes longer than any of these statements.
    "jit": "off",
}
MAX_CONNECTIONS = 10
"""PostgreSQL takes 100 by default, and several gateways share them."""

log = structlog.get_logger(__name__)
sql = sql_loader(Path(__file__).parent / "sql")


class Database:
    """A pool that connects when it must, so that a gateway starts while the database is away.

    All methods raise `Problem(unavailable)` where the database does not answer, or refuses the statement.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Any = None

    async def start(self) -> None:
        """Make the pool; connects to nothing yet."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=MAX_CONNECTIONS,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings=SERVER_SETTINGS,
        )

    async def fetch(self, name: str, *arguments: Any) -> list[Any]:
        """All rows of `sql/<name>.sql`."""
        return list(await self._call("fetch", name, arguments))

    async def fetchrow(self, name: str, *arguments: Any) -> Any | None:
        """The first row, or None."""
        return await self._call("fetchrow", name, arguments)

    async def execute(self, name: str, *arguments: Any) -> None:
        """Run it, for what it changes."""
        await self._call("execute", name, arguments)

    async def close(self) -> None:
        """Drop all connections."""
        if self._pool is not None:
            self._pool.terminate()

    async def _call(self, method: str, name: str, arguments: tuple[Any, ...]) -> Any:
        assert self._pool is not None, "start the database first"
        try:
            # Taking a connection waits too, where all are in use.
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
                return await getattr(connection, method)(sql(name), *arguments)
        except asyncpg.QueryCanceledError as error:
            log.warning("postgres_too_slow", statement=name)
            detail = f"PostgreSQL has no answer within {STATEMENT_TIMEOUT_MS / 1000:.0f} s: ask for less, or try later"
            raise Problem(Code.UNAVAILABLE, detail, headers={"Retry-After": "5"}) from error
        except POSTGRES_OUTAGES as error:
            log.warning("postgres_failed", statement=name, error=str(error), kind=type(error).__name__)
            raise unavailable("PostgreSQL") from error
