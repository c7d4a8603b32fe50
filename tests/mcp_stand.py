"""An MCP server for tests: `stdio`, or `http PORT`. Its tools return, fail, take long, die, say what they were given.

With `malformed` as a further argument it also writes a line that is no JSON before each answer, which must do no harm.
"""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.utilities.types import Image

server = MCPServer("stand")


@server.tool()
def add(left: int, right: int) -> str:
    """Adds two numbers."""
    if "malformed" in sys.argv:
        sys.stdout.write("this is no JSON\n")
        sys.stdout.flush()
    return str(left + right)


@server.tool()
def fail() -> str:
    """Fails."""
    raise ToolError("the shelf is empty")


@server.tool()
async def wait(seconds: float, begun: str = "") -> str:
    """Takes long; `begun` is a file to make first."""
    if begun:
        await asyncio.to_thread(Path(begun).touch)
    await asyncio.sleep(seconds)
    return "waited"


@server.tool()
def die() -> str:
    """Ends the server during the call."""
    os._exit(3)


@server.tool()
def long(chars: int) -> str:
    """Returns much."""
    return "x" * chars


@server.tool()
def picture() -> list[str | Image]:
    """Returns an image beside text."""
    return ["a pixel:", Image(data=b"\x89PNG" + bytes(96), format="png")]


@server.tool()
def given(name: str) -> str:
    """Says a variable of its environment."""
    return os.environ.get(name, "not given")


@server.tool()
def process() -> str:
    """Its process id."""
    return str(os.getpid())


@server.tool()
def who(context: Context) -> str:
    """The id of the call, and the header that the client sent."""
    request = context.request_context.request
    header = request.headers.get("authorization", "none") if request is not None else "none"
    meta = context.request_context.meta or {}
    return f"{meta.get('headrace/call_id', 'none')} {header}"


@server.tool(name="odd.name/1")
def odd() -> str:
    """Has a name that a model may not use."""
    return "odd"


if __name__ == "__main__":
    if sys.argv[1] == "http":
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")
