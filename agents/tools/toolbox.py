"""Runs tools: whatever happens in one, what comes out is a value that the model can act on."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from agents.tools.arguments import BadArgumentsError, read_arguments
from agents.tools.declaration import Tool
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


class Toolbox:
    """The tools that a worker can run, by name."""

    def __init__(self, tools: Iterable[Tool], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._tools: dict[str, Tool] = {}
        self._sleep = sleep
        for tool in tools:
            if self._tools.setdefault(tool.name, tool) is not tool:
                raise ValueError(
                    f"expected each tool name once, got two tools `{tool.name}`: set `@tool(name=…)` on one"
                )

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    def definitions(self, names: Sequence[str]) -> list[ToolDefinition]:
        """What the model is told of these tools, in this order.

        Raises:
            ValueError: there is no tool of such a name, or it lacks what the operator must set.
        """
        unknown = [name for name in names if name not in self._tools]
        if unknown:
            raise ValueError(
                f"expected tools among {sorted(self._tools)}, got {unknown}: "
                "correct the name, or load the module that has it"
            )
        tools = [self._tools[name] for name in names]
        missing = [f"`{tool.name}` needs {tool.missing}" for tool in tools if tool.missing is not None]
        if missing:
            raise ValueError(f"expected tools that are configured: {'; '.join(missing)}. Set it, or take the tool away")
        return [tool.definition for tool in tools]

    def is_idempotent(self, name: str) -> bool:
        """A tool that does not exist is: its call fails without an effect."""
        tool = self._tools.get(name)
        return tool is None or tool.idempotent

    async def run(self, name: str, input: dict[str, Any], *, context: ToolContext, timeout_s: float) -> ToolOutcome:
        """Run a tool, again if it is idempotent and fails for now; `timeout_s` bounds all attempts and waits together.

        Cancelling the caller cancels the tool. Anything else that happens is in the outcome.
        """
        tool = self._tools.get(name)
        if tool is None:
            message = f"there is no tool `{_clean(name[:100])}`: call one of the tools that you were given"
            return ToolFault(failure=Failure(code=FailureCode.UNKNOWN_TOOL, message=message), attempts=0)
        try:
            arguments = read_arguments(tool.parameters, input)
        except BadArgumentsError as error:
            message = _bounded(f"the input of `{name}` is not valid: {error}. Correct it and call `{name}` again.")
            return ToolFault(failure=Failure(code=FailureCode.BAD_ARGUMENTS, message=message), attempts=0)
        if tool.parameters.context is not None:
            arguments[tool.parameters.context] = context
        return await self._run_attempts(tool, arguments, timeout_s)

    async def close(self) -> None:
        """Release what the tools hold. No call may be running."""
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
                return ToolReturn(content=_cut(outcome, tool.max_result_chars), attempts=attempt)
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


def _cut(content: str, max_chars: int) -> str:
    if len(content) <= max_chars:
        return content
    marker = f"[cut: the first {max_chars:,} of {len(content):,} characters; ask for less to see the rest]"
    return f"{content[:max_chars]}\n{marker}"


def _bounded(message: str) -> str:
    return _clean(message if len(message) <= MAX_ERROR_CHARS else f"{message[:MAX_ERROR_CHARS]}… [cut]")


def _clean(text: str) -> str:
    """Lone surrogates, which no UTF-8 record can hold, become `?`."""
    return text.encode("utf-8", "replace").decode()
