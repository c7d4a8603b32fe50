"""What can be asked of a session besides an answer: cancel, approve, queue, end, broadcast; and the tools of users."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from chaos.cluster import Cluster, Worker
from chaos.promise import ENDS
from line import WAIT_S, Body, Line, release, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGENTS = """
[assistant]
instructions = "Help."
tools = ["calculator"]

[careful]
instructions = "Ask before you calculate."
tools = ["calculator"]
approval = ["calculator"]

[noter]
instructions = "Take notes."
tools = ["note", "look"]

[few_calls]
instructions = "Help."
tools = ["calculator"]
limits = {model_calls_per_turn = 2}

[few_tools]
instructions = "Help."
tools = ["calculator"]
limits = {tool_calls_per_turn = 1}

[few_tokens]
instructions = "Help."
tools = ["calculator"]
limits = {tokens_per_turn = 50}

[forgetful]
instructions = "Help."
limits = {transcript_bytes = 400}

[busy]
instructions = "Help."
limits = {queued_messages = 1}
"""
TOOLS = '''
"""Tools that say in a file what they did, and end when they are let."""

import asyncio
from pathlib import Path

from agents.tools import ToolContext, tool

HOME = Path(__file__).parent


async def work(name: str, text: str, context: ToolContext) -> str:
    with (HOME / f"{name}.done").open("a") as done:
        done.write(f"{context.call_id} {text}\\n")
    try:
        while "slow" in text and not (HOME / "go").exists():
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        (HOME / f"{name}.cancelled").write_text(context.call_id)
        raise
    return f"took {text}"


@tool
async def note(text: str, context: ToolContext) -> str:
    """Take a note; doing it twice would be wrong."""
    return await work("note", text, context)


@tool(idempotent=True)
async def look(text: str, context: ToolContext) -> str:
    """Look something up; doing it twice does no harm."""
    return await work("look", text, context)
'''
SLOW = "[[latency:60]]"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("commands")
    (home / "agents.toml").write_text(AGENTS)
    (home / "notes.py").write_text(TOOLS)
    return home


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(cluster: Cluster, home: Path) -> AsyncIterator[tuple[Line, Worker]]:
    settings = {"HEADRACE_AGENTS": str(home / "agents.toml"), "HEADRACE_TOOLS": str(home / "notes.py")}
    async with serving(cluster, "commands.", **settings) as served:
        yield served


@pytest.fixture
def line(served: tuple[Line, Worker]) -> Line:
    return served[0]


def types(events: list[Body]) -> list[str]:
    return [event["type"] for event in events]


def log_of(line: Line, session_id: str) -> list[Body]:
    return [fact for fact in line.bodies("session-log") if fact["session_id"] == session_id]


async def says(path: Path, text: str) -> None:
    """Wait until a tool's file is there and has this text."""

    def is_there() -> bool:
        return path.exists() and text in path.read_text()

    async with asyncio.timeout(WAIT_S):
        while not is_there():
            await asyncio.sleep(0.02)


