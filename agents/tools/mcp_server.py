"""An MCP server's tools as ours: under names that begin with its own, with failures that the model can act on."""

from collections.abc import Mapping
from typing import Any, cast

import structlog
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CONNECTION_CLOSED, RequestParamsMeta
from mcp.types import Tool as ServersTool

from agents.tools.declaration import DEFAULT_ATTEMPTS, Tool
from agents.tools.mcp_connection import McpConnection
from agents.tools.mcp_content import text_of_result, tool_name
from agents.tools.outside import McpServerSpec
from agents.tools.parameters import Parameters
from agents.tools.port import ToolContext, ToolDefinition, ToolError

log = structlog.get_logger(__name__)
SESSION_GONE = "Session terminated"
"""The library's words for an HTTP server that knows the session no more, as after its restart."""


class McpServer:
    """A `ToolServer`. Its tools stay when it is lost: their calls wait a little for it, then fail."""

    def __init__(self, name: str, spec: McpServerSpec, environment: Mapping[str, str]) -> None:
        """Read what the server is given.

        Raises:
            OutsideToolsError: a variable of `spec` is not in `environment`.
        """
        self._name = name
        self._spec = spec
        self._tools: dict[str, Tool] = {}
        self._revision = 0
        self._connection = McpConnection(name, spec, environment, self._take_tools)

    @property
    def name(self) -> str:
        return self._name

    @property
    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    @property
    def revision(self) -> int:
        return self._revision

    async def open(self) -> None:
        await self._connection.open()

    async def close(self) -> None:
        await self._connection.close()

    def _take_tools(self, found: list[ServersTool]) -> None:
        ours: dict[str, Tool] = {}
        for theirs in found:
            name = tool_name(self._name, theirs.name)
            if name is None or name in ours:
                hint = "its name is too long, or stands for another one too: it is left out"
                log.warning("mcp_tool_left_out", server=self._name, tool=theirs.name[:200], hint=hint)
            else:
                ours[name] = self._tool(name, theirs)
        self._tools = ours
        self._revision += 1
        log.info("mcp_server_connected", server=self._name, tools=sorted(ours))

    def _tool(self, name: str, theirs: ServersTool) -> Tool:
        idempotent = theirs.name in self._spec.idempotent

        async def call(input: dict[str, Any], context: ToolContext) -> str:
            return await self._call(theirs.name, input, context, again=idempotent)

        schema = {**theirs.input_schema, "type": "object"}
        return Tool(
            definition=ToolDefinition(name=name, description=theirs.description or theirs.name, input_schema=schema),
            parameters=Parameters(model=None, schema=schema, context="context"),
            function=call,
            timeout_s=self._spec.timeout_seconds,
            attempts=DEFAULT_ATTEMPTS if idempotent else 1,
            idempotent=idempotent,
            max_result_chars=self._spec.max_result_chars,
        )

    async def _call(self, name: str, input: dict[str, Any], context: ToolContext, *, again: bool) -> str:
        """The result as text.

        Raises:
            ToolError: the tool says that it failed, or the server cannot be reached, or answers with no result.
        """
        client = await self._connection.client()
        if client is None:
            raise ToolError(
                f"the server `{self._name}` of this tool cannot be reached now ({self._connection.error}): "
                "go on without it, or try again later",
                retryable=True,
            )
        try:
            # An open map, as its declaration says in words that the type checker does not know yet.
            meta = cast("RequestParamsMeta", {"headrace/call_id": context.call_id})
            result = await client.call_tool(name, input, meta=meta)
        except Exception as error:  # noqa: BLE001 - whatever another's server makes the library raise is data
            raise self._failed(client, error, again=again) from None
        text = text_of_result(result)
        if result.is_error:
            raise ToolError(text or "the tool failed, and did not say why")
        return text

    def _failed(self, client: Client, error: Exception, *, again: bool) -> ToolError:
        said = self._connection.say(error)
        if isinstance(error, MCPError) and error.code != CONNECTION_CLOSED and error.message != SESSION_GONE:
            return ToolError(f"the server `{self._name}` did not take the call: {said}")
        self._connection.lose(client)
        effect = "" if again else " The call may have taken effect or not: check before calling it again."
        return ToolError(f"the server `{self._name}` was lost during the call ({said}).{effect}", retryable=again)
