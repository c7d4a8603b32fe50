"""Reads databases that the operator lists, by name."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

import msgspec

from agents.tools.declaration import Tool, tool, unconfigured
from agents.tools.port import ToolError
from agents.tools.secret import Secret
from agents.tools.sql_limits import SqlLimits

MAX_SQL_CHARS = 20_000
MISSING = (
    "toolbox.sql_databases (HEADRACE_TOOLBOX_SQL_DATABASES): a name and the URL of a role that can only read, "
    "for each database"
)


def sql_query_tool(databases: Mapping[str, Secret], limits: SqlLimits | None = None) -> Tool:
    """The tool `sql_query`; `databases` are PostgreSQL URLs by the names that agents use."""
    bounds = limits or SqlLimits()
    places = {name: asyncio.Semaphore(bounds.connections) for name in databases}

    @tool(idempotent=True, attempts=2, timeout_s=bounds.total_s + 5)
    async def sql_query(
        sql: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SQL_CHARS)],
        database: Annotated[str, msgspec.Meta(max_length=100)] = "",
    ) -> str:
        """Read from a PostgreSQL database with one SELECT statement; the answer has one JSON object per row.

        Nothing can be changed. Ask information_schema.columns which tables and columns there are. Aggregate or use
        LIMIT: long answers are cut.

        Args:
            sql: one SELECT, WITH … SELECT, VALUES or TABLE statement.
            database: the name of the database; may be left out where there is only one.
        """
        from agents.tools.sql_read import read_rows

        known = ", ".join(sorted(databases))
        name = database or (known if len(databases) == 1 else "")
        if name not in databases:
            raise ToolError(f"expected a database among {known}, got `{database}`: name one of them")
        async with places[name]:
            return await read_rows(name, databases[name], sql, bounds)

    return sql_query if databases else unconfigured(sql_query, MISSING)
