"""MCP servers, over stdio and HTTP: their tools are ours, and whatever a server does is a result of that call only."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from agents.tools import ToolContext, ToolFault, ToolOutcome, ToolReturn
from agents.tools.mcp_server import McpServer
from agents.tools.outside import McpServerSpec
from agents.tools.toolbox import Toolbox
from headrace.stack.ports import free_port
from schemas.failure import FailureCode

STAND = str(Path(__file__).parents[1] / "mcp_stand.py")
STDIO = (sys.executable, STAND, "stdio")
CONTEXT = ToolContext(call_id="s1/1/2", session_id="s1", agent="assistant")
SECRET = "Bearer only-for-this-test"
KINDS = ("stdio", "http")


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """What was logged."""
    with structlog.testing.capture_logs() as entries:
        yield entries


async def call(toolbox: Toolbox, tool: str, timeout_s: float = 30, **input: Any) -> ToolOutcome:
    return await toolbox.run(f"stand_{tool}", input, context=CONTEXT, timeout_s=timeout_s)


async def text(toolbox: Toolbox, tool: str, **input: Any) -> str:
    outcome = await call(toolbox, tool, **input)
    assert isinstance(outcome, ToolReturn), outcome
    return outcome.content


async def again(toolbox: Toolbox, tool: str) -> str:
    """The result, once the server is there again."""
    async with asyncio.timeout(60):
        while not isinstance(outcome := await call(toolbox, tool), ToolReturn):
            await asyncio.sleep(0.05)
    return outcome.content


async def fault(toolbox: Toolbox, tool: str, timeout_s: float = 30, **input: Any) -> ToolFault:
    outcome = await call(toolbox, tool, timeout_s, **input)
    assert isinstance(outcome, ToolFault), outcome
    return outcome


async def reached(toolbox: Toolbox) -> None:
    """A busy machine takes longer to start a process than a worker waits for it."""
    async with asyncio.timeout(60):
        while not toolbox.tools:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def opened(
    spec: McpServerSpec, environment: Mapping[str, str] | None = None, *, is_reached: bool = True
) -> AsyncIterator[Toolbox]:
    toolbox = Toolbox([], servers=[McpServer("stand", spec, environment or {})])
    await toolbox.open()
    try:
        if is_reached:
            await reached(toolbox)
        yield toolbox
    finally:
        await toolbox.close()


@asynccontextmanager
async def http_server(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, STAND, "http", str(port), stderr=-3)
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def served(kind: str, **fields: Any) -> AsyncIterator[Toolbox]:
    """The stand over this transport."""
    if kind == "stdio":
        async with opened(McpServerSpec(command=STDIO, **fields)) as toolbox:
            yield toolbox
        return
    port = free_port()
    spec = McpServerSpec(url=f"http://127.0.0.1:{port}/mcp", headers={"Authorization": "STAND_TOKEN"}, **fields)
    async with http_server(port), opened(spec, {"STAND_TOKEN": SECRET}) as toolbox:
        yield toolbox


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_s_tools_are_offered_under_its_name_and_called(kind: str) -> None:
    """With the server's own schema; names that a model may not use are made such; results are text."""
    async with served(kind) as toolbox:
        (add,) = toolbox.definitions(["stand_add"])
        assert (add.description, add.input_schema["required"]) == ("Adds two numbers.", ["left", "right"])
        assert await text(toolbox, "add", left=2, right=3) == "5"
        assert await text(toolbox, "odd_name_1") == "odd"
        shown = await text(toolbox, "picture")
        assert shown == "a pixel:\n[image, image/png, 100 bytes: it cannot be shown here]"
        sums = await asyncio.gather(*(text(toolbox, "add", left=n, right=1) for n in range(50)))
        assert sums == [str(n + 1) for n in range(50)]


@pytest.mark.parametrize("kind", KINDS)
async def test_failures_are_results_that_the_model_can_act_on(kind: str) -> None:
    """The tool's own words, wrong arguments, a tool that does not exist, too long a result."""
    async with served(kind, max_result_chars=100) as toolbox:
        failed = await fault(toolbox, "fail")
        assert failed.failure.code == FailureCode.TOOL_ERROR
        assert "the shelf is empty" in failed.failure.message
        wrong = await fault(toolbox, "add", left="two", right=3)
        assert "left" in wrong.failure.message
        unknown = await fault(toolbox, "subtract")
        assert unknown.failure.code == FailureCode.UNKNOWN_TOOL
        cut = await text(toolbox, "long", chars=5_000)
        assert cut.startswith("x" * 100 + "\n[cut: the first 100 of 5,000 characters")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slow_call_times_out_and_holds_up_no_other(kind: str) -> None:
    """Of the same server or another tool; the connection stays."""
    async with served(kind, timeout_seconds=4.0) as toolbox:
        slow = asyncio.create_task(fault(toolbox, "wait", seconds=300))
        assert await text(toolbox, "add", left=2, right=3) == "5"
        assert not slow.done()
        timed_out = await slow
        assert timed_out.failure.code == FailureCode.TOOL_TIMEOUT
        assert await text(toolbox, "add", left=2, right=3) == "5"


