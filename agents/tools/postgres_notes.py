"""Notes in PostgreSQL: the table `notes`, by a digest of tenant and user."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from agents.tools.notes import MAX_NOTES, Note, Owner
from agents.tools.port import ToolError
from agents.tools.secret import Secret

MAX_CONNECTIONS = 4
CONNECT_S = 5.0
COMMAND_S = 10.0
IDLE_S = 60.0

_FOLDER = Path(__file__).parent / "sql"


class PostgresNotes:
    """Connects at the first call, and again after the database was away."""

    def __init__(self, url: Secret) -> None:
        self._url = url
        self._pool: Any = None
        self._opening = asyncio.Lock()

    async def keep(self, owner: Owner, call_id: str, text: str, replaces: int | None) -> int:
        key = key_of(owner)
        async with self._connection() as connection, connection.transaction():
            # One after the other for each owner: the limit and the numbers depend on what is there.
            await connection.execute(_sql("lock_notes"), int.from_bytes(key[:8], "big", signed=True))
            number = await connection.fetchval(_sql("note_of_call"), key, call_id)
            if number is None and replaces is not None:
                number = await connection.fetchval(_sql("replace_note"), key, replaces, call_id, text)
                if number is None:
                    raise ToolError(f"there is no note {replaces} of this user: call recall to see their numbers")
            elif number is None:
                tenant, user_id = _stored(owner.tenant), _stored(owner.user_id)
                number = await connection.fetchval(_sql("insert_note"), key, tenant, user_id, call_id, text, MAX_NOTES)
            if number is None:
                raise ToolError(
                    f"there are {MAX_NOTES} notes about this user, and no more are kept: "
                    "replace one that is out of date (recall shows them, `replaces` names it)"
                )
            return int(number)

    async def find(self, owner: Owner, words: list[str], limit: int) -> list[Note]:
        async with self._connection() as connection:
            if words:
                query = " | ".join(f"'{word}':*" for word in words)
                rows = await connection.fetch(_sql("find_notes"), key_of(owner), query, limit)
            else:
                rows = await connection.fetch(_sql("newest_notes"), key_of(owner), limit)
        return [Note(row["number"], row["note"], row["written_at"]) for row in rows]

    async def count(self, owner: Owner) -> int:
        async with self._connection() as connection:
            return int(await connection.fetchval(_sql("count_notes"), key_of(owner)))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        import asyncpg

        try:
            pool = await self._opened()
            async with pool.acquire(timeout=CONNECT_S) as connection:
                yield connection
        except asyncpg.UndefinedTableError as error:
            raise ToolError(
                "the notes' table is missing: tell the user that the operator must run `headrace migrate`"
            ) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise ToolError("the notes cannot be reached now: go on without them", retryable=True) from error

    async def _opened(self) -> Any:
        import asyncpg

        async with self._opening:
            if self._pool is None:
                try:
                    self._pool = await asyncpg.create_pool(
                        self._url.reveal(),
                        min_size=0,
                        max_size=MAX_CONNECTIONS,
                        timeout=CONNECT_S,
                        command_timeout=COMMAND_S,
                        max_inactive_connection_lifetime=IDLE_S,
                        server_settings={"application_name": "headrace notes"},
                    )
                except ValueError:
                    # Its message may have the password in it.
                    raise ToolError("the notes cannot be reached: `postgres` is not a URL") from None
            return self._pool


def key_of(owner: Owner) -> bytes:
    """As long as it may be, an index can hold it; no two owners have the same one."""
    return sha256(msgspec.json.encode([owner.tenant, owner.user_id])).digest()


def _stored(name: str | None) -> str | None:
    """For people who look at the table, in which no text has a NUL."""
    return None if name is None else name.replace("\0", "")


@cache
def _sql(name: str) -> str:
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
