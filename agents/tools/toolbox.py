"""Runs tools: whatever happens in one, what comes out is a value that the model can act on."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from agents.tools.arguments import BadArgumentsError, read_arguments
from agents.tools.declaration import Tool
from agents.tools.outside import RemoteTool
from agents.tools.port import ToolContext, ToolDefinition, ToolError, ToolFault, ToolOutcome, ToolReturn
from schemas.failure import Failure, FailureCode

MAX_ERROR_CHARS = 2_000
"""Of what a model reads about a failure: exceptions of HTTP and SQL libraries may quote whole documents."""
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
"""Doubled from the first to this one, each shortened by up to a half at random, so that calls do not return in step."""


class _Broken(Struct, frozen=True):
    """An attempt that failed; `again`: another one may succeed."""

    failure: Failure
    cause: BaseException | None
    again: bool


class ToolServer(Protocol):
    """Another process, whose tools are there once it is reached. Their names begin with its own and `_`."""

    @property
    def name(self) -> str: ...

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Those that it had when it was last reached, by the name under which the model knows them."""

    @property
    def revision(self) -> int:
        """How often `tools` were others."""

    async def open(self) -> None:
        """Begin to reach it, and wait for that for a bounded time; it goes on being tried after that."""

    async def close(self) -> None: ...


