"""`@tool`: an async function becomes a tool, described by its signature and docstring."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, overload

import msgspec
from msgspec import Struct

from agents.tools.docstring import parse_docstring
from agents.tools.parameters import Parameters, parameters_of
from agents.tools.port import ToolDeclarationError, ToolDefinition, ToolError
from schemas.ids import ToolName

DEFAULT_TIMEOUT_S = 30.0
"""Of one attempt: longer than a slow HTTP API takes, short enough that a person still waits for the answer."""
DEFAULT_ATTEMPTS = 3
"""Of an idempotent tool: outlives a short hiccup. Any other tool is run once."""
DEFAULT_MAX_RESULT_CHARS = 50_000
"""About 12,000 tokens, which the model reads again in every later step of the session."""
MAX_RESULT_CHARS = 500_000
"""At most 6 bytes each in JSON: 3 MB, which fits a record of the session log (4 MiB)."""

Function = Callable[..., Awaitable[Any]]


class Tool(Struct, frozen=True, kw_only=True, eq=False):
    """A function that a model can call. Calling it as a function still works, without checks, timeout or retries."""

    definition: ToolDefinition
    parameters: Parameters
    function: Function
    timeout_s: float
    attempts: int
    idempotent: bool
    max_result_chars: int
    on_close: Callable[[], None] | None = None
    missing: str | None = None
    """What the operator must set before an agent may name this tool; such a tool answers every call with it."""

    @property
    def name(self) -> str:
        return self.definition.name

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return self.function(*args, **kwargs)


@overload
def tool(function: Function, /) -> Tool: ...


@overload
def tool(
    *,
    name: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    attempts: int | None = None,
    idempotent: bool = False,
    max_result_chars: int = DEFAULT_MAX_RESULT_CHARS,
    on_close: Callable[[], None] | None = None,
) -> Callable[[Function], Tool]: ...


def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    attempts: int | None = None,
    idempotent: bool = False,
    max_result_chars: int = DEFAULT_MAX_RESULT_CHARS,
    on_close: Callable[[], None] | None = None,
) -> Tool | Callable[[Function], Tool]:
    """Make a tool of an async function, as `@tool` or `@tool(timeout_s=5, idempotent=True)`.

    The model reads the docstring; `Args:` describes the arguments, whose types are the type hints. A parameter of type
    `ToolContext` gets the context of the call, and the model does not see it.

    Args:
        function: what the tool runs.
        name: what the model calls it, where it is not the function's name.
        timeout_s: of one attempt, in seconds. The caller bounds all attempts together.
        attempts: how often an idempotent tool is tried, where not 3; after any error but a final `ToolError`.
        idempotent: running it twice does no harm. Any other tool is run at most once, even if its outcome is lost.
        max_result_chars: a longer result is cut, with a marker that says so.
        on_close: called when the worker ends, to release what the tool holds.

    Raises:
        ToolDeclarationError: the function cannot be a tool; the message says what to change.
    """

    def declare(function: Function) -> Tool:
        return _declare(
            function,
            name or str(getattr(function, "__name__", function)),
            timeout_s=timeout_s,
            attempts=attempts if attempts is not None else DEFAULT_ATTEMPTS if idempotent else 1,
            idempotent=idempotent,
            max_result_chars=max_result_chars,
            on_close=on_close,
        )

    return declare if function is None else declare(function)


def unconfigured(tool: Tool, missing: str) -> Tool:
    """The tool without what it needs: its definition can be read, and a call says what is missing."""

    async def refuse(**_: Any) -> str:
        raise ToolError(f"`{tool.name}` is not configured here: tell the user that the operator must set {missing}")

    return msgspec.structs.replace(tool, function=refuse, missing=missing)


def _declare(
    function: Function,
    name: str,
    *,
    timeout_s: float,
    attempts: int,
    idempotent: bool,
    max_result_chars: int,
    on_close: Callable[[], None] | None,
) -> Tool:
    if not inspect.iscoroutinefunction(function) or not inspect.isroutine(function):
        raise ToolDeclarationError(
            f"tool `{name}`: expected an `async def` function, got {function!r}: a function that blocks would stop "
            "every session of the worker. Make it async, and call blocking code through `await asyncio.to_thread(…)`"
        )
    _check_options(name, timeout_s, attempts, max_result_chars, idempotent=idempotent)
    docstring = parse_docstring(function.__doc__ or "")
    if not docstring.description:
        raise ToolDeclarationError(
            f"tool `{name}`: expected a docstring: the model reads it to decide when to call the tool. "
            "Say what the tool does, and describe each argument under `Args:`"
        )
    parameters = parameters_of(function, name, docstring.arguments)
    return Tool(
        definition=ToolDefinition(name=name, description=docstring.description, input_schema=parameters.schema),
        parameters=parameters,
        function=function,
        timeout_s=timeout_s,
        attempts=attempts,
        idempotent=idempotent,
        max_result_chars=max_result_chars,
        on_close=on_close,
    )


def _check_options(name: str, timeout_s: float, attempts: int, max_result_chars: int, *, idempotent: bool) -> None:
    try:
        msgspec.convert(name, ToolName)
    except msgspec.ValidationError as error:
        raise ToolDeclarationError(
            f"tool `{name}`: expected a name of 1 to 64 letters, digits, `_` and `-`: set `@tool(name=…)`"
        ) from error
    if not timeout_s > 0:
        raise ToolDeclarationError(f"tool `{name}`: expected `timeout_s` above 0, got {timeout_s}")
    if attempts < 1:
        raise ToolDeclarationError(f"tool `{name}`: expected `attempts` of at least 1, got {attempts}")
    if attempts > 1 and not idempotent:
        raise ToolDeclarationError(
            f"tool `{name}`: got `attempts={attempts}` for a tool that is not idempotent, which is run once: "
            "set `idempotent=True` if running it twice does no harm, else leave `attempts` out"
        )
    if not 1 <= max_result_chars <= MAX_RESULT_CHARS:
        raise ToolDeclarationError(
            f"tool `{name}`: expected `max_result_chars` of 1 to {MAX_RESULT_CHARS:,}, got {max_result_chars:,}"
        )
