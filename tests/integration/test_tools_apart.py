"""Computations in processes of their own: nothing that a text says can keep a worker busy, or learn what it knows."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agents.tools import Toolbox, ToolContext, ToolFault, ToolReturn
from agents.tools.apart import Apart, Bounds
from agents.tools.csv_query import csv_query_tool
from agents.tools.json_query import json_query_tool
from agents.tools.port import ToolError
from agents.tools.text_diff import text_diff_tool

CONTEXT = ToolContext(call_id="s1/1/2", session_id="s1", agent="assistant")
SMALL = Bounds(cpu_s=1, memory_bytes=256 << 20, seconds=60)
ENDLESS = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT max(x) FROM r"


@pytest.mark.parametrize(
    ("name", "input", "answer"),
    [
        ("json_query", {"data": '{"a": [1, 2]}', "expression": "a[-1]"}, "2"),
        ("csv_query", {"csv": "a;b\n1;2\n", "sql": "SELECT a + b AS c FROM data"}, "c\n3\n"),
        ("text_diff", {"before": "a", "after": "b"}, "--- before\n+++ after\n@@ -1 +1 @@\n-a\n+b"),
    ],
)
async def test_the_tools_answer(name: str, input: dict[str, Any], answer: str) -> None:
    """From the model's arguments to the result."""
    apart = Apart()
    toolbox = Toolbox(make(apart) for make in (json_query_tool, csv_query_tool, text_diff_tool))

    assert await toolbox.run(name, input, context=CONTEXT, timeout_s=60) == ToolReturn(content=answer, attempts=1)


async def test_a_refusal_is_for_the_model() -> None:
    """It is no failure of the tool, and not tried again."""
    outcome = await Toolbox([json_query_tool(Apart())]).run(
        "json_query", {"data": "{", "expression": "a"}, context=CONTEXT, timeout_s=60
    )

    assert isinstance(outcome, ToolFault)
    assert outcome.attempts == 1
    assert outcome.failure.message.startswith("expected `data` to be JSON")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("csv_query", {"text": "a\n1\n", "sql": ENDLESS}),
        (
            "csv_query",
            {
                "text": "a\n1\n",
                "sql": "WITH RECURSIVE r(x) AS (SELECT zeroblob(900000) UNION ALL SELECT x FROM r) "
                "SELECT * FROM r ORDER BY 1",
            },
        ),
        ("json_query", {"data": "[1]", "expression": "|".join([*["[@,@]"] * 60, "length(to_string(@))"])}),
        ("json_query", {"data": "[" * 100_000, "expression": "a"}),
        ("json_query", {"data": "[1]", "expression": "(" * 1_900}),
        (
            "text_diff",
            {
                "before": "".join(f"{n % 150}\n" for n in range(50_000)),
                "after": "".join(f"{n * 31 % 151}\n" for n in range(50_000)),
                "context_lines": 1,
            },
        ),
        ("page_text", {"html": f"{'<div>' * 200}some words{'</div>' * 200}" * 450, "url": "https://example.com/"}),
    ],
)
async def test_what_does_not_end_is_ended(name: str, arguments: dict[str, Any]) -> None:
    """Whatever it uses up, time, memory or depth, the model learns that it asked for too much."""
    with pytest.raises(ToolError) as caught:
        await Apart(bounds=SMALL).run(name, **arguments)

    assert (
        "did not finish within 1 s of computing" in caught.value.message or "needs more memory" in caught.value.message
    )


async def test_the_loop_goes_on_meanwhile() -> None:
    """A computation takes a processor, not the worker."""
    computing = asyncio.create_task(Apart(bounds=SMALL).run("csv_query", text="a\n1\n", sql=ENDLESS))
    turns = 0
    while not computing.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert isinstance(computing.exception(), ToolError)

    assert turns > 10


async def test_a_call_that_is_cancelled_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes on computing for nobody."""
    started: list[asyncio.subprocess.Process] = []
    start = Apart._start

    async def noted(self: Apart, name: str) -> asyncio.subprocess.Process:
        started.append(await start(self, name))
        return started[-1]

    monkeypatch.setattr(Apart, "_start", noted)
    call = asyncio.create_task(Apart().run("csv_query", text="a\n1\n", sql=ENDLESS))
    while not started:
        await asyncio.sleep(0.01)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert started[0].returncode == -9


async def test_no_more_processes_than_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls of a thousand sessions wait for each other, rather than share out the memory."""
    at_once: list[int] = []
    running = 0
    answer = Apart._answer

    async def counted(self: Apart, name: str, payload: bytes) -> Any:
        nonlocal running
        running += 1
        at_once.append(running)
        try:
            return await answer(self, name, payload)
        finally:
            running -= 1

    monkeypatch.setattr(Apart, "_answer", counted)
    apart = Apart(processes=1)
    await asyncio.gather(*(apart.run("text_diff", before="a", after="b", context_lines=1) for _ in range(3)))

    assert at_once == [1, 1, 1]


async def test_a_bug_is_told_to_the_operator_and_not_swallowed() -> None:
    """Its traceback is the message of the error that the worker logs."""
    with pytest.raises(RuntimeError, match="TypeError"):
        await Apart().run("text_diff", before="a", after="b", context_lines="many")


async def test_the_process_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is its own, and it can write no file."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "not-for-children")
    process = await Apart()._start("text_diff")
    try:
        seen = await asyncio.to_thread(Path(f"/proc/{process.pid}/environ").read_bytes)
    finally:
        process.kill()
        await process.wait()

    assert b"PYTHONPATH=" in seen
    assert b"not-for-children" not in seen
