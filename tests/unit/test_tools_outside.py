"""Tools that others run: how they are declared, and how a toolbox offers those of a server that comes and goes."""

from collections.abc import Mapping
from typing import Any

import pytest
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from agents.tools import Tool, Toolbox, ToolContext, ToolFault, ToolReturn, tool
from agents.tools.mcp_content import text_of_result, tool_name
from agents.tools.mcp_server import McpServer
from agents.tools.outside import McpServerSpec, OutsideToolsError, RemoteTool, parse_outside_tools
from agents.tools.parameters import Parameters
from agents.tools.port import ToolDefinition
from schemas.failure import FailureCode

CONTEXT = ToolContext(call_id="s1/1/2", session_id="s1", agent="assistant")
WHOLE = """
[mcp.time]
command = ["mcp-server-time", "--local-timezone", "Europe/Berlin"]
env = ["TZ"]
idempotent = ["get_current_time"]

[mcp.tickets]
url = "https://tickets.example/mcp"
headers = { Authorization = "TICKETS_AUTHORIZATION" }
timeout_seconds = 5

[remote.render-pdf]
description = "Renders a page as PDF."
timeout_seconds = 3600
idempotent = true
input_schema = { type = "object", properties = { url = { type = "string" } }, required = ["url"] }
"""


def test_a_file_declares_servers_and_remote_tools() -> None:
    """Everything that was said, and a default for the rest."""
    outside = parse_outside_tools(WHOLE, "outside.toml")
    assert list(outside.mcp) == ["time", "tickets"]
    assert outside.mcp["time"].idempotent == ("get_current_time",)
    assert outside.mcp["tickets"].headers == {"Authorization": "TICKETS_AUTHORIZATION"}
    assert (outside.mcp["time"].timeout_seconds, outside.mcp["tickets"].timeout_seconds) == (30, 5)
    remote = outside.remote["render-pdf"]
    assert (remote.name, remote.timeout_seconds, remote.idempotent) == ("render-pdf", 3600, True)
    assert remote.definition.input_schema["required"] == ["url"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[mcp", "expected TOML"),
        ("[assistant]\nmodel = 'm'", "got ['assistant']"),
        ("mcp = 1", "expected tables [mcp.NAME]"),
        ("[mcp]\ntime = 'uvx'", "expected tables [mcp.NAME]"),
        ("[mcp.time]", "[mcp.time]: expected either `command` or `url`"),
        ("[mcp.time]\ncommand = ['a']\nurl = 'http://a'", "either `command` or `url`"),
        ("[mcp.my_time]\ncommand = ['a']", "got `my_time`"),
        ("[mcp.time]\ncommand = 'uvx'", "$.command"),
        ("[mcp.time]\ncommand = ['a']\nheaders = { A = 'B' }", "expected `headers` with a `url`"),
        ("[mcp.time]\nurl = 'http://a'\nenv = ['B']", "expected `env` with a `command`"),
        ("[mcp.time]\nurl = 'ftp://a'", "http:// or https://"),
        ("[mcp.time]\nurl = 'https://me:pass@a/'", "without a user and password"),
        ("[mcp.time]\ncommand = ['a']\ntimeout = 3", "timeout_seconds"),
        ("[mcp.time]\ncommand = ['a']\ntimeout_seconds = 0", "$.timeout_seconds"),
        ("[remote.pay]", "[remote.pay]"),
        ("[remote.pay]\ndescription = 'Pays.'\ninput_schema = { type = 'array' }", '`type = "object"`'),
        (
            "[remote.pay]\ndescription = 'Pays.'\ninput_schema = { type = 'object' }\ntimeout_seconds = 3601",
            "$.timeout_seconds",
        ),
        ("[remote.'to pay']\ndescription = 'Pays.'\ninput_schema = { type = 'object' }", "$.name"),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(text: str, says: str) -> None:
    """The operator sees which table, what was expected, and what came."""
    with pytest.raises(OutsideToolsError) as refused:
        parse_outside_tools(text, "outside.toml")
    assert str(refused.value).startswith("outside.toml")
    assert says in str(refused.value)


def test_a_variable_that_is_not_set_is_refused_by_its_name() -> None:
    """At the start, and not at the first call."""
    with pytest.raises(OutsideToolsError, match=r"\[mcp.time\].*variable KEY"):
        McpServer("time", McpServerSpec(command=("a",), env=("KEY",)), {"OTHER": "x"})


# What servers say


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("now", "time_now"), ("a.b/c", "time_a_b_c"), ("x" * 59, "time_" + "x" * 59), ("x" * 60, None), ("", None)],
)
def test_names_are_such_as_a_model_may_use(theirs: str, ours: str | None) -> None:
    """At most 64 letters, digits, `_` and `-`."""
    assert tool_name("time", theirs) == ours


