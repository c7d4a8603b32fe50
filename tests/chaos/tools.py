"""The tool that must not run twice: each run leaves a line in a file."""

import asyncio
import os

from agents.tools import tool

FILE = "CHAOS_NOTES"
"""The variable that names the file."""
SECONDS = 0.3
"""Long enough that a worker dies in the middle of some."""


@tool(timeout_s=20)
async def post_note(text: str) -> str:
    """Post a note on the board.

    Args:
        text: what it says.
    """
    # Appended with one write, so that several workers can share the file.
    file = os.open(os.environ[FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{text}\n".encode())
    finally:
        os.close(file)
    await asyncio.sleep(SECONDS)
    return f"posted: {text}"
