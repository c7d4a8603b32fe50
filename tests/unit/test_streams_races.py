"""Races between a worker and its successor, or its own past, that the simulation meets too seldom."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from histories import History, catalog, use
from shell_fixture import Bench, ManualOutbox, NoCalls, settle
from simulation.worker import Tables

from agents.tools import Toolbox
from agents.tools.port import ToolContext, ToolOutcome, ToolReturn
from schemas.codec import decode_session_event, encode
from schemas.effects import CallTool
from schemas.failure import FailureCode
from schemas.log import ToolCompleted, ToolFailed
from streams.call_tool import CallTools
from streams.dead_letter import DeadLetters
from streams.decide import Decide
from streams.outcomes import Outcomes
from streams.record import Recorder
from streams.remote_calls import RemoteCalls
from streams.running import RunningCalls
from streams.session_log import SessionLog
from streams.sessions import Sessions


@dataclass(eq=False)
class HeldOutbox(ManualOutbox):
    """Back-pressure holds whoever appends, until the test opens it."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, *arguments: Any, **fields: Any) -> asyncio.Future[int]:
        await self.opened.wait()
        return await super().append(*arguments, **fields)


async def test_an_event_that_a_rebalance_overtook_is_not_decided() -> None:
    """Its partition may be another worker's by now, which must not be overwritten; here it is delivered again."""
    outbox = HeldOutbox()
    bench = Bench(outbox)
    tables = Tables()
    tables.data = {0: {}}
    sessions = Sessions(tables, max_sessions=10, max_bytes=1 << 30)
    recorder = Recorder(bench.shell, tables, sessions)
    decide = Decide(bench.shell, DeadLetters(bench.shell), catalog(), sessions, recorder, NoCalls())
    history = History()
    history.say("m1")
    taking = asyncio.create_task(decide.take(bench.delivery(0, encode(history.log[0][1]))))
    await settle()
    decide.acknowledger.reset()
    sessions.restart({}, {})
    outbox.opened.set()
    await taking
    assert await recorder.idle(0), "nothing is recorded"
    assert sessions.load(0, "s1") is None, "nothing is remembered"
    assert sessions.partitions() == (), "nothing that waits for this offset may go on"


class Settled(NoCalls):
    """Notes the calls that need not be known any more."""

    def __init__(self) -> None:
        self.call_ids: list[str] = []

    def settle(self, call_id: str) -> None:
        self.call_ids.append(call_id)


async def test_an_outcome_that_comes_too_late_is_settled_too() -> None:
    """Its worker knows the call until then; a session that uses the name again has a call of the same id."""
    bench = Bench()
    tables = Tables()
    tables.data = {0: {}}
    sessions = Sessions(tables, max_sessions=10, max_bytes=1 << 30)
    calls = Settled()
    recorder = Recorder(bench.shell, tables, sessions)
    decide = Decide(bench.shell, DeadLetters(bench.shell), catalog(), sessions, recorder, calls)
    history = History()
    history.say("m1")
    call_id = history.model_call()
    history.model_says("42")
    said, answer = (encode(event) for _, event, _ in history.log)
    for offset, value in enumerate((said, answer, answer)):
        await decide.take(bench.delivery(offset, value))
        await settle()
    assert calls.call_ids == [call_id, call_id]


class Pay(Toolbox):
    """One tool that is not idempotent."""

    def __init__(self) -> None:
        super().__init__([])
        self.runs = 0

    def is_idempotent(self, name: str) -> bool:
        del name
        return False

    async def run(self, name: str, input: dict[str, Any], *, context: ToolContext, timeout_s: float) -> ToolOutcome:
        del name, input, context, timeout_s
        self.runs += 1
        return ToolReturn(content="paid", attempts=1)


async def claimed(*, by_another_first: bool, stops: bool = False) -> tuple[Pay, ToolCompleted | ToolFailed]:
    """The tool, and the outcome, of a call whose claim is in the log: behind another's, or alone.

    `stops`: the worker is told to stop when its claim is in the log, and not decided yet.
    """
    bench = Bench()
    tables = Tables()
    tables.data = {0: {}}
    sessions = Sessions(tables, max_sessions=10, max_bytes=1 << 30)
    history = History()
    history.say("m1")
    (order,) = history.model_says(use("add", "u1")).effects
    assert isinstance(order, CallTool)
    sessions.change(0, "s1", history.session)
    sessions.advance(0, order.log_offset)
    pay = Pay()
    session_log = SessionLog(
        bench.shell,
        Decide(
            bench.shell,
            DeadLetters(bench.shell),
            catalog(),
            sessions,
            Recorder(bench.shell, tables, sessions),
            NoCalls(),
        ),
    )
    running = RunningCalls(10, bench.failures.append)
    outcomes = Outcomes(session_log)
    remote = RemoteCalls(bench.shell, outcomes, sessions, RunningCalls(10, bench.failures.append))
    tools = CallTools(bench.shell, outcomes, sessions, running, pay, remote)
    await tools.take(bench.delivery(0, encode(order), topic="tool-calls"))
    await settle()
    if by_another_first:
        history.tool_starts(order.call_id)
    claim = history.offset
    history.tool_starts(order.call_id)
    bench.outbox.appended[0].durable.set_result(claim)
    if stops:
        await settle()
        sessions.give_up()
    sessions.change(0, "s1", history.session)
    sessions.advance(0, claim)
    await settle()
    outcome = decode_session_event(bench.outbox.appended[1].value or b"")
    ids = [dict(record.headers)["ce_id"] for record in bench.outbox.appended]
    assert ids == [
        f"{order.call_id}/started".encode(),
        order.call_id.encode(),
    ]  # Readers may drop an id they have seen.
    bench.outbox.appended[1].durable.set_result(claim + 1)
    await settle()
    assert isinstance(outcome, ToolCompleted | ToolFailed)
    assert bench.failures == []
    return pay, outcome


async def test_the_first_claim_may_run_the_tool() -> None:
    """A worker that finds its own claim first in the log is the only one that runs it."""
    pay, outcome = await claimed(by_another_first=False)
    assert (pay.runs, type(outcome)) == (1, ToolCompleted)


async def test_a_worker_that_stops_runs_what_it_has_claimed() -> None:
    """It did not, and the model was told that nobody knows whether the tool has run."""
    pay, outcome = await claimed(by_another_first=False, stops=True)
    assert (pay.runs, type(outcome)) == (1, ToolCompleted)


async def test_a_later_claim_may_not() -> None:
    """Whoever came first may have run it: the model is told that nobody knows."""
    pay, outcome = await claimed(by_another_first=True)
    assert pay.runs == 0
    assert isinstance(outcome, ToolFailed)
    assert outcome.failure.code == FailureCode.OUTCOME_UNKNOWN
