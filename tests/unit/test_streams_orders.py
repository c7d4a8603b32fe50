"""Orders that the core did not give, or not so: they are buried or passed over, and hold nobody up."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from histories import NOW, History, agent, catalog, use
from msgspec.structs import replace
from shell_fixture import Bench, ManualOutbox, settle
from simulation.worker import Tables

from agents.models.port import DeltaSink, ModelOutcome
from agents.prompt import Prompt
from agents.session import CallKind
from agents.spec import AgentSpec
from agents.tools import Toolbox
from agents.tools.port import ToolContext, ToolOutcome, ToolReturn
from schemas.codec import encode
from schemas.content import ToolUseBlock
from schemas.dead_letter import Cause
from schemas.effects import CallModel, CallTool, Effect
from schemas.topics import LLM_REQUESTS, SESSION_LOG, TOOL_CALLS
from streams.pipeline import Capacity, Pipeline
from streams.ports import Processor, Shell

FAR = 10**12


class Tools(Toolbox):
    """Notes what is run."""

    def __init__(self) -> None:
        super().__init__([])
        self.runs: list[tuple[str, dict[str, Any]]] = []
        self.callers: list[str] = []

    def definitions(self, names: object) -> list[Any]:
        del names
        return []

    async def run(self, name: str, input: dict[str, Any], *, context: ToolContext, timeout_s: float) -> ToolOutcome:
        del timeout_s
        self.runs.append((name, input))
        self.callers.append(context.agent)
        return ToolReturn(content="3", attempts=1)


@dataclass(eq=False)
class Model:
    """Never answers, and notes what it is asked."""

    calls: list[str] = field(default_factory=list)

    async def complete(self, prompt: Prompt, *, call_id: str, timeout_s: float, on_delta: DeltaSink) -> ModelOutcome:
        del prompt, timeout_s, on_delta
        self.calls.append(call_id)
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        """Nothing is open."""


class Desk:
    """A worker that has decided a history, up to its end, and asks how far the log goes."""

    def __init__(self, history: History) -> None:
        self.bench = Bench(ManualOutbox(is_quick=True))
        self.model, self.tools = Model(), Tools()
        self.end = history.offset
        self.asked = 0
        tables = Tables()
        tables.data = {0: history.stored}
        shell = Shell(self.bench.outbox, lambda: NOW, self.bench.failures.append, log_end=self._log_end)
        self._pipeline = Pipeline(shell, tables, catalog(), self.model, self.tools, Capacity())
        self._pipeline.resume({0: history.offset - 1})
        self._offset = -1

    async def give(self, order: Effect) -> None:
        """The next record of the topic of such orders."""
        topic = LLM_REQUESTS if isinstance(order, CallModel) else TOOL_CALLS
        self._offset += 1
        await self._processor(topic.name).take(self.bench.delivery(self._offset, encode(order), topic=topic.name))
        await settle()

    def _processor(self, topic: str) -> Processor:
        return next(processor for node, processor in self._pipeline.processors().items() if node.reads.name == topic)

    async def _log_end(self, partition: int) -> int:
        assert partition == 0
        self.asked += 1
        await asyncio.sleep(0)
        return self.end


def ordered(history: History) -> Effect:
    return history.steps[-1].effects[0]


async def test_an_order_beyond_the_log_is_buried_and_the_next_is_performed() -> None:
    """It has the id of a call that is awaited: whoever forged it cannot hold up the true order either."""
    history = History()
    history.say("m1")
    true = ordered(history)
    desk = Desk(history)
    await desk.give(replace(true, log_offset=FAR))
    await desk.give(true)
    (letter,) = desk.bench.outbox.letters()
    assert (letter.cause, letter.session_id, letter.processor) == (Cause.NOT_IN_LOG, "s1", "call_model")
    assert desk.bench.acknowledged == [0], "the other one is performed yet"
    assert (desk.model.calls, desk.bench.failures) == (["s1/1/1"], [])


async def test_the_broker_is_asked_only_where_the_worker_cannot_know() -> None:
    """What `decide` has handled is in the log; of what comes after that only the broker can tell."""
    history = History()
    history.say("m1")
    desk = Desk(history)
    await desk.give(ordered(history))
    assert desk.asked == 0
    desk.end += 10
    await desk.give(replace(ordered(history), call_id="s1/2/1", log_offset=desk.end - 1))
    assert (desk.asked, desk.bench.outbox.letters()) == (1, []), "it waits until the log has been read so far"
    await desk.give(replace(ordered(history), call_id="s1/3/1", log_offset=desk.end))
    assert [letter.cause for letter in desk.bench.outbox.letters()] == [Cause.NOT_IN_LOG]


async def test_a_rebalance_while_the_broker_is_asked() -> None:
    """The order is delivered again, here or elsewhere; this worker leaves it alone."""
    history = History()
    history.say("m1")
    desk = Desk(history)
    desk.end += 10
    giving = asyncio.create_task(desk.give(replace(ordered(history), log_offset=desk.end - 1)))
    await asyncio.sleep(0)
    await desk._pipeline.suspend()
    await giving
    assert len(desk._pipeline.model_calls) == 0


async def test_no_order_runs_a_tool_that_waits_for_approval() -> None:
    """Only people may let it run, whoever can write to `tool-calls`."""
    history = History()
    history.say("m1")
    history.model_says(use("send", "u1"))
    (call_id,) = history.pending(CallKind.APPROVAL)
    desk = Desk(history)
    order = CallTool(
        session_id="s1", call_id=call_id, turn_id="s1/1", step=2, agent="assistant", tool="send", input={},
        log_offset=0, timeout_ms=1_000,
    )  # fmt: skip
    await desk.give(order)
    assert (desk.tools.runs, desk.bench.acknowledged) == ([], [0])


async def test_the_session_says_what_is_called() -> None:
    """An order under the id of an awaited call that names another tool and input: what the model asked for is run."""
    history = History()
    history.say("m1")
    history.model_says(use("add", "u1"))
    order = ordered(history)
    assert isinstance(order, CallTool)
    desk = Desk(history)
    await desk.give(replace(order, tool="send", input={"a": 666}))
    assert desk.tools.runs == [("add", {"a": 1})]
    assert len(desk.bench.outbox.to(SESSION_LOG.name)) == 1


@pytest.mark.parametrize("first", ["tool", "handoff"])
async def test_a_tool_is_told_who_called_it_though_that_one_handed_over(first: str) -> None:
    """The conversation is the other's before the call begins, whatever comes first in the answer."""
    lead = AgentSpec(name="lead", instructions="Lead.", tools=("add",), handoffs=("assistant",))
    history = History(catalog(lead, agent()))
    history.say("m1", agent="lead")
    handoff = ToolUseBlock(id="u2", name="hand_off_to_assistant", input={"message": "an invoice"})
    history.model_says(*((use("add", "u1"), handoff) if first == "tool" else (handoff, use("add", "u1"))))
    assert history.session is not None
    assert history.session.head.agent == "assistant"
    desk = Desk(history)
    order = ordered(history)
    await desk.give(replace(order, agent="whoever wrote the order"))
    assert (order.agent, desk.tools.callers) == ("lead", ["lead"])


async def test_an_order_of_a_tool_performed_as_a_model_call_is_none() -> None:
    """The call is awaited, but of another kind."""
    history = History()
    history.say("m1")
    history.model_says(use("add", "u1"))
    (call_id,) = history.pending()
    order = CallModel(
        session_id="s1", call_id=call_id, turn_id="s1/1", step=2, agent="assistant", log_offset=0, timeout_ms=1_000
    )
    desk = Desk(history)
    await desk.give(order)
    assert (desk.model.calls, desk.bench.acknowledged) == ([], [0])
