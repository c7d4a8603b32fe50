"""The connection to an MCP server, made again whenever it is lost.

The library's connection must be opened and closed by one task, so a task of the connection's own holds it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import structlog
from mcp.client._transport import TransportStreams
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation
from mcp.types import Tool as ServersTool

from agents.tools.mcp_stream import Watched
from agents.tools.outside import McpServerSpec, OutsideToolsError

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 60.0
"""Of one attempt, tools listed included: a server that `npx` or `uvx` starts is often downloaded first."""
OPEN_TIMEOUT_S = 15.0
"""How long a worker waits for its servers before it starts without them."""
CLOSE_TIMEOUT_S = 10.0
"""The library gives a process 2 s after its input ends, 2 s after SIGTERM to its group, then sends SIGKILL."""
WAIT_S = 5.0
"""How long a call waits for a connection that is being made again."""
FIRST_PAUSE_S = 0.2
MAX_PAUSE_S = 10.0
"""Doubled from the first to this one while the server cannot be reached, or leaves soon."""
STEADY_S = 30.0
"""A connection that stood for so long was a good one: the next one is made at once."""
HTTP_TIMEOUT_S = 10.0
"""To connect, and to write."""
READ_MARGIN_S = 30.0
"""What HTTP allows beyond a call's own time, so that it is the call that ends."""
MAX_TOOLS = 1_000
MAX_PAGES = 100
MAX_ERROR_CHARS = 500
MIN_SECRET_CHARS = 6
"""A shorter value, such as a `1`, would be taken out of every text."""


class McpConnection:
    """Tells the tools that the server has, each time that it is reached."""

    def __init__(
        self,
        name: str,
        spec: McpServerSpec,
        environment: Mapping[str, str],
        on_tools: Callable[[list[ServersTool]], None],
    ) -> None:
        self.error = "it was not tried yet"
        self._told = ""
        self._name = name
        self._spec = spec
        self._given = {each: _given(name, each, environment) for each in (*spec.env, *spec.headers.values())}
        self._on_tools = on_tools
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._tried = asyncio.Event()
        self._closing = asyncio.Event()
        self._holder: asyncio.Task[None] | None = None
        self._attempt: asyncio.Timeout | None = None
        # It tells what is told here again, with a traceback, and with what the server sent.
        for library in ("mcp", "httpx2"):
            logging.getLogger(library).setLevel(logging.CRITICAL)

    async def open(self) -> None:
        """Begin to connect; returns when the first attempt has ended, or its time is over."""
        self._holder = asyncio.create_task(self._hold(), name=f"mcp {self._name}")
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._tried.wait()
        except TimeoutError:
            log.warning("mcp_server_slow", server=self._name, seconds=OPEN_TIMEOUT_S, hint="its tools may come later")

    async def close(self) -> None:
        """End the connection; a process that was started is gone then, with those that it started."""
        self._closing.set()
        self._lost.set()
        if self._attempt is not None and not self._attempt.expired():
            self._attempt.reschedule(asyncio.get_running_loop().time())
        if self._holder is not None:
            # Not cancelled first: a cancellation while the library ends the process would leave it alive.
            _, late = await asyncio.wait([self._holder], timeout=CLOSE_TIMEOUT_S)
            for task in late:
                task.cancel()
                await asyncio.wait([task])

    async def client(self) -> Client | None:
        """The client; None where the server cannot be reached, as `error` says."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._connected.wait()
        except TimeoutError:
            return None
        return self._client

    def lose(self, client: Client) -> None:
        """A call has found that this client's connection is gone."""
        if client is self._client:
            self._lost.set()

    def say(self, error: BaseException) -> str:
        """An error in few words, without what was given to the server."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
        for secret in sorted([*self._given.values(), self._spec.url or ""], key=len, reverse=True):
            if len(secret) >= MIN_SECRET_CHARS:
                text = text.replace(secret, "***")
        return text[:MAX_ERROR_CHARS]

    async def _hold(self) -> None:
        """Connect, and again whenever the connection ends."""
        now = asyncio.get_running_loop().time
        pause_s = FIRST_PAUSE_S
        while not self._closing.is_set():
            begun = now()
            try:
                await self._connect()
                self.error = "the connection ended"
            except Exception as error:  # noqa: BLE001 - whatever another's server makes the library raise
                self.error = self.say(error)
            self._disconnected()
            pause_s = FIRST_PAUSE_S if now() - begun > STEADY_S else pause_s
            await self._pause(pause_s)
            pause_s = min(MAX_PAUSE_S, pause_s * 2)

    async def _connect(self) -> None:
        """One connection, from its beginning to its end."""
        self._lost.clear()
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S) as self._attempt:
                    about = Implementation(name="headrace", version="1")
                    client = await stack.enter_async_context(Client(self._transport(), cache=None, client_info=about))
                    self._on_tools(await _listed(client))
            finally:
                self._attempt = None
            self._told = ""
            self._client = client
            self._connected.set()
            self._tried.set()
            await self._lost.wait()
            # Before the end of its process is waited for: calls wait for the next connection from now on.
            self._connected.clear()

    def _disconnected(self) -> None:
        self._client = None
        self._connected.clear()
        self._tried.set()
        if not self._closing.is_set() and self.error != self._told:
            self._told = self.error
            hint = "calls of its tools fail until it is reached: see that it runs; it is tried again"
            log.error("mcp_server_unreachable", server=self._name, error=self.error, hint=hint)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[TransportStreams]:
        async with AsyncExitStack() as stack:
            if self._spec.url is None:
                command, *arguments = self._spec.command
                given = {name: self._given[name] for name in self._spec.env}
                process = StdioServerParameters(command=command, args=arguments, env=given)
                read, write = await stack.enter_async_context(stdio_client(process))
            else:
                headers = {header: self._given[name] for header, name in self._spec.headers.items()}
                timeout = httpx2.Timeout(HTTP_TIMEOUT_S, read=self._spec.timeout_seconds + READ_MARGIN_S)
                http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=timeout))
                read, write = await stack.enter_async_context(streamable_http_client(self._spec.url, http_client=http))
            yield Watched(read, self._lost), write


def _given(server: str, variable: str, environment: Mapping[str, str]) -> str:
    value = environment.get(variable)
    if value is None:
        raise OutsideToolsError(
            f"[mcp.{server}]: expected the environment variable {variable}, which is not set: set it, or take it out"
        )
    return value


async def _listed(client: Client) -> list[ServersTool]:
    found: list[ServersTool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None or len(found) > MAX_TOOLS:
            break
    if len(found) > MAX_TOOLS or cursor is not None:
        raise ValueError(f"expected at most {MAX_TOOLS} tools of a server, got more: let it offer fewer")
    return found
