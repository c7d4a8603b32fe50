"""Results of remote tools: which are taken, which are refused, and what ends a call whose result does not come."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from histories import History, agent, catalog, use
from msgspec.structs import replace
from shell_fixture import NOW, Bench, settle
from simulation.worker import Tables

from agents.tools.outside import RemoteTool
from agents.tools.toolbox import Toolbox
from schemas.codec import decode_session_event, encode
from schemas.dead_letter import Cause
from schemas.effects import CallTool
from schemas.failure import FailureCode
from schemas.log import SessionEvent, ToolCompleted, ToolFailed
from schemas.topics import SESSION_LOG
from streams.accept_results import AcceptResults
from streams.acknowledge import Acknowledger
from streams.call_tool import CallTools
from streams.dead_letter import DeadLetters
from streams.outcomes import Outcomes
from streams.ports import Delivery
from streams.remote_calls import RemoteCalls
from streams.running import RunningCalls
from streams.session_log import SessionLog
from streams.sessions import Sessions

ADD = RemoteTool(
    name="add",
    description="Adds.",
    input_schema={"type": "object"},
    timeout_seconds=60,
    max_result_chars=20,
)


class Silent:
    """What reads the session log here: nothing is expected of it."""

    is_full = False

    async def take(self, delivery: Delivery) -> None:
        del delivery


class Stand:
    """A session whose model asked for `add` twice, and what takes the results."""

    def __init__(self, *, tool: RemoteTool = ADD) -> None:
        self.bench = Bench()
        tables = Tables()
        tables.data = {0: {}}
        self.sessions = Sessions(tables, max_sessions=10, max_bytes=1 << 30)
        self.history = History(catalog(agent()))
        self.history.say("m1")
        effects = self.history.model_says(use("add", "u1"), use("add", "u2")).effects
        self.orders = [order for order in effects if isinstance(order, CallTool)]
        self.session_log = SessionLog(self.bench.shell, Silent())
        self.tool = tool
        toolbox = Toolbox([], remote=[tool])
        self.accept = AcceptResults(
            self.bench.shell, DeadLetters(self.bench.shell), self.session_log, self.sessions, toolbox
        )
        self.running = RunningCalls(10, self.bench.failures.append)
        self.remote = RemoteCalls(self.bench.shell, Outcomes(self.session_log), self.sessions, self.running)

    def know(self) -> None:
        """The worker has decided all of the history."""
        self.sessions.change(0, "s1", self.history.session)
        self.sessions.advance(0, self.history.offset)

    async def result(self, value: bytes | dict[str, Any], **delivery: Any) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        await self.accept.take(self.bench.delivery(7, body, topic="tool-results", **delivery))

    def logged(self) -> list[SessionEvent]:
        return [decode_session_event(record.value or b"") for record in self.bench.outbox.to(SESSION_LOG.name)]

    def body(self, order: int = 0, **fields: Any) -> dict[str, Any]:
        return {"session_id": "s1", "call_id": self.orders[order].call_id, **fields}


BAD: dict[str, tuple[bytes, Cause, str]] = {
    "nothing": (b"", Cause.NOT_JSON, "got nothing"),
    "not JSON": (b"42", Cause.NOT_VALID, "Expected `object`"),
    "cut off": (b'{"session_id": "s1", "call', Cause.NOT_JSON, "truncated"),
    "half a character": (b'{"session_id": "s1", "call_id": "c", "content": "\\ud800"}', Cause.NOT_JSON, ""),
    "nested without end": (b'{"x":' + b"[" * 200_000, Cause.NOT_JSON, "recursion"),
    "no session": (b'{"call_id": "s1/1/2", "content": "42"}', Cause.NOT_VALID, "session_id"),
    "no call": (b'{"session_id": "s1", "content": "42"}', Cause.NOT_VALID, "call_id"),
    "neither": (b'{"session_id": "s1", "call_id": "s1/1/2"}', Cause.NOT_VALID, "either `content` or `error`"),
    "both": (
        b'{"session_id": "s1", "call_id": "s1/1/2", "content": "42", "error": {"message": "no"}}',
        Cause.NOT_VALID,
        "either `content` or `error`",
    ),
    "content is an object": (
        b'{"session_id": "s1", "call_id": "s1/1/2", "content": {"sum": 42}}',
        Cause.NOT_VALID,
        "$.content",
    ),
    "error is text": (b'{"session_id": "s1", "call_id": "s1/1/2", "error": "no"}', Cause.NOT_VALID, "$.error"),
    "empty error": (
        b'{"session_id": "s1", "call_id": "s1/1/2", "error": {"message": ""}}',
        Cause.NOT_VALID,
        "$.error.message",
    ),
    "call with spaces": (b'{"session_id": "s1", "call_id": "s1 1", "content": ""}', Cause.NOT_VALID, "$.call_id"),
    "another type": (
        b'{"type": "tool_completed", "session_id": "s1", "call_id": "s1/1/2", "content": ""}',
        Cause.NOT_VALID,
        "$.type",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_no_result_is_a_dead_letter_that_says_why(case: str) -> None:
    """Its sender learns what was expected; the partition goes on when the letter is durable."""
    value, cause, says = BAD[case]
    stand = Stand()
    stand.know()
    await stand.result(value)
    (letter,) = stand.bench.outbox.letters()
    assert (letter.processor, letter.cause) == ("accept_results", cause)
    assert says in letter.error
    assert (stand.bench.acknowledged, stand.logged()) == ([], [])
    stand.bench.outbox.appended[0].durable.set_result(0)
    await settle()
    assert (stand.bench.acknowledged, stand.bench.failures) == ([7], [])


async def test_a_result_with_the_key_of_another_session_is_refused() -> None:
    """It would be read next to that session, and its own would not have it in its order."""
    stand = Stand()
    await stand.result(stand.body(content="42"), key=b"s2")
    (letter,) = stand.bench.outbox.letters()
    assert (letter.cause, letter.session_id) == (Cause.WRONG_KEY, "s1")


@pytest.mark.parametrize("key", [None, b"s1"])
async def test_a_result_is_an_outcome_in_the_log(key: bytes | None) -> None:
    """With the id of its call, as local outcomes have; it is acknowledged when it is there, and the model goes on."""
    stand = Stand()
    stand.know()
    await stand.result(stand.body(content="42"), key=key)
    (record,) = stand.bench.outbox.to(SESSION_LOG.name)
    (event,) = stand.logged()
    assert event == ToolCompleted(session_id="s1", call_id=stand.orders[0].call_id, content="42", at=NOW)
    headers = dict(record.headers)
    assert (headers["ce_id"], headers["ce_source"]) == (event.call_id.encode(), b"/headrace/accept_results")
    assert stand.bench.acknowledged == []
    record.durable.set_result(9)
    await settle()
    assert stand.bench.acknowledged == [7]
    stand.history.feed(event)
    assert stand.history.pending() == [stand.orders[1].call_id]


async def test_an_error_is_a_result_that_the_model_reads() -> None:
    """The service's own words, and whether the same call can succeed later."""
    stand = Stand()
    stand.know()
    await stand.result(stand.body(error={"message": "the printer is out of paper", "retryable": True}))
    (event,) = stand.logged()
    assert isinstance(event, ToolFailed)
    failure = event.failure
    assert (failure.code, failure.message, failure.retryable) == (
        FailureCode.TOOL_ERROR,
        "the printer is out of paper",
        True,
    )


