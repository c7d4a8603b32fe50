"""Picks values out of a JSON document with JMESPath."""

from typing import Annotated

import msgspec

from agents.tools.apart import Apart
from agents.tools.declaration import Tool, tool

MAX_DATA_CHARS = 500_000
MAX_EXPRESSION_CHARS = 2_000


def json_query_tool(apart: Apart) -> Tool:
    @tool(idempotent=True, attempts=1, timeout_s=30)
    async def json_query(
        data: Annotated[str, msgspec.Meta(max_length=MAX_DATA_CHARS)],
        expression: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EXPRESSION_CHARS)],
    ) -> str:
        """Pick, filter, sort and reshape values of a JSON document with a JMESPath expression; the answer is JSON.

        Args:
            data: the JSON document, as text.
            expression: JMESPath, such as "orders[?total > `100`].{id: id, total: total} | sort_by(@, &total)".
        """
        return await apart.run("json_query", data=data, expression=expression)

    return json_query
