"""One connection to PostgreSQL, whose errors say what to do: try later, or leave rows out."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from projections.errors import RowsRefusedError, StoreUnavailableError
from runtime.stores import POSTGRES_OUTAGES, SetStoreError

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 120.0
"""A batch takes milliseconds: what takes so long waits for a lock, or for a server that is gone."""

# A value that does not fit its column, a row that breaks a rule of its table, an index entry that is too large; and
# what asyncpg itself cannot send, which is a ValueError.
REFUSALS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
)


async def connect(url: str, *, schemas: str | None = None, timeout_s: float | None = COMMAND_TIMEOUT_S) -> Any:
    """A connection; `schemas` is its search path, where that is not the database's own.

    Raises:
        StoreUnavailableError: the database does not answer, or does not let us in.
        SetStoreError: the URL is not one.
    """
    settings = {"application_name": "headrace"} | ({} if schemas is None else {"search_path": schemas})
    with store_errors():
        try:
            return await asyncpg.connect(
                url, timeout=CONNECT_TIMEOUT_S, command_timeout=timeout_s, server_settings=settings
            )
        except ValueError:
            # The message could show the password.
            raise SetStoreError("`postgres`: expected postgresql://user:password@host:port/database") from None


@asynccontextmanager
async def connected(url: str, *, schemas: str | None = None, timeout_s: float | None = None) -> AsyncIterator[Any]:
    """A connection that is closed at the end; its statements may take as long as they need."""
    connection = await connect(url, schemas=schemas, timeout_s=timeout_s)
    try:
        yield connection
    finally:
        with store_errors():
            await connection.close(timeout=CONNECT_TIMEOUT_S)


@contextmanager
def row_errors() -> Iterator[None]:
    """Turns the errors of writing rows into those of projections: what is the rows' fault, and what is not."""
    try:
        with store_errors():
            yield
    except ValueError as error:
        raise RowsRefusedError(_said(error)) from error
    except StoreUnavailableError as error:
        if isinstance(error.__cause__, REFUSALS):
            raise RowsRefusedError(str(error)) from error
        raise


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns the errors of asyncpg into those of projections."""
    try:
        yield
    except POSTGRES_OUTAGES as error:
        raise StoreUnavailableError(_said(error)) from error


def _said(error: Exception) -> str:
    return f"PostgreSQL: {str(error) or type(error).__name__}"