async def test_a_long_result_is_cut_at_the_tools_limit() -> None:
    """As that of a local tool: the model is told how much is missing."""
    stand = Stand()
    stand.know()
    await stand.result(stand.body(content="x" * 100))
    (event,) = stand.logged()
    assert isinstance(event, ToolCompleted)
    assert event.content.startswith("x" * 20 + "\n[cut: the first 20 of 100 characters")


async def test_a_repeated_result_is_taken_once_and_a_late_one_is_a_dead_letter() -> None:
    """A service that was restarted says again what it said, which is no fault; another result comes too late."""
    stand = Stand()
    stand.history.tool_returns(stand.orders[0].call_id, "42")
    stand.know()
    await stand.result(stand.body(content="42"))
    assert (stand.bench.acknowledged, stand.bench.outbox.appended) == ([7], [])
    await stand.result(stand.body(content="43"))
    (letter,) = stand.bench.outbox.letters()
    assert (letter.cause, letter.session_id) == (Cause.NOTHING_TO_ANSWER, "s1")
    assert stand.orders[0].call_id in letter.error


@pytest.mark.parametrize(
    ("session_id", "call_id"),
    [("s1", "s1/1/1"), ("s1", "s1/7/1"), ("s1", "s2/1/2"), ("s1", "s1/1/02"), ("s1", "x"), ("s2", "s2/1/2")],
    ids=["a model call", "a later turn", "another session's", "a number with a zero", "no call", "no such session"],
)
async def test_a_result_of_a_call_that_never_was_is_refused(session_id: str, call_id: str) -> None:
    """Its ids were not copied from a call; a model call that is over is none that waits."""
    stand = Stand()
    stand.know()
    await stand.result({"session_id": session_id, "call_id": call_id, "content": "42"})
    assert [letter.cause for letter in stand.bench.outbox.letters()] == [Cause.NOTHING_TO_ANSWER]


