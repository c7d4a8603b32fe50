"""The tool of the recorded sessions that must not run twice."""

import asyncio

from agents.tools import tool

SECONDS = 4.0
"""Long enough that a worker is killed in the middle."""


@tool(timeout_s=20)
async def post_note(text: str) -> str:
    """Post a note on the board.

    Args:
        text: what it says.
    """
    await asyncio.sleep(SECONDS)
    return f"posted: {text}"
