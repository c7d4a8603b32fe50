"""Remote tools: services outside run them, die, come back and say nonsense; a call has one outcome, in time."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from chaos.cluster import Cluster, Worker
from line import Body, Line, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLES = Path(__file__).parents[2] / "examples"
PREFIX = "remote."
TOOLS = """
[remote.roll_dice]
description = "Rolls dice."
timeout_seconds = 60
input_schema = { type = "object", properties = { count = { type = "integer" } } }

[remote.ask_oracle]
description = "Nobody serves it but the test."
timeout_seconds = 60
input_schema = { type = "object" }

[remote.ask_nobody]
description = "Is never answered."
timeout_seconds = 2
input_schema = { type = "object" }
"""
AGENT = """
[assistant]
instructions = "Play."
model = "claude-haiku-5-5"
tools = ["roll_dice", "ask_oracle", "ask_nobody", "calculator"]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pipeline(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Line, Worker]]:
    home = tmp_path_factory.mktemp("remote")
    (home / "outside.toml").write_text(TOOLS)
    (home / "agents.toml").write_text(AGENT)
    files = {"HEADRACE_OUTSIDE_TOOLS": str(home / "outside.toml"), "HEADRACE_AGENTS": str(home / "agents.toml")}
    async with serving(cluster, PREFIX, **files) as (line, worker):
        yield line, worker