async def test_a_result_is_never_refused_where_this_worker_may_know_too_little() -> None:
    """After a start, until the log is read to its end; and a service may be faster than the worker that ordered."""
    fresh = Stand()
    await fresh.result(fresh.body(content="42"))
    assert len(fresh.logged()) == 1, "the partition is not this worker's"
    behind = Stand()
    behind.sessions.restart({0: 0}, {0: 9})
    await behind.result(behind.body(content="42"))
    assert len(behind.logged()) == 1, "the session is not decided yet"
    ordering = Stand()
    ordering.know()
    await ordering.result({"session_id": "s1", "call_id": "s1/1/9", "content": "42"})
    assert (len(ordering.logged()), ordering.bench.outbox.letters()) == (1, []), "the order is on its way"


# Waiting


def started(stand: Stand, *, waited: timedelta = timedelta(0)) -> None:
    """The order is delivered, when its record has been there for a while."""
    delivery = stand.bench.delivery(0, encode(stand.orders[0]), topic="tool-calls")
    early = Delivery(
        delivery.topic, 0, 0, delivery.key, delivery.value, delivery.headers, NOW - waited, ack=delivery.ack
    )
    ticket = Acknowledger().take(early)
    stand.remote.start(stand.orders[0], ticket, stand.tool)
    assert ticket.delivery.value is None, "thousands may wait: what they ask for is not kept"


async def test_an_order_stays_open_until_its_result_is_decided() -> None:
    """Nothing is run and nothing claimed; a worker that dies meanwhile reads the order again."""
    stand = Stand()
    stand.know()
    started(stand)
    await settle()
    assert (len(stand.running), stand.bench.acknowledged, stand.bench.outbox.appended) == (1, [], [])
    stand.running.settle(stand.orders[0].call_id)
    await settle()
    assert (len(stand.running), stand.bench.acknowledged, stand.bench.outbox.appended) == (0, [0], [])
    assert stand.bench.failures == []


async def test_a_worker_does_not_run_what_a_service_runs() -> None:
    """Whatever tool the order names: `tool-calls` is open to more writers than the session's log."""
    stand = Stand()
    stand.know()
    bench = stand.bench
    running, toolbox = RunningCalls(10, bench.failures.append), Toolbox([], remote=[stand.tool])
    tools = CallTools(bench.shell, Outcomes(stand.session_log), stand.sessions, running, toolbox, stand.remote)
    forged = replace(stand.orders[0], tool="other")
    await tools.take(bench.delivery(0, encode(forged), topic="tool-calls"))
    await settle()
    assert (bench.acknowledged, bench.outbox.appended, bench.failures) == ([0], [], [])


