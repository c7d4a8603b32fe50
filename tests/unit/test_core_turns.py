"""The course of a turn: messages, tools, stop reasons, approvals, the queue."""

import pytest
from histories import SESSION, History, agent, catalog, use
from msgspec import structs

from agents.session import CallKind, EndEntry
from schemas.content import RedactedThinkingBlock, ThinkingBlock, ToolUseBlock
from schemas.dead_letter import Cause
from schemas.effects import CallModel, CallTool
from schemas.events import ApprovalRequested, ToolReturned, TurnCancelled, TurnCompleted, TurnFailed, TurnStarted
from schemas.failure import FailureCode
from schemas.usage import Usage


def test_a_message_is_answered() -> None:
    """One message, one model call, one answer, with its usage and cost."""
    history = History()
    step = history.say("m1", "hi", user_id="ann", tenant="acme", metadata={"k": "v"})
    assert step.effects == (
        CallModel(
            session_id=SESSION,
            call_id="s1/1/1",
            turn_id="s1/1",
            step=1,
            agent="assistant",
            log_offset=0,
            timeout_ms=600_000,
        ),
    )
    started = history.seen[0]
    assert isinstance(started, TurnStarted)
    assert (started.user_id, started.tenant, started.metadata) == ("ann", "acme", {"k": "v"})
    step = history.model_says("hello", tokens=5)
    assert step.effects == ()
    (end,) = step.events
    assert isinstance(end, TurnCompleted)
    assert (end.text, end.message_id, end.seq, end.usage, end.cost_micros) == (
        "hello",
        "m1",
        2,
        Usage(output_tokens=5),
        2,
    )
    assert step.settled == ("s1/1/1",)


def test_tools_run_in_parallel_and_their_results_may_come_in_any_order() -> None:
    """The model is called again when the last result is there, and gets them in the order of its calls."""
    history = History()
    history.say("m1")
    step = history.model_says("let me see", use("add", "u1"), use("add", "u2"), use("add", "u3"))
    first, second, third = [order.call_id for order in step.effects if isinstance(order, CallTool)]
    assert [first, second, third] == ["s1/1/2", "s1/1/3", "s1/1/4"]
    assert history.tool_returns(third, "three").effects == ()
    assert history.tool_fails(first).effects == ()
    (order,) = history.tool_returns(second, "two").effects
    assert isinstance(order, CallModel)
    results = history.prompt().messages[-1]["content"]
    assert [(result["tool_use_id"], result.get("is_error", False)) for result in results] == [
        ("u1", True),
        ("u2", False),
        ("u3", False),
    ]
    history.model_says("done")
    assert history.kinds() == ["TurnStarted"] + ["ToolCalled"] * 3 + ["ToolReturned"] * 3 + ["TurnCompleted"]
    assert isinstance(history.seen[-1], TurnCompleted)
    assert history.seen[-1].text == "done", "what was said before the tools ran is not the answer"


def test_a_message_that_is_turned_away_amid_tool_calls_leaves_the_transcript_valid() -> None:
    """Its entry stands between the results, and must hide neither the calls without one nor the answer's parts."""
    history = History(catalog(agent(queued_messages=1)))
    history.say("m1")
    history.model_says(use("add", "u1"), use("add", "u2"))
    history.tool_returns("s1/1/2")
    history.say("m2")
    history.say("m3")
    assert history.failure().code == FailureCode.LIMIT_QUEUE
    history.cancel("m1")
    assert history.pending() == ["s1/3/1"], "m2 runs; the prompt of its call was checked"
    assert {block["tool_use_id"] for block in history.prompt().messages[2]["content"][:2]} == {"u1", "u2"}


def test_an_answer_that_paused_is_whole_though_a_message_was_turned_away_in_between() -> None:
    """`pause_turn` continues the same answer."""
    history = History(catalog(agent(queued_messages=1)))
    history.say("m1")
    history.model_says("one, ", stop_reason="pause_turn")
    history.say("m2")
    history.say("m3")
    step = history.model_says("two")
    assert isinstance(step.events[0], TurnCompleted)
    assert step.events[0].text == "one, two"


