"""One SELECT in a transaction that can only read, and is rolled back.

The statement is the query of a cursor, which PostgreSQL lets nothing but a query be: no second statement, nothing that
sets, calls, copies or ends the transaction, nothing that writes in a WITH. It is parsed alone before it is put into
another query, which cuts long rows: what is whole by itself cannot end the brackets that it is put in.
"""

import asyncio
from typing import Any

import asyncpg

from agents.tools.port import ToolError
from agents.tools.secret import Secret
from agents.tools.sql_limits import SqlLimits

BATCH_ROWS = 50
CLOSE_S = 2.0


async def read_rows(name: str, url: Secret, sql: str, limits: SqlLimits) -> str:
    """The rows as JSON, one per line.

    Raises:
        ToolError: the database cannot be reached, or refuses the statement; the message is for the model.
    """
    try:
        async with asyncio.timeout(limits.total_s):
            connection = await _connect(name, url, limits)
            try:
                return await _read(connection, name, sql.strip().rstrip(";"), limits)
            finally:
                connection.terminate()
    except asyncpg.QueryCanceledError as error:
        raise _too_slow(limits.statement_s) from error
    except TimeoutError as error:
        raise _too_slow(limits.total_s) from error
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as error:
        raise ToolError(f"the connection to database `{name}` broke: try again", retryable=True) from error
    except asyncpg.PostgresError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ToolError(
            f"expected one SELECT statement that fits the database; PostgreSQL says: {error}{hint}"[:1_500]
        ) from error


async def _connect(name: str, url: Secret, limits: SqlLimits) -> Any:
    try:
        return await asyncpg.connect(
            url.reveal(),
            timeout=limits.connect_s,
            statement_cache_size=0,
            server_settings={"application_name": "headrace sql_query"},
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError):
        # What they say may have the address, the role or the password of the URL in it.
        raise ToolError(
            f"database `{name}` cannot be reached with the URL in toolbox.sql_databases: say so", retryable=True
        ) from None


async def _read(connection: Any, name: str, sql: str, limits: SqlLimits) -> str:
    if await connection.fetchval("SELECT current_setting('is_superuser')") == "on":
        raise ToolError(
            f"the role of database `{name}` may do everything, so nothing is read with it: tell the user that the "
            "operator must give a role that can only read what agents may see"
        )
    await connection.transaction(readonly=True).start()
    milliseconds = int(limits.statement_s * 1_000)
    await connection.execute(f"SET LOCAL statement_timeout = {milliseconds}")
    await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}")
    await connection.prepare(f"DECLARE headrace NO SCROLL CURSOR FOR {sql}")
    await connection.fetch(f"DECLARE headrace NO SCROLL CURSOR FOR {_cut(sql, limits.max_row_chars)}")
    return await _rows(connection, limits)


def _cut(sql: str, chars: int) -> str:
    """A query for the first characters of each row as JSON, and how many it has."""
    rows = f"(SELECT row_to_json(q)::text AS j FROM (\n{sql}\n) AS q) AS r"  # noqa: S608 - a cursor only reads
    return f"SELECT left(r.j, {chars}) AS row, length(r.j) AS chars FROM {rows}"  # noqa: S608 - the same


async def _rows(connection: Any, limits: SqlLimits) -> str:
    lines: list[str] = []
    chars = 0
    while rows := await connection.fetch(f"FETCH {BATCH_ROWS} FROM headrace"):
        for row in rows:
            if len(lines) >= limits.max_rows or chars > limits.max_chars:
                return "\n".join([*lines, f"[cut after {len(lines):,} rows: aggregate, or add LIMIT and OFFSET]"])
            cut = f"… [{row['chars']:,} characters]" if row["chars"] > limits.max_row_chars else ""
            lines.append(row["row"] + cut)
            chars += len(lines[-1])
    return "\n".join(lines) or "[no rows]"


def _too_slow(seconds: float) -> ToolError:
    return ToolError(f"the query took more than {seconds:g} s: narrow it, or aggregate less")