def test_what_is_not_text_is_named_in_the_text() -> None:
    """The model knows that it is there; its bytes are not in the session's log."""
    result = CallToolResult(
        content=[
            TextContent(text="one"),
            ImageContent(data="AAAA", mime_type="image/png"),
            AudioContent(data="AAAA", mime_type="audio/wav"),
            ResourceLink(name="guide", uri="file:///guide.md", description="How to"),
            EmbeddedResource(resource=TextResourceContents(uri="file:///a.txt", text="two")),
            EmbeddedResource(resource=BlobResourceContents(uri="file:///a.bin", blob="AAAA")),
        ]
    )
    assert text_of_result(result).split("\n") == [
        "one",
        "[image, image/png, 3 bytes: it cannot be shown here]",
        "[audio, audio/wav, 3 bytes: it cannot be shown here]",
        "[resource `guide` at file:///guide.md: How to]",
        "[resource at file:///a.txt]",
        "two",
        "[resource at file:///a.bin, unknown type, 3 bytes: it cannot be shown here]",
    ]
    assert text_of_result(CallToolResult(content=[], structured_content={"sum": 5})) == '{"sum":5}'
    assert text_of_result(CallToolResult(content=[])) == ""


# A server in a toolbox


class Server:
    """Is reached when the test says so."""

    name = "time"

    def __init__(self) -> None:
        self.tools: Mapping[str, Tool] = {}
        self.revision = 0
        self.given: list[dict[str, Any]] = []

    def reach(self) -> None:
        async def now(input: dict[str, Any], context: ToolContext) -> str:
            self.given.append(input)
            return f"12:00 for {context.call_id}"

        schema = {"type": "object", "properties": {"self": {}, "context": {}}}
        self.tools = {
            "time_now": Tool(
                definition=ToolDefinition(name="time_now", description="The time.", input_schema=schema),
                parameters=Parameters(model=None, schema=schema, context="context"),
                function=now,
                timeout_s=5,
                attempts=1,
                idempotent=False,
                max_result_chars=100,
            )
        }
        self.revision += 1

    async def open(self) -> None: ...

    async def close(self) -> None: ...


@tool(idempotent=True)
async def add() -> str:
    """Adds."""
    return "3"


async def test_a_server_s_tools_are_offered_once_it_is_reached() -> None:
    """Until then an agent that names one goes without it, and a call of one is a failure for now."""
    server = Server()
    toolbox = Toolbox([add], servers=[server])
    assert [known.name for known in toolbox.definitions(["time_now", "add"])] == ["add"]
    away = await toolbox.run("time_now", {}, context=CONTEXT, timeout_s=5)
    assert isinstance(away, ToolFault)
    assert (away.failure.code, away.failure.retryable, away.attempts) == (FailureCode.TOOL_ERROR, True, 0)
    assert "`time`" in away.failure.message
    assert not toolbox.is_idempotent("time_now"), "it may be reached between the question and the call"
    before = toolbox.revision
    server.reach()
    assert toolbox.revision != before
    assert [known.name for known in toolbox.definitions(["time_now", "time_old", "add"])] == ["time_now", "add"]
    old = await toolbox.run("time_old", {}, context=CONTEXT, timeout_s=5)
    assert isinstance(old, ToolFault)
    assert old.failure.code == FailureCode.UNKNOWN_TOOL


async def test_the_input_of_a_server_s_tool_is_the_server_s_to_check() -> None:
    """It is handed over whole, whatever its arguments are called."""
    server = Server()
    server.reach()
    toolbox = Toolbox([], servers=[server])
    given = {"self": 1, "context": 2, "input": 3}
    outcome = await toolbox.run("time_now", given, context=CONTEXT, timeout_s=5)
    assert outcome == ToolReturn(content="12:00 for s1/1/2", attempts=1)
    assert server.given == [given]


def test_a_remote_tool_is_offered_and_not_run_here() -> None:
    """Its definition is what the operator declared."""
    pay = RemoteTool(name="pay", description="Pays.", input_schema={"type": "object"})
    toolbox = Toolbox([add], remote=[pay])
    assert toolbox.definitions(["pay"]) == [
        ToolDefinition(name="pay", description="Pays.", input_schema={"type": "object"})
    ]
    assert toolbox.remote("pay") is pay
    assert toolbox.remote("add") is None


@pytest.mark.parametrize("name", ["add", "time_add"])
def test_a_name_is_one_tool_s(name: str) -> None:
    """Whoever runs it; and what begins with a server's name is that server's."""
    other = RemoteTool(name=name, description="Adds.", input_schema={"type": "object"})
    with pytest.raises(ValueError, match=f"`{name}`"):
        Toolbox([add], remote=[other], servers=[Server()])


def test_a_tool_of_nobody_is_refused() -> None:
    """A server that is not declared cannot have it."""
    with pytest.raises(ValueError, match="clock_now"):
        Toolbox([add], servers=[Server()]).definitions(["clock_now"])