def test_a_tool_that_the_agent_does_not_have() -> None:
    """The model is told so, beside the results of the other calls; nothing is run for it."""
    history = History()
    history.say("m1")
    step = history.model_says(use("fly", "u1"), use("add", "u2"))
    assert [order.tool for order in step.effects if isinstance(order, CallTool)] == ["add"]
    history.tool_returns("s1/1/3")
    unknown, known = history.prompt().messages[-1]["content"]
    assert unknown["is_error"]
    assert "add, send" in unknown["content"]
    assert "is_error" not in known


def test_only_tools_that_the_agent_does_not_have() -> None:
    """There is nothing to wait for: the model is called again at once."""
    history = History()
    history.say("m1")
    (order,) = history.model_says(use("fly", "u1")).effects
    assert isinstance(order, CallModel)


@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence", "max_tokens"])
def test_stop_reasons_that_end_with_an_answer(stop_reason: str) -> None:
    """The reader is told the stop reason: an answer that was cut off is one all the same."""
    history = History()
    history.say("m1")
    history.model_says("so", stop_reason=stop_reason)
    (end,) = history.ends()
    assert isinstance(end, TurnCompleted)
    assert end.stop_reason == stop_reason


@pytest.mark.parametrize(
    ("stop_reason", "content", "code"),
    [
        ("refusal", ("no",), FailureCode.REFUSAL),
        ("refusal", (), FailureCode.REFUSAL),
        ("model_context_window_exceeded", ("so",), FailureCode.CONTEXT_WINDOW_EXCEEDED),
        ("max_tokens", (use("add", "u1"),), FailureCode.OUTPUT_TRUNCATED),
        ("end_turn", (use("add", "u1"),), FailureCode.UNEXPECTED_STOP_REASON),
        ("tool_use", ("so",), FailureCode.UNEXPECTED_STOP_REASON),
        ("pause_turn", (use("add", "u1"),), FailureCode.UNEXPECTED_STOP_REASON),
        ("brand_new", ("so",), FailureCode.UNEXPECTED_STOP_REASON),
    ],
)
def test_stop_reasons_without_an_answer(
    stop_reason: str, content: tuple[ToolUseBlock | str, ...], code: FailureCode
) -> None:
    """The turn fails with the reason, and the next message is answered."""
    history = History()
    history.say("m1")
    history.model_says(*content, stop_reason=stop_reason)
    assert history.failure().code == code
    history.say("m2")
    history.model_says("hello")
    assert isinstance(history.seen[-1], TurnCompleted)


def test_a_turn_that_the_model_would_refuse_again_is_left_out_of_later_prompts() -> None:
    """Else every later turn would fail as well."""
    history = History()
    history.say("m1", "evil")
    history.model_says(stop_reason="refusal")
    history.say("m2", "good")
    assert history.prompt().messages[0]["content"][0]["text"] == "good"


def test_thinking_that_was_cut_off_and_blank_text_are_not_sent_back() -> None:
    """The API refuses both, and with them every later call of the session."""
    history = History()
    history.say("m1")
    history.model_says(
        " \n", ThinkingBlock(thinking="hm", signature=""), RedactedThinkingBlock(data="x"), stop_reason="max_tokens"
    )
    history.say("m2")
    assert [message["role"] for message in history.prompt().messages] == ["user"]
    history.model_says(ThinkingBlock(thinking="hm", signature="s"), use("add", "u1"))
    history.tool_returns("s1/2/2")
    assert [block["type"] for block in history.prompt().messages[1]["content"]] == ["thinking", "tool_use"]


@pytest.mark.parametrize("code", list(FailureCode))
def test_a_model_call_that_failed_fails_the_turn(code: FailureCode) -> None:
    """Every code reaches the reader, and the session goes on."""
    history = History()
    history.say("m1")
    history.model_fails(code)
    assert history.failure().code == code
    assert history.ends()[0].usage == Usage(input_tokens=1)
    history.say("m2")
    history.model_says("hello")
    assert isinstance(history.seen[-1], TurnCompleted)


