"""What changed from one text to another."""

from typing import Annotated

import msgspec

from agents.tools.apart import Apart
from agents.tools.declaration import Tool, tool

MAX_TEXT_CHARS = 200_000

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]


def text_diff_tool(apart: Apart) -> Tool:
    @tool(idempotent=True, attempts=1, timeout_s=30)
    async def text_diff(before: Text, after: Text, context_lines: Annotated[int, msgspec.Meta(ge=0, le=20)] = 3) -> str:
        """Compare two texts line by line, and return a unified diff: what was removed (-) and added (+).

        Args:
            before: the older text.
            after: the newer text.
            context_lines: how many unchanged lines to show around each change.
        """
        return await apart.run("text_diff", before=before, after=after, context_lines=context_lines)

    return text_diff
