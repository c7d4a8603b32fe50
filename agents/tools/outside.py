"""Tools that others run, as an operator declares them in TOML: `[mcp.SERVER]` and `[remote.TOOL]` tables."""

import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from agents.tools.declaration import DEFAULT_MAX_RESULT_CHARS, DEFAULT_TIMEOUT_S, MAX_RESULT_CHARS
from agents.tools.port import ToolDefinition
from schemas.ids import ToolName

MAX_REMOTE_TIMEOUT_S = 3_600.0
"""Orders behind one that waits are read again after a restart: an hour of them is enough."""
DEFAULT_REMOTE_TIMEOUT_S = 300.0

T = TypeVar("T", bound=Struct)
# Without `_`: what stands before the first one in a tool's name is its server.
ServerName = Annotated[str, msgspec.Meta(min_length=1, max_length=30, pattern=r"^[a-z][a-z0-9-]*(?!\n)$")]
Variable = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_]*(?!\n)$")]
Header = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9-]+(?!\n)$")]
Argument = Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
Description = Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
ResultChars = Annotated[int, msgspec.Meta(ge=1, le=MAX_RESULT_CHARS)]


class OutsideToolsError(ValueError):
    """The file cannot be read as it is; the message says where, what was expected and what came."""


class McpServerSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An MCP server: a `command` to start (stdio), or a `url` (streamable HTTP).

    `env` names the variables that a command gets besides `HOME`, `PATH` and the like; `headers` gives each header the
    name of the variable that has its value. `idempotent` names tools, as the server does, that may be called again.
    """

    command: Annotated[tuple[Argument, ...], msgspec.Meta(max_length=100)] = ()
    env: tuple[Variable, ...] = ()
    url: str | None = None
    headers: dict[Header, Variable] = {}
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = DEFAULT_TIMEOUT_S
    idempotent: tuple[str, ...] = ()
    max_result_chars: ResultChars = DEFAULT_MAX_RESULT_CHARS

    def __post_init__(self) -> None:
        if bool(self.command) == (self.url is not None):
            raise ValueError("expected either `command` or `url`, got both or none: say how the server is reached")
        if self.url is None and self.headers:
            raise ValueError("expected `headers` with a `url`, got them with a `command`: it gets variables in `env`")
        if self.url is not None:
            _check_url(self.url)
            if self.env:
                raise ValueError("expected `env` with a `command`, got it with a `url`: a server there gets `headers`")


class RemoteTool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool that a service runs which reads `tool-calls` and writes `tool-results`.

    `timeout_seconds` counts from the call's record; `idempotent`: a call that has no result may be made again.
    """

    name: ToolName
    description: Description
    input_schema: dict[str, Any]
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_REMOTE_TIMEOUT_S)] = DEFAULT_REMOTE_TIMEOUT_S
    idempotent: bool = False
    max_result_chars: ResultChars = DEFAULT_MAX_RESULT_CHARS

    def __post_init__(self) -> None:
        if self.input_schema.get("type") != "object":
            raise ValueError('expected an `input_schema` with `type = "object"`: the model gives arguments by name')

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(name=self.name, description=self.description, input_schema=self.input_schema)


class OutsideTools(Struct, frozen=True, kw_only=True):
    """All of a file, each by its name."""

    mcp: Mapping[str, McpServerSpec] = {}
    remote: Mapping[str, RemoteTool] = {}


def parse_outside_tools(text: str, source: str) -> OutsideTools:
    """Read the TOML of a file.

    Args:
        text: the TOML.
        source: where it is from, for the error.

    Raises:
        OutsideToolsError: it is not TOML, or a table is not what it should be.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OutsideToolsError(f"{source}: expected TOML: {error}") from None
    stray = sorted(set(tables) - {"mcp", "remote"})
    if stray:
        raise OutsideToolsError(f"{source}: expected tables [mcp.SERVER] and [remote.TOOL], got {stray}: rename them")
    return OutsideTools(
        mcp={name: _server(name, table, source) for name, table in _named(tables, "mcp", source).items()},
        remote={
            name: _convert({"name": name, **table}, RemoteTool, f"{source}, [remote.{name}]")
            for name, table in _named(tables, "remote", source).items()
        },
    )


def _named(tables: dict[str, Any], kind: str, source: str) -> dict[str, dict[str, Any]]:
    """The tables below `kind`."""
    named = tables.get(kind, {})
    if not isinstance(named, dict) or not all(isinstance(table, dict) for table in named.values()):
        raise OutsideToolsError(
            f"{source}: expected tables [{kind}.NAME], got a value: put it into a table with a name"
        )
    return named


def _server(name: str, table: dict[str, Any], source: str) -> McpServerSpec:
    where = f"{source}, [mcp.{name}]"
    try:
        msgspec.convert(name, ServerName)
    except msgspec.ValidationError:
        raise OutsideToolsError(
            f"{where}: expected a name of at most 30 lower case letters, digits and `-`, got `{name}`: rename it"
        ) from None
    return _convert(table, McpServerSpec, where)


def _convert(table: dict[str, Any], kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise OutsideToolsError(f"{where}: {error}. It has: {', '.join(kind.__struct_fields__)}") from None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a `url` that begins with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected a `url` without a user and password, which would be shown: give them in `headers`")