@pytest.mark.parametrize("code", list(FailureCode))
def test_a_tool_call_that_failed_is_for_the_model_to_act_on(code: FailureCode) -> None:
    """The turn goes on with an error result."""
    history = History()
    history.say("m1")
    history.model_says(use("add", "u1"))
    history.tool_fails("s1/1/2", code)
    (result,) = history.prompt().messages[-1]["content"]
    assert result["is_error"]
    assert isinstance(history.seen[-1], ToolReturned)
    assert history.seen[-1].is_error


# The queue


def test_messages_that_arrive_during_a_turn_are_answered_after_it_in_order() -> None:
    """Each in a turn of its own."""
    history = History()
    for name in ("m1", "m2", "m3"):
        history.say(name)
    for _ in range(3):
        history.model_says("so")
    assert [(end.message_id, end.turn_id) for end in history.ends()] == [
        ("m1", "s1/1"),
        ("m2", "s1/2"),
        ("m3", "s1/3"),
    ]


def test_a_full_queue_turns_messages_away() -> None:
    """At once, with a failure that says to send it again; those that wait are not touched."""
    history = History(catalog(agent(queued_messages=2)))
    for name in ("m1", "m2", "m3", "m4"):
        history.say(name)
    (away,) = history.ends()
    assert isinstance(away, TurnFailed)
    assert (away.message_id, away.error.code, away.error.retryable) == ("m4", FailureCode.LIMIT_QUEUE, True)
    for _ in range(3):
        history.model_says("so")
    assert [end.message_id for end in history.ends()] == ["m4", "m1", "m2", "m3"]


def test_the_queue_is_bounded_in_bytes() -> None:
    """It is a part of the head, which has to fit one record of the changelog."""
    history = History()
    history.say("m1")
    for number in range(3):
        history.say(f"big{number}", "x" * 500_000)
    assert [end.message_id for end in history.ends()] == ["big2"]
    assert history.failure().code == FailureCode.LIMIT_QUEUE


@pytest.mark.parametrize("state", ["running", "queued", "answered", "turned away", "cancelled", "ended"])
def test_a_message_that_came_twice_is_answered_once(state: str) -> None:
    """Whatever became of the first one, the second changes nothing that anybody sees."""
    history = History(catalog(agent(queued_messages=1)))
    history.say("m1")
    if state == "queued":
        history.say("m2")
    if state == "turned away":
        history.say("m3")
        history.say("m2")
    if state == "answered":
        history.model_says("so")
    if state in {"cancelled", "ended"}:
        history.cancel()
    if state == "ended":
        history.end()
    step = history.say("m1" if state not in {"queued", "turned away"} else "m2")
    assert (step.effects, step.events, step.refusal) == ((), (), None)


# Approvals


def ask_for_approval() -> History:
    history = History()
    history.say("m1")
    step = history.model_says(use("send", "u1"), use("add", "u2"))
    assert next(type(event) for event in step.events) is ApprovalRequested
    assert [order.tool for order in step.effects if isinstance(order, CallTool)] == ["add"]
    return history


def test_an_approved_call_runs() -> None:
    """Only then is it ordered; other calls of the round did not wait for it."""
    history = ask_for_approval()
    history.tool_returns("s1/1/3")
    (order,) = history.decide("s1/1/2", "approve").effects
    assert isinstance(order, CallTool)
    assert order.call_id == "s1/1/2"
    (order,) = history.tool_returns("s1/1/2").effects
    assert isinstance(order, CallModel)


def test_a_denied_call_is_an_error_result() -> None:
    """The model reads who denied it."""
    history = ask_for_approval()
    assert history.decide("s1/1/2", "deny").effects == ()
    (order,) = history.tool_returns("s1/1/3").effects
    assert isinstance(order, CallModel)
    assert "denied by ann" in history.prompt().messages[-1]["content"][0]["content"]


