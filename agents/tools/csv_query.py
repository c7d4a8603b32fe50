"""SQL over a CSV text."""

from typing import Annotated

import msgspec

from agents.tools.apart import Apart
from agents.tools.declaration import Tool, tool

MAX_TEXT_CHARS = 500_000
MAX_SQL_CHARS = 10_000


def csv_query_tool(apart: Apart) -> Tool:
    @tool(idempotent=True, attempts=1, timeout_s=30)
    async def csv_query(
        csv: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARS)],
        sql: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SQL_CHARS)],
    ) -> str:
        """Answer a question about a CSV text with one SQL SELECT statement (SQLite); the answer is CSV.

        The text is the table `data`; its first line names the columns. A column whose values are all numbers is
        numeric, with NULL for empty ones; all others are text.

        Args:
            csv: the text, with commas, semicolons, tabs or `|` between the values.
            sql: one SELECT, such as "SELECT city, sum(amount) FROM data GROUP BY city ORDER BY 2 DESC".
        """
        return await apart.run("csv_query", text=csv, sql=sql)

    return csv_query