async def calls_in_flight(cluster: Cluster, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while (await cluster.model_totals())["in_flight"] != count:
            await asyncio.sleep(0.02)


async def test_a_cancelled_call_ends_at_the_wire(cluster: Cluster, line: Line) -> None:
    """The provider sees the connection close, so that the rest of the answer is not paid for."""
    await calls_in_flight(cluster, 0)
    before = await cluster.model_totals()
    await line.say("cancel", f"Tell me a long story. {SLOW}", id="m")
    await calls_in_flight(cluster, 1)
    await line.command("cancel_turn", "cancel", reason="changed my mind", by="ann")
    cancelled = await line.end("cancel", "m")
    assert cancelled["type"] == "turn_cancelled"
    assert (cancelled["reason"], cancelled["by"]) == ("changed my mind", "ann")
    await calls_in_flight(cluster, 0)
    assert (await cluster.model_totals())["abandoned"] == before["abandoned"] + 1
    assert (await line.ask("cancel", "Good morning!"))["type"] == "turn_completed"


async def test_a_cancelled_tool_is_stopped(line: Line, home: Path) -> None:
    """A turn that waits for a tool ends at once, the tool is stopped, and the transcript stays one that models take."""
    await line.say("stop-tool", '[[tool:look {"text": "slow cancelled"}]]', id="m", agent="noter")
    await says(home / "look.done", "slow cancelled")
    await line.command("cancel_turn", "stop-tool", message_id="m")
    assert (await line.end("stop-tool", "m"))["type"] == "turn_cancelled"
    await says(home / "look.cancelled", "stop-tool/1/2")
    assert (await line.ask("stop-tool", "[[say:I am here]]"))["text"] == "I am here"


async def test_messages_during_a_turn_wait_in_line(cluster: Cluster, line: Line) -> None:
    """Each is answered in its own turn, in the order of arrival."""
    ids = [await line.say("queue", f"Number {n}. [[hold:queue]]", id=f"m{n}") for n in range(4)]
    await line.until(lambda: [fact for fact in log_of(line, "queue") if fact.get("message_id") == ids[-1]], "the last")
    await release(cluster, "queue")
    await line.end("queue", ids[-1])
    events = line.events("queue")
    assert [(event["type"], event["message_id"]) for event in events] == [
        (event_type, message_id) for message_id in ids for event_type in ("turn_started", "turn_completed")
    ]
    assert [event["seq"] for event in events] == list(range(1, 9))


async def test_a_waiting_message_is_cancelled(cluster: Cluster, line: Line) -> None:
    """It ends without having begun; the turn that runs goes on."""
    await line.say("unqueue", "First. [[hold:unqueue]]", id="m1")
    await line.say("unqueue", "Second.", id="m2")
    await line.say("unqueue", "Third.", id="m3")
    await line.command("cancel_turn", "unqueue", message_id="m2")
    await line.end("unqueue", "m2")
    await release(cluster, "unqueue")
    await line.end("unqueue", "m3")
    events = line.events("unqueue")
    ends = [(event["type"], event["message_id"]) for event in events if event["type"] in ENDS]
    assert ends == [("turn_cancelled", "m2"), ("turn_completed", "m1"), ("turn_completed", "m3")]
    assert [event["message_id"] for event in events if event["type"] == "turn_started"] == ["m1", "m3"]


async def test_a_message_sent_three_times_is_answered_once(cluster: Cluster, line: Line) -> None:
    """The same id in the same session, before, during and after the turn; another session may use the id as well."""
    before = (await cluster.model_totals())["started"]
    for _ in range(2):
        await line.say("twice", "Say it once. [[latency:0.3]]", id="same")
    await line.end("twice", "same")
    await line.say("twice", "Say it once. [[latency:0.3]]", id="same")
    await line.ask("twice", "And now?", id="other")
    await line.ask("elsewhere", "Mine.", id="same")
    assert [event["message_id"] for event in line.events("twice")] == ["same"] * 2 + ["other"] * 2
    assert (await cluster.model_totals())["started"] == before + 3


async def test_a_call_waits_for_approval(line: Line) -> None:
    """Nothing runs before somebody approves; who approves a second time is told that nothing waits."""
    await line.say("approve", "What is 17*23?", id="m", agent="careful")
    asked = await line.event("approve", "approval_requested")
    assert (asked["tool"], asked["input"]) == ("calculator", {"expression": "17*23"})
    await line.command("approval_decision", "approve", call_id=asked["call_id"], decision="approve")
    assert "391" in (await line.end("approve", "m"))["text"]
    assert types(line.events("approve")) == [
        "turn_started",
        "approval_requested",
        "approval_answered",
        "tool_called",
        "tool_returned",
        "turn_completed",
    ]
    await line.command("approval_decision", "approve", call_id=asked["call_id"], decision="approve")
    letter = await line.until(
        lambda: [body for body in line.bodies("dead-letters") if body["session_id"] == "approve"], "a dead letter"
    )
    assert letter[0]["cause"] == "nothing_to_approve"


async def test_one_call_is_approved_and_one_denied(line: Line) -> None:
    """Of two that wait together; the model is told of the denial and its reason, and answers."""
    calls = [f'[[tool:calculator {{"expression": "{expression}"}}]]' for expression in ("1+1", "20+20")]
    await line.say("deny", " ".join(calls), id="m", agent="careful")
    first = await line.event("deny", "approval_requested", input={"expression": "1+1"})
    second = await line.event("deny", "approval_requested", input={"expression": "20+20"})
    decisions = {first["call_id"]: "deny", second["call_id"]: "approve"}
    for call_id, decision in decisions.items():
        await line.command("approval_decision", "deny", call_id=call_id, decision=decision, reason="too easy", by="bob")
    completed = await line.end("deny", "m")
    denied = await line.event("deny", "tool_returned", call_id=first["call_id"])
    assert (denied["is_error"], denied["content"]) == (True, "the call was denied by bob: too easy")
    assert "too easy" in completed["text"]
    assert "20+20 = 40" in completed["text"]
    assert [event["call_id"] for event in line.events("deny") if event["type"] == "tool_called"] == [second["call_id"]]


async def test_a_session_that_was_ended(line: Line) -> None:
    """The running turn and the waiting message are cancelled, later messages fail, and an earlier one is no new one."""
    await line.ask("ended", "Good morning!", id="m0")
    await line.say("ended", f"A long story, please. {SLOW}", id="m1")
    await line.say("ended", "And another one.", id="m2")
    await line.command("end_session", "ended", reason="bye")
    await line.command("end_session", "ended")
    ends = [await line.end("ended", message) for message in ("m1", "m2")]
    assert [(end["type"], end["reason"]) for end in ends] == [("turn_cancelled", "bye")] * 2
    await line.say("ended", "Good morning!", id="m0")
    failed = await line.ask("ended", "Are you there?", id="m3")
    assert failed["error"]["code"] == "session_ended"
    assert "use another session_id" in failed["error"]["message"]
    seen = [(event["type"], event["message_id"]) for event in line.events("ended") if event["type"] in ENDS]
    assert [message for _, message in seen] == ["m0", "m1", "m2", "m3"]


async def test_a_broadcast_is_answered_by_each_agent(line: Line) -> None:
    """Two that are named, in a session each; the replies say which broadcast they belong to."""
    body = {"id": "b1", "text": "Roll call!", "audience": ["assistant", "careful"], "sender": "ann", "tenant": "acme"}
    for _ in range(2):
        await line.put("broadcasts", orjson.dumps(body | {"metadata": {"a": "b"}}))
    for agent in body["audience"]:
        session = f"acme:b1:{agent}"
        completed = await line.end(session, session)
        assert (completed["type"], completed["agent"]) == ("turn_completed", agent)
        started = await line.event(session, "turn_started")
        assert (started["user_id"], started["tenant"]) == ("ann", "acme")
        assert started["metadata"] == {"a": "b", "broadcast_id": "acme:b1"}


async def test_a_broadcast_to_all(line: Line) -> None:
    """Every agent of the catalog answers, also where the broadcast has no id."""
    place = await line.put("broadcasts", b'{"text": "Good morning!"}')
    agents = ("assistant", "careful", "noter", "few_calls", "few_tools", "few_tokens", "forgetful", "busy")
    ends = await asyncio.gather(*(line.end(f"{place}:{agent}", f"{place}:{agent}") for agent in agents))
    assert {end["agent"] for end in ends} == set(agents)


@pytest.mark.parametrize(
    ("agent", "text", "code"),
    [
        ("few_calls", "[[tool-loop:calculator]]", "limit_model_calls_per_turn"),
        (
            "few_tools",
            '[[tool:calculator {"expression": "1"}]] [[tool:calculator {"expression": "2"}]]',
            "limit_tool_calls_per_turn",
        ),
        ("few_tokens", "[[tool-loop:calculator]]", "limit_tokens_per_turn"),
        ("forgetful", "x" * 500, "limit_transcript_bytes"),
    ],
)
async def test_a_limit_of_the_agent(line: Line, agent: str, text: str, code: str) -> None:
    """A breach ends the turn and names the limit; the session is still there."""
    failed = await line.ask(f"limit-{agent}", text, agent=agent)
    assert failed["type"] == "turn_failed"
    assert failed["error"]["code"] == code
    assert "raise the agent's limit" in failed["error"]["message"]
    assert (await line.ask(f"limit-{agent}", "[[say:ok]]"))["text"] == "ok"


async def test_the_queue_has_a_limit(cluster: Cluster, line: Line) -> None:
    """The message that does not fit is turned away at once, and may be sent again later."""
    await line.say("full", "First. [[hold:full]]", id="m1", agent="busy")
    await line.say("full", "Second.", id="m2")
    failed = await line.ask("full", "Third.", id="m3")
    await release(cluster, "full")
    assert (failed["error"]["code"], failed["error"]["retryable"]) == ("limit_queued_messages", True)
    assert [(await line.end("full", message))["type"] for message in ("m1", "m2")] == ["turn_completed"] * 2


async def test_a_tool_that_asks_for_what_it_has_not(line: Line) -> None:
    """An unknown tool and a bad argument are told to the model, which answers all the same."""
    completed = await line.ask("wrong", '[[tool:teleport {"to": "mars"}]] [[tool:calculator {"sum": "1"}]]')
    assert completed["type"] == "turn_completed"
    returned = [event for event in line.events("wrong") if event["type"] == "tool_returned"]
    assert [event["is_error"] for event in returned] == [True, True]
    assert "expected one of the tools calculator, got `teleport`" in returned[0]["content"]
    assert "expression" in returned[1]["content"]


async def test_a_session_expires(cluster: Cluster) -> None:
    """After its retention it leaves the tables: the next message begins a new one."""
    async with serving(cluster, "expiry.", HEADRACE_SESSION_RETENTION_HOURS="0.0003") as (line, _):
        await line.ask("old", "My name is Ada.", id="m1")
        await line.until(
            lambda: [body for body in line.bodies("session-log") if body["type"] == "session_expired"], "an expiry"
        )
        await line.say("old", "What is my name?", id="m2")

        def answers() -> list[Body]:
            return [body for body in line.bodies("agent-events") if body.get("text") and body["message_id"] == "m2"]

        (answer,) = await line.until(answers, "an answer")
        assert "Ada" not in answer["text"]


async def test_a_tool_runs_at_most_once(served: tuple[Line, Worker], home: Path) -> None:
    """The worker is killed while two tools run: the idempotent one runs again, of the other the model is told."""
    line, worker = served
    await line.say("killed", '[[tool:note {"text": "slow n"}]] [[tool:look {"text": "slow l"}]]', id="m", agent="noter")
    await says(home / "note.done", "slow n")
    await says(home / "look.done", "slow l")
    await worker.kill()
    await worker.start()
    (home / "go").touch()
    completed = await line.end("killed", "m")
    assert completed["type"] == "turn_completed"
    assert (home / "note.done").read_text().count("killed/1/2 slow n\n") == 1
    assert (home / "look.done").read_text().count("killed/1/3 slow l\n") == 2
    returned = {event["tool"]: event for event in line.events("killed") if event["type"] == "tool_returned"}
    assert returned["note"]["is_error"] is True
    assert "it may have had its effect" in returned["note"]["content"]
    assert (returned["look"]["is_error"], returned["look"]["content"]) == (False, "took slow l")
    assert "it may have had its effect" in completed["text"]
    again = await line.ask("killed", '[[tool:note {"text": "quick"}]]')
    assert "returned took quick" in again["text"]