def test_a_call_that_waits_for_approval_takes_no_result() -> None:
    """It was never ordered, so whatever claims to be its result is none."""
    history = ask_for_approval()
    step = history.tool_returns("s1/1/2")
    assert step.events == ()
    assert "s1/1/2" in history.pending(CallKind.APPROVAL)


def test_decisions_without_a_call_that_waits_are_refused() -> None:
    """Decided already, a call that needs none, and a session that never was."""
    history = ask_for_approval()
    history.decide("s1/1/2", "approve")
    for call_id in ("s1/1/2", "s1/1/3", "nonsense"):
        step = history.decide(call_id, "deny")
        assert step.refusal is not None
        assert step.refusal.cause == Cause.NOTHING_TO_APPROVE
        assert call_id in step.refusal.error
    refusal = History().decide("x", "approve").refusal
    assert refusal is not None


def test_the_time_that_people_take_is_not_the_turns() -> None:
    """Two calls wait for an hour side by side: an hour is given back, not two."""
    history = History(catalog(agent(turn_seconds=100)))
    history.say("m1")
    history.model_says(use("send", "u1"), use("send", "u2"))
    history.clock.forward(1_800)
    history.decide("s1/1/2", "approve")
    history.clock.forward(1_800)
    (order,) = history.decide("s1/1/3", "approve").effects
    assert isinstance(order, CallTool)
    assert order.timeout_ms == 100_000


# Agents


def test_the_agent_is_the_messages_then_the_sessions_then_the_default_one() -> None:
    """A session stays with the agent that it was begun with, until a message names another one."""
    history = History(catalog(agent(), agent("writer")))
    history.say("m1")
    history.model_says("so")
    history.say("m2", agent="writer")
    history.model_says("so")
    history.say("m3")
    history.model_says("so")
    assert [end.agent for end in history.ends()] == ["assistant", "writer", "writer"]


def test_an_agent_that_nobody_knows() -> None:
    """The turn fails and names those that there are; the session keeps its agent."""
    history = History()
    history.say("m1", agent="ghost")
    assert history.failure().code == FailureCode.UNKNOWN_AGENT
    assert "assistant" in history.failure().message
    history.say("m2")
    history.model_says("so")
    assert history.ends()[1].agent == "assistant"


@pytest.mark.parametrize("moment", ["model", "tool", "approval approved", "approval denied"])
def test_an_agent_that_is_removed_amid_its_turn(moment: str) -> None:
    """The turn ends with a clear failure, and the transcript is valid for the agent that comes after it."""
    history = History()
    history.say("m1")
    if moment == "tool":
        history.model_says(use("add", "u1"))
    if moment.startswith("approval"):
        history.model_says(use("send", "u1"))
    history.catalog = catalog(agent("writer"))
    if moment == "model":
        history.model_says("so")
    if moment == "tool":
        history.tool_returns("s1/1/2")
    if moment == "approval approved":
        history.decide("s1/1/2", "approve")
        history.tool_returns("s1/1/2")
    if moment == "approval denied":
        history.decide("s1/1/2", "deny")
    assert history.failure().code == FailureCode.UNKNOWN_AGENT
    history.say("m2", agent="writer")
    history.model_says("so")
    assert isinstance(history.seen[-1], TurnCompleted)


def test_end_entries_are_kept_only_for_turns_without_an_answer() -> None:
    """An answer says itself that its turn ended; the record of a plain turn is two entries."""
    history = History()
    history.say("m1")
    history.model_says("so")
    assert history.session is not None
    assert [structs.asdict(entry)["turn"] for entry in history.session.transcript] == [1, 1]
    assert not any(isinstance(entry, EndEntry) for entry in history.session.transcript)
    history.say("m2")
    history.cancel()
    assert isinstance(history.session.transcript[-1], EndEntry)
    assert isinstance(history.ends()[-1], TurnCancelled)