@asynccontextmanager
async def dice(cluster: Cluster, memory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The example's service, in a process of its own that imports nothing of ours."""
    arguments = ("--brokers", cluster.kafka.bootstrap, "--prefix", PREFIX, "--memory", str(memory))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(EXAMPLES / "remote_tool.py"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        cwd=memory.parent,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        reading = asyncio.create_task(process.stdout.read())
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


def ask(tool: str, **given: Any) -> str:
    return f"[[tool:{tool} {orjson.dumps(given).decode()}]]"


async def result(line: Line, call: Body, **fields: Any) -> str:
    """Write a result as a service does; its place."""
    body = {"session_id": call["session_id"], "call_id": call["call_id"], **fields}
    return await line.put("tool-results", orjson.dumps(body), key=call["session_id"].encode())


def returned(line: Line, session_id: str) -> list[tuple[str, bool]]:
    events = line.events(session_id)
    return [(event["content"], event["is_error"]) for event in events if event["type"] == "tool_returned"]


async def test_a_service_in_another_process_answers_calls(
    cluster: Cluster, pipeline: tuple[Line, Worker], tmp_path: Path
) -> None:
    """Several at once, beside a local tool; wrong arguments are the service's to refuse, and do not end it."""
    line, _ = pipeline
    async with dice(cluster, tmp_path / "rolls.sqlite") as process:
        asked = ask("roll_dice", count=3) + ask("roll_dice", count="many") + ask("calculator", expression="6 * 7")
        end = await line.ask("dice", asked)
        assert process.returncode is None
    assert end["type"] == "turn_completed"
    found = returned(line, "dice")
    (rolled,) = [content for content, _ in found if content.startswith("[")]
    assert len(orjson.loads(rolled)) == 3
    assert sorted(set(found) - {(rolled, False)}) == [("42", False), ("expected `count` of 1 to 100, got 'many'", True)]


async def test_a_service_that_is_killed_amid_its_calls_answers_each_once(
    cluster: Cluster, pipeline: tuple[Line, Worker], tmp_path: Path
) -> None:
    """What it has rolled it does not roll again: the model reads what it remembers."""
    line, _ = pipeline
    memory = tmp_path / "rolls.sqlite"
    sessions = [f"killed-{number}" for number in range(20)]
    asked = ask("roll_dice", count=5)
    async with dice(cluster, memory) as process:
        messages = [await line.say(session, asked) for session in sessions]
        await line.until(lambda: len(line.records["tool-results"]) > 3, "some results")
        process.kill()
        await process.wait()
    async with dice(cluster, memory):
        ends = await asyncio.gather(*(line.end(*turn) for turn in zip(sessions, messages, strict=True)))
    assert {end["type"] for end in ends} == {"turn_completed"}
    database = sqlite3.connect(memory)
    rolled = {call: orjson.loads(answer)["content"] for call, answer in database.execute("SELECT * FROM answers")}
    database.close()
    assert {f"{session}/1/2": returned(line, session)[0][0] for session in sessions} == {
        f"{session}/1/2": rolled[f"{session}/1/2"] for session in sessions
    }
    assert [len(returned(line, session)) for session in sessions] == [1] * 20


async def test_a_result_counts_once_and_another_comes_too_late(pipeline: tuple[Line, Worker]) -> None:
    """The same one again is no fault; a different one is a dead letter, and nobody reads it."""
    line, _ = pipeline
    message = await line.say("twice", ask("ask_oracle"))
    call = await line.event("twice", "tool_called")
    for _ in range(2):
        await result(line, call, content="yes")
    end = await line.end("twice", message)
    again = await result(line, call, content="yes")
    other = await result(line, call, content="no")
    letter = await line.letter(other)
    assert (end["type"], returned(line, "twice")) == ("turn_completed", [("yes", False)])
    assert (letter["cause"], letter["processor"], letter["session_id"]) == (
        "nothing_to_answer",
        "accept_results",
        "twice",
    )
    assert again not in [letter["id"] for letter in line.bodies("dead-letters")]


async def test_nonsense_is_a_dead_letter_and_the_call_waits_on(pipeline: tuple[Line, Worker]) -> None:
    """Its sender learns why; what it says next is taken."""
    line, _ = pipeline
    message = await line.say("nonsense", ask("ask_oracle"))
    call = await line.event("nonsense", "tool_called")
    stray = {"session_id": "nonsense", "call_id": call["call_id"], "content": "42"}
    bad = [
        (await line.put("tool-results", b"{", key=b"nonsense"), "not_json"),
        (await result(line, call, content={"answer": 42}), "not_valid"),
        (await result(line, call), "not_valid"),
        (await result(line, {**call, "call_id": "nonsense/1/1"}, content="42"), "nothing_to_answer"),
        (await line.put("tool-results", orjson.dumps(stray), key=b"other"), "wrong_key"),
    ]
    for place, cause in bad:
        assert (await line.letter(place))["cause"] == cause
    assert returned(line, "nonsense") == []
    await result(line, call, error={"message": "the oracle sleeps", "retryable": True})
    assert (await line.end("nonsense", message))["type"] == "turn_completed"
    assert returned(line, "nonsense") == [("the oracle sleeps", True)]


async def test_a_call_that_nobody_answers_times_out(pipeline: tuple[Line, Worker]) -> None:
    """The model goes on without it; a result that comes then is late."""
    line, _ = pipeline
    end = await line.ask("nobody", ask("ask_nobody"))
    assert end["type"] == "turn_completed"
    ((content, is_error),) = returned(line, "nobody")
    assert is_error
    assert "gave no result within 2 s. It may have taken effect or not" in content
    call = await line.event("nobody", "tool_called")
    late = await result(line, call, content="too late")
    assert (await line.letter(late))["cause"] == "nothing_to_answer"


async def test_calls_wait_through_the_death_of_their_worker(pipeline: tuple[Line, Worker]) -> None:
    """A result that comes meanwhile is read afterwards; a time that runs out meanwhile is over."""
    line, worker = pipeline
    asked, unheard = await line.say("waits", ask("ask_oracle")), await line.say("unheard", ask("ask_nobody"))
    call = await line.event("waits", "tool_called")
    await line.event("unheard", "tool_called")
    await worker.kill()
    await result(line, call, content="still here")
    await asyncio.sleep(2)
    await worker.start()
    assert (await line.end("waits", asked))["type"] == "turn_completed"
    assert (await line.end("unheard", unheard))["type"] == "turn_completed"
    assert returned(line, "waits") == [("still here", False)]
    assert [is_error for _, is_error in returned(line, "unheard")] == [True]