class Toolbox:
    """The tools that a worker can run, by name; those that services run, which it waits for; and those of servers."""

    def __init__(
        self,
        tools: Iterable[Tool],
        *,
        remote: Iterable[RemoteTool] = (),
        servers: Iterable[ToolServer] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._tools: dict[str, Tool] = {}
        self._remote: dict[str, RemoteTool] = {}
        self._servers = {server.name: server for server in servers}
        self._sleep = sleep
        every: list[Tool | RemoteTool] = [*tools, *remote]
        for tool in every:
            name = tool.name
            if (server := self._server_of(name)) is not None:
                raise ValueError(
                    f"expected only tools of the MCP server `{server.name}` to have names that begin with it, got the "
                    f"tool `{name}`: rename it, or the server"
                )
            if self._find(name) is not None:
                raise ValueError(f"expected each tool name once, got two tools `{name}`: set `@tool(name=…)` on one")
            if isinstance(tool, RemoteTool):
                self._remote[name] = tool
            else:
                self._tools[name] = tool

    @property
    def revision(self) -> int:
        """Another one whenever `definitions` may be others."""
        return sum(server.revision for server in self._servers.values())

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those that this worker can run now."""
        return (*self._tools.values(), *(tool for server in self._servers.values() for tool in server.tools.values()))

    def known_definitions(self) -> list[ToolDefinition]:
        """What a model can be told of all tools that are there now."""
        local = [tool.definition for tool in self.tools]
        return local + [tool.definition for tool in self._remote.values()]

    def definitions(self, names: Sequence[str]) -> list[ToolDefinition]:
        """What the model is told of these tools, in this order; a server's that it does not have now are left out.

        Raises:
            ValueError: there is no tool of such a name, nor a server; or it lacks what the operator must set.
        """
        unknown = [name for name in names if self._find(name) is None and self._server_of(name) is None]
        if unknown:
            known = sorted(definition.name for definition in self.known_definitions())
            raise ValueError(
                f"expected tools among {known}, got {unknown}: correct the name, or load the module that has it"
            )
        tools = [tool for tool in map(self._find, names) if tool is not None]
        missing = [f"`{tool.name}` needs {tool.missing}" for tool in tools if isinstance(tool, Tool) and tool.missing]
        if missing:
            raise ValueError(f"expected tools that are configured: {'; '.join(missing)}. Set it, or take the tool away")
        return [tool.definition for tool in tools]

    def remote(self, name: str) -> RemoteTool | None:
        """The tool, where a service runs it."""
        return self._remote.get(name)

    def is_idempotent(self, name: str) -> bool:
        """A tool that does not exist is: its call fails without an effect. A server's may appear meanwhile."""
        tool = self._local(name)
        return tool.idempotent if tool is not None else self._server_of(name) is None

    def _find(self, name: str) -> Tool | RemoteTool | None:
        return self._remote.get(name) or self._local(name)

    def _local(self, name: str) -> Tool | None:
        server = self._server_of(name)
        return self._tools.get(name) if server is None else server.tools.get(name)

    def _server_of(self, name: str) -> ToolServer | None:
        return self._servers.get(name.split("_", 1)[0]) if "_" in name else None

    async def run(self, name: str, input: dict[str, Any], *, context: ToolContext, timeout_s: float) -> ToolOutcome:
        """Run a tool, again if it is idempotent and fails for now; `timeout_s` bounds all attempts and waits together.

        Cancelling the caller cancels the tool. Anything else that happens is in the outcome.
        """
        tool = self._local(name)
        if tool is None:
            return ToolFault(failure=self._no_such_tool(name), attempts=0)
        try:
            arguments = read_arguments(tool.parameters, input)
        except BadArgumentsError as error:
            message = _bounded(f"the input of `{name}` is not valid: {error}. Correct it and call `{name}` again.")
            return ToolFault(failure=Failure(code=FailureCode.BAD_ARGUMENTS, message=message), attempts=0)
        if tool.parameters.context is not None:
            arguments[tool.parameters.context] = context
        return await self._run_attempts(tool, arguments, timeout_s)

    def _no_such_tool(self, name: str) -> Failure:
        server = self._server_of(name)
        if server is None or server.tools:
            message = f"there is no tool `{_clean(name[:100])}`: call one of the tools that you were given"
            return Failure(code=FailureCode.UNKNOWN_TOOL, message=message)
        message = f"the server `{server.name}` of this tool cannot be reached now: go on without it, or try again later"
        return Failure(code=FailureCode.TOOL_ERROR, message=message, retryable=True)

    async def open(self) -> None:
        """Reach the servers, all at once; returns after a bounded time, with those that could not be reached."""
        await asyncio.gather(*(server.open() for server in self._servers.values()))

    async def close(self) -> None:
        """Release what the tools hold. No call may be running."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))
        for tool in self._tools.values():
            if tool.on_close is not None:
                tool.on_close()

    async def _run_attempts(self, tool: Tool, arguments: dict[str, Any], timeout_s: float) -> ToolOutcome:
        now = asyncio.get_running_loop().time
        deadline = now() + timeout_s
        broken = _timed_out(tool, timeout_s, started=False)
        attempt = 0
        while (left_s := deadline - now()) > 0:
            attempt += 1
            outcome = await _attempt(tool, arguments, min(tool.timeout_s, left_s))
            if isinstance(outcome, str):
                return ToolReturn(content=cut(outcome, tool.max_result_chars), attempts=attempt)
            broken = outcome
            pause_s = _backoff_s(attempt)
            if not broken.again or attempt >= tool.attempts or now() + pause_s >= deadline:
                break
            await self._sleep(pause_s)
        return ToolFault(failure=broken.failure, attempts=attempt, cause=broken.cause)


async def _attempt(tool: Tool, arguments: dict[str, Any], timeout_s: float) -> str | _Broken:
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            result = await tool.function(**arguments)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        assert task is not None
        if task.cancelling():
            raise
        # Nobody cancelled this call: the tool awaited something of its own that was cancelled.
        return _raised(tool, error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a tool raises is data; SystemExit would end the worker
        if isinstance(error, TimeoutError) and limit.expired():
            return _timed_out(tool, timeout_s, started=True)
        return _raised(tool, error)
    if isinstance(result, str):
        return _clean(result)
    try:
        return msgspec.json.encode(result).decode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"`{tool.name}` did its work, but returned something that is not text and does not fit JSON"
        failure = Failure(code=FailureCode.TOOL_ERROR, message=message)
        return _Broken(failure, error, again=False)


def _raised(tool: Tool, error: BaseException) -> _Broken:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, ToolError):
        failure = Failure(code=FailureCode.TOOL_ERROR, message=_bounded(error.message), retryable=error.retryable)
        return _Broken(failure, error, again=error.retryable)
    said = _bounded(f"{type(error).__name__}: {_text_of(error)}".removesuffix(": "))
    return _Broken(Failure(code=FailureCode.TOOL_ERROR, message=said), error, again=tool.idempotent)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - an exception of foreign code that cannot even be printed
        return f"(its text cannot be read: {type(second).__name__})"


def _timed_out(tool: Tool, timeout_s: float, *, started: bool) -> _Broken:
    if not started:
        message = f"`{tool.name}` was not started: the turn has no time left"
    elif tool.idempotent:
        message = f"`{tool.name}` did not finish within {timeout_s:.3g} s: try again, or ask for less"
    else:
        message = (
            f"`{tool.name}` did not finish within {timeout_s:.3g} s. It may have taken effect or not: "
            "check before calling it again"
        )
    retryable = tool.idempotent or not started
    return _Broken(Failure(code=FailureCode.TOOL_TIMEOUT, message=message, retryable=retryable), None, again=retryable)


def _backoff_s(attempt: int) -> float:
    longest = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret


def cut(content: str, max_chars: int) -> str:
    if len(content) <= max_chars:
        return content
    marker = f"[cut: the first {max_chars:,} of {len(content):,} characters; ask for less to see the rest]"
    return f"{content[:max_chars]}\n{marker}"


def _bounded(message: str) -> str:
    return _clean(message if len(message) <= MAX_ERROR_CHARS else f"{message[:MAX_ERROR_CHARS]}… [cut]")


def _clean(text: str) -> str:
    """Lone surrogates, which no UTF-8 record can hold, become `?`."""
    return text.encode("utf-8", "replace").decode()