async def test_a_process_that_dies_is_started_again(told: list[Any]) -> None:
    """The call during which it died has an unknown effect; the next one is answered by its successor."""
    async with opened(McpServerSpec(command=STDIO)) as toolbox:
        first = await text(toolbox, "process")
        died = await fault(toolbox, "die")
        assert "was lost during the call" in died.failure.message
        assert "may have taken effect" in died.failure.message
        assert not died.failure.retryable
        second = await again(toolbox, "process")
        assert first != second
        os.kill(int(second), signal.SIGKILL)
        third = await again(toolbox, "process")
        assert third not in (first, second)
    assert [entry["event"] for entry in told].count("mcp_server_connected") == 3


async def test_an_idempotent_tool_is_called_again_when_its_server_dies(tmp_path: Path) -> None:
    """The model does not even learn of it, as long as attempts are left."""
    async with opened(McpServerSpec(command=STDIO, idempotent=("wait",))) as toolbox:
        pid = int(await text(toolbox, "process"))
        begun = tmp_path / "begun"
        waiting = asyncio.create_task(call(toolbox, "wait", seconds=1, begun=str(begun)))
        while not begun.exists():
            await asyncio.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        outcome = await waiting
        assert isinstance(outcome, ToolReturn), outcome
        assert outcome.content == "waited"
        assert outcome.attempts > 1


async def test_an_http_server_that_restarts_is_reached_again(told: list[Any]) -> None:
    """While it is gone, calls fail with its name; its tools stay offered."""
    port = free_port()
    spec = McpServerSpec(url=f"http://127.0.0.1:{port}/mcp", idempotent=("add",))
    async with http_server(port) as process:
        toolbox = Toolbox([], servers=[McpServer("stand", spec, {})])
        await toolbox.open()
        await reached(toolbox)
        assert await text(toolbox, "add", left=2, right=3) == "5"
        process.kill()
        await process.wait()
        gone = await fault(toolbox, "who")
        assert "`stand`" in gone.failure.message
        assert [known.name for known in toolbox.definitions(["stand_add"])] == ["stand_add"]
    async with http_server(port):
        async with asyncio.timeout(60):
            while not isinstance(await call(toolbox, "add", left=2, right=3), ToolReturn):
                await asyncio.sleep(0.2)
        await toolbox.close()
    assert "mcp_server_unreachable" in [entry["event"] for entry in told]


async def test_a_server_that_talks_nonsense_in_between_is_understood() -> None:
    """As one whose library prints to its standard output."""
    async with opened(McpServerSpec(command=(*STDIO, "malformed"))) as toolbox:
        assert await text(toolbox, "add", left=2, right=3) == "5"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("/nowhere/to/be/found",), "FileNotFoundError"),
        ((sys.executable, "-c", "raise SystemExit(1)"), "MCPError: Connection closed"),
        ((sys.executable, "-c", "print('no JSON')"), "MCPError: Connection closed"),
    ],
    ids=["no such program", "one that ends", "one that is no MCP server"],
)
async def test_a_server_that_cannot_be_reached_keeps_nobody_waiting(
    command: tuple[str, ...], says: str, told: list[Any]
) -> None:
    """The operator learns its name and why; its tools are not offered, and a call of one fails."""
    async with asyncio.timeout(30), opened(McpServerSpec(command=command), is_reached=False) as toolbox:
        assert toolbox.definitions(["stand_add"]) == []
        failed = await fault(toolbox, "add", left=2, right=3)
        assert (failed.failure.retryable, failed.attempts) == (True, 0)
    entry = next(entry for entry in told if entry["event"] == "mcp_server_unreachable")
    assert entry["server"] == "stand"
    assert says in entry["error"]


DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


async def test_a_server_that_never_answers_holds_a_start_up_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch, told: list[Any], tmp_path: Path
) -> None:
    """The worker starts without it; at the end its process is gone, though it ignores what it is told."""
    monkeypatch.setattr("agents.tools.mcp_connection.OPEN_TIMEOUT_S", 0.5)
    begun = tmp_path / "pid"
    spec = McpServerSpec(command=(sys.executable, "-c", DEAF, str(begun)))
    async with opened(spec, is_reached=False), asyncio.timeout(30):
        while not begun.exists() or not begun.read_text():
            await asyncio.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)
    assert [entry["event"] for entry in told] == ["mcp_server_slow"]


async def test_a_process_gets_the_variables_that_are_named_and_no_others() -> None:
    """Keys of this worker are none of the server's business; at the end it is gone."""
    environment = {"STAND_TOKEN": "given-away", "ANTHROPIC_API_KEY": "kept"}
    async with opened(McpServerSpec(command=STDIO, env=("STAND_TOKEN",)), environment) as toolbox:
        assert await text(toolbox, "given", name="STAND_TOKEN") == "given-away"
        assert await text(toolbox, "given", name="ANTHROPIC_API_KEY") == "not given"
        pid = int(await text(toolbox, "process"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_server_learns_the_call_and_its_headers_which_no_log_or_error_shows(told: list[Any]) -> None:
    """The id of the call lets it drop one that is repeated."""
    async with served("http") as toolbox:
        assert await text(toolbox, "who") == f"s1/1/2 {SECRET}"
    port = free_port()
    spec = McpServerSpec(url=f"http://127.0.0.1:{port}/mcp?key={SECRET[7:]}", headers={"Authorization": "STAND_TOKEN"})
    async with opened(spec, {"STAND_TOKEN": SECRET}, is_reached=False) as toolbox:
        failed = await fault(toolbox, "who")
    assert "mcp_server_unreachable" in [entry["event"] for entry in told]
    assert SECRET[7:] not in repr((told, failed))