async def test_an_order_that_the_session_did_not_give_waits_for_nothing() -> None:
    """It names another tool, or a call that waits for approval: when that is given, the order is another one."""
    stand = Stand()
    stand.know()
    other = RemoteTool(name="other", description="Other.", input_schema={"type": "object"})
    stand.remote.start(stand.orders[0], Acknowledger().take(stand.bench.delivery(0, topic="tool-calls")), other)
    await settle()
    assert (len(stand.running), stand.running.remembered, stand.bench.acknowledged) == (0, 0, [0])
    send = RemoteTool(name="send", description="Sends.", input_schema={"type": "object"})
    stand = Stand(tool=send)
    stand.history = History(catalog(agent()))
    stand.history.say("m1")
    stand.history.model_says(use("send", "u1"))
    stand.know()
    assert stand.history.session is not None
    assert stand.history.session.head.turn is not None
    (waits,) = stand.history.session.head.turn.pending
    forged = replace(stand.orders[0], call_id=waits.call_id, tool="send")
    stand.remote.start(forged, Acknowledger().take(stand.bench.delivery(0, topic="tool-calls")), send)
    await settle()
    assert (len(stand.running), stand.running.remembered, stand.bench.acknowledged) == (0, 0, [0])


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_result_that_does_not_come_is_a_timeout_by_the_time_of_the_order(*, idempotent: bool) -> None:
    """A restart does not prolong it; the model learns whether it may simply ask again."""
    tool = RemoteTool(
        name="add", description="Adds.", input_schema={"type": "object"}, timeout_seconds=60, idempotent=idempotent
    )
    stand = Stand(tool=tool)
    stand.know()
    started(stand, waited=timedelta(seconds=60))
    await settle()
    (event,) = stand.logged()
    assert isinstance(event, ToolFailed)
    assert (event.failure.code, event.failure.retryable, event.duration_ms) == (
        FailureCode.TOOL_TIMEOUT,
        idempotent,
        60_000,
    )
    assert "within 60 s" in event.failure.message
    assert ("check before" in event.failure.message) is not idempotent
    stand.bench.outbox.appended[0].durable.set_result(9)
    await settle()
    assert stand.bench.acknowledged == [0]


async def test_the_turn_s_own_limit_ends_a_wait_as_well() -> None:
    """A tool may have an hour, but not more than its turn."""
    stand = Stand()
    stand.know()
    limit = timedelta(milliseconds=stand.orders[0].timeout_ms)
    tool = RemoteTool(name="add", description="Adds.", input_schema={"type": "object"}, timeout_seconds=3_600)
    stand.tool = tool
    started(stand, waited=limit)
    await settle()
    assert [type(event) for event in stand.logged()] == [ToolFailed]


async def test_a_call_that_nobody_waits_for_is_not_waited_for() -> None:
    """An order that is read again after its outcome is done at once."""
    stand = Stand()
    stand.history.tool_returns(stand.orders[0].call_id, "42")
    stand.know()
    started(stand)
    await settle()
    assert (stand.bench.acknowledged, stand.bench.outbox.appended) == ([0], [])


async def test_waiting_calls_end_with_the_worker_without_an_outcome() -> None:
    """The next owner of the partition waits on."""
    stand = Stand()
    stand.know()
    started(stand)
    await settle()
    assert not await stand.running.idle(0)
    await stand.running.stop()
    await asyncio.sleep(0)
    assert (stand.bench.acknowledged, stand.bench.outbox.appended, stand.bench.failures) == ([], [], [])


def test_what_is_done_behind_a_call_that_waits_keeps_no_record() -> None:
    """An hour of calls may be done before the first of them: their offsets are all that is needed of them."""
    bench = Bench()
    acknowledger = Acknowledger()
    first, second = (acknowledger.take(bench.delivery(offset, b"x" * 1_000)) for offset in range(2))
    second.done()
    assert (second.delivery.value, bench.acknowledged) == (None, [])
    first.done()
    assert bench.acknowledged == [0, 1]
