"""How turns and sessions end otherwise: limits, cancellation, quarantine, the end of a session, expiry."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from histories import NOW, SESSION, History, agent, catalog, use

from agents.reducer import ANSWERED_IDS_PER_ENTRY, reduce
from agents.session import AnsweredEntry, CallKind, EndEntry, Session
from schemas.dead_letter import Cause
from schemas.effects import CallModel
from schemas.events import TurnCancelled, TurnCompleted, TurnFailed
from schemas.failure import FailureCode
from schemas.log import SessionEndRequested

# Limits


def test_the_limit_of_model_calls() -> None:
    """The tools of the last round are not run: nobody could be told their results."""
    history = History(catalog(agent(model_calls_per_turn=2)))
    history.say("m1")
    history.model_says(use("add", "u1"))
    history.tool_returns("s1/1/2")
    step = history.model_says(use("add", "u2"))
    assert step.effects == ()
    assert history.failure().code == FailureCode.LIMIT_MODEL_CALLS
    assert "2 model calls" in history.failure().message


def test_the_limit_of_tool_calls() -> None:
    """None of the round that would exceed it is run."""
    history = History(catalog(agent(tool_calls_per_turn=2)))
    history.say("m1")
    history.model_says(use("add", "u1"))
    history.tool_returns("s1/1/2")
    step = history.model_says(use("add", "u2"), use("add", "u3"))
    assert step.effects == ()
    assert history.failure().code == FailureCode.LIMIT_TOOL_CALLS


def test_the_limit_of_tokens() -> None:
    """Counted over all calls of the turn; an answer that is there is given all the same."""
    history = History(catalog(agent(tokens_per_turn=100)))
    history.say("m1")
    history.model_says(use("add", "u1"), tokens=60)
    history.tool_returns("s1/1/2")
    history.model_says(use("add", "u2"), tokens=60)
    assert history.failure().code == FailureCode.LIMIT_TOKENS
    history.say("m2")
    history.model_says("long", tokens=1_000)
    assert isinstance(history.ends()[-1], TurnCompleted)


def test_the_limit_of_time() -> None:
    """Checked before each call; orders carry what is left."""
    history = History(catalog(agent(turn_seconds=10)))
    history.say("m1")
    history.clock.forward(4)
    (order,) = history.model_says(use("add", "u1")).effects
    assert order.timeout_ms == 6_000
    history.clock.forward(6)
    history.tool_returns("s1/1/2")
    assert history.failure().code == FailureCode.LIMIT_TURN_SECONDS


def test_a_model_call_that_used_up_the_time_names_the_limit() -> None:
    """A timeout before the deadline stays a timeout."""
    history = History(catalog(agent(turn_seconds=10)))
    history.say("m1")
    history.clock.forward(5)
    history.model_fails(FailureCode.CALL_TIMEOUT)
    assert history.failure().code == FailureCode.CALL_TIMEOUT
    history.say("m2")
    history.clock.forward(10)
    history.model_fails(FailureCode.CALL_TIMEOUT)
    assert history.failure().code == FailureCode.LIMIT_TURN_SECONDS


def test_the_limit_of_the_transcript() -> None:
    """A message that does not fit is turned away, and not kept: what forbids growth must not grow."""
    history = History(catalog(agent(transcript_bytes=2_000)))
    history.say("m1", "x" * 3_000)
    assert history.failure().code == FailureCode.LIMIT_TRANSCRIPT
    assert history.session is not None
    assert history.session.head.transcript_bytes < 200
    history.say("m2", "short")
    history.model_says(use("add", "u1"))
    history.tool_returns("s1/2/2", "y" * 2_000)
    assert history.failure().code == FailureCode.LIMIT_TRANSCRIPT
    size = history.session.head.transcript_bytes
    for number in range(10):
        history.say(f"n{number}", "x" * 500)
    assert history.session.head.transcript_bytes - size <= 10 * 100
    assert {end.message_id for end in history.ends()} == {"m1", "m2", *(f"n{number}" for number in range(10))}


# Cancellation

Prepare = Callable[[History], None]


def before_the_model(history: History) -> None:
    history.say("m1")


def tools_run(history: History) -> None:
    history.say("m1")
    history.model_says("well", use("add", "u1"), use("add", "u2"), use("fly", "u3"))


def some_results_are_in(history: History) -> None:
    tools_run(history)
    history.tool_starts("s1/1/2")
    history.tool_returns("s1/1/3")


def the_model_has_the_results(history: History) -> None:
    some_results_are_in(history)
    history.tool_fails("s1/1/2")


def approval_is_asked_for(history: History) -> None:
    history.say("m1")
    history.model_says(use("send", "u1"), use("add", "u2"))


def the_answer_paused(history: History) -> None:
    history.say("m1")
    history.model_says("one", stop_reason="pause_turn")


POINTS = [
    before_the_model,
    tools_run,
    some_results_are_in,
    the_model_has_the_results,
    approval_is_asked_for,
    the_answer_paused,
]


@pytest.mark.parametrize("names_it", [True, False])
@pytest.mark.parametrize("point", POINTS)
def test_cancel_at_every_point_of_a_turn(point: Prepare, names_it: bool) -> None:  # noqa: FBT001  # A parameter of the test.
    """The turn ends at once, its calls are settled, late outcomes change nothing, and the next prompt is valid."""
    history = History()
    point(history)
    running = history.pending()
    step = history.cancel("m1" if names_it else None)
    assert set(step.settled) == set(running)
    (end,) = step.events
    assert isinstance(end, TurnCancelled)
    assert (end.message_id, end.reason, end.by) == ("m1", "changed my mind", "ann")
    for call_id in running:
        assert history.model_says("late", call_id=call_id).events == ()
        assert history.tool_returns(call_id).events == ()
        assert history.tool_fails(call_id).events == ()
        assert history.tool_starts(call_id).events == ()
    history.say("m2")
    note = str(history.prompt().messages[-1])
    assert "cancelled" in note
    history.model_says("hello")
    assert isinstance(history.ends()[-1], TurnCompleted)


def test_cancel_of_a_message_that_waits() -> None:
    """It never runs; the turn that runs is not touched, and the model does not hear of it."""
    history = History()
    history.say("m1")
    history.say("m2", "secret")
    history.say("m3")
    (end,) = history.cancel("m2").events
    assert isinstance(end, TurnCancelled)
    assert end.message_id == "m2"
    history.model_says("so")
    assert "secret" not in str(history.prompt().messages)
    history.model_says("so")
    assert [end.message_id for end in history.ends()] == ["m2", "m1", "m3"]


def test_cancel_starts_what_waits() -> None:
    """The next message's turn begins in the same step."""
    history = History()
    history.say("m1")
    history.say("m2")
    step = history.cancel()
    assert [type(event).__name__ for event in step.events] == ["TurnCancelled", "TurnStarted"]
    assert isinstance(step.effects[0], CallModel)


@pytest.mark.parametrize("message_id", [None, "m1", "nonsense"])
def test_cancel_of_nothing_is_refused(message_id: str | None) -> None:
    """After the end of the turn, or of a message that never was."""
    for history in (History(), History()):
        if history.offset == 0:
            history.say("m1")
            history.model_says("so")
        step = history.cancel(message_id)
        assert step.refusal is not None
        assert step.refusal.cause == Cause.NOTHING_TO_CANCEL
        assert step.events == ()


def test_a_cancel_that_was_accepted_twice_cancels_one_turn() -> None:
    """Accept died between its append and its commit, so the command is in the log twice."""
    history = History()
    history.say("m1")
    history.say("m2")
    history.cancel(command_id="c1")
    step = history.cancel(command_id="c1")
    assert (step.events, step.refusal) == ((), None)
    history.model_says("so")
    assert [type(end) for end in history.ends()] == [TurnCancelled, TurnCompleted]


def test_a_decision_that_was_accepted_twice_is_not_refused() -> None:
    """Its sender did nothing wrong."""
    history = History()
    history.say("m1")
    history.model_says(use("send", "u1"))
    history.decide("s1/1/2", "approve", command_id="c1")
    assert history.decide("s1/1/2", "approve", command_id="c1").refusal is None


# Quarantine


@pytest.mark.parametrize("point", POINTS)
def test_quarantine_from_every_point_of_a_turn(point: Prepare) -> None:
    """All open messages fail with a clear error, also later ones; nothing is called any more."""
    history = History()
    point(history)
    history.say("m2")
    running = history.pending()
    step = history.feed(history.log[-1][1], crash=True)
    assert set(step.settled) == set(running)
    assert [(end.message_id, type(end)) for end in history.ends()] == [("m1", TurnFailed), ("m2", TurnFailed)]
    for call_id in running:
        assert history.tool_returns(call_id).events == ()
        assert history.model_says("late", call_id=call_id).effects == ()
    history.say("m3")
    assert history.failure().code == FailureCode.SESSION_QUARANTINED
    assert "ZeroDivisionError" in history.failure().message
    assert history.cancel().refusal is not None
    assert history.say("m2").events == (), "answered once, if only with a failure"


def test_quarantine_by_the_first_message() -> None:
    """The message that the core fails on is answered as well."""
    history = History()
    history.say("m0")
    message = history.log[-1][1]
    history = History()
    history.feed(message, crash=True)
    assert [end.message_id for end in history.ends()] == ["m0"]


def test_quarantine_after_the_end() -> None:
    """Nothing is open, so nobody is told anything."""
    history = History()
    history.say("m1")
    history.model_says("so")
    assert history.feed(history.log[-1][1], crash=True).events == ()
    history.end()
    history.say("m2")
    assert history.failure().code == FailureCode.SESSION_QUARANTINED


# The end of a session, and expiry


@pytest.mark.parametrize("point", POINTS)
def test_the_end_of_a_session_from_every_point_of_a_turn(point: Prepare) -> None:
    """What runs and what waits is cancelled; the transcript goes, but not which messages were answered."""
    history = History()
    point(history)
    history.say("m2")
    history.say("m3")
    history.end()
    assert [(end.message_id, type(end)) for end in history.ends()] == [
        ("m1", TurnCancelled),
        ("m2", TurnCancelled),
        ("m3", TurnCancelled),
    ]
    assert history.session is not None
    assert history.session.transcript == (AnsweredEntry(message_ids=("m1", "m2", "m3")),)
    for message_id in ("m1", "m2", "m3"):
        assert history.say(message_id).events == ()
    history.say("m4")
    assert history.failure().code == FailureCode.SESSION_ENDED
    assert history.end().events == ()


def test_what_remains_of_a_long_session_fits_records() -> None:
    """Its ids are in several entries."""
    history = History()
    history.say("m")
    history.model_says("so")
    session = history.session
    assert session is not None
    answered = tuple(EndEntry(turn=2, message_id=f"x{number}") for number in range(ANSWERED_IDS_PER_ENTRY))
    session = Session(session.head, (*session.transcript, *answered))
    event = SessionEndRequested(session_id=SESSION, command_id="c", at=NOW)
    ended = reduce(history.catalog, session, event, history.offset).session
    assert ended is not None
    assert [len(entry.message_ids) for entry in ended.transcript if isinstance(entry, AnsweredEntry)] == [1_000, 1]


def test_the_end_of_a_session_that_never_was() -> None:
    """There is nothing to forget."""
    step = History().end()
    assert (step.session, step.events, step.refusal) == (None, (), None)


def test_expiry_of_an_idle_session() -> None:
    """Nothing of it remains; a message begins anew."""
    history = History()
    history.say("m1")
    history.model_says("so")
    history.clock.forward(3_600)
    history.expire()
    assert history.session is None
    assert history.stored == {}
    assert history.expire().session is None, "ordered twice"
    history.say("m2")
    assert history.pending(CallKind.MODEL)


def test_no_expiry_of_a_session_to_which_something_happened() -> None:
    """Between the order and its place in the log: a message, or an answer."""
    history = History()
    history.say("m1")
    idle_since = history.clock.at
    assert history.expire(idle_since).session is not None, "a turn runs"
    history.model_says("so")
    history.clock.forward(10)
    history.cancel()
    assert history.expire(idle_since + timedelta(seconds=5)).session is not None, "a command came"


def test_late_outcomes_are_counted_as_paid() -> None:
    """The usage of a cancelled call is the session's, not the next turn's."""
    history = History()
    history.say("m1")
    call_id = history.model_call()
    history.cancel()
    history.say("m2")
    history.model_says("late", call_id=call_id, tokens=7)
    assert history.session is not None
    assert history.session.head.usage.output_tokens == 7
    history.model_says("so", tokens=1)
    assert history.ends()[-1].usage.output_tokens == 1


@pytest.mark.parametrize("message", ["model", "tool"])
def test_outcomes_of_the_wrong_kind_change_nothing(message: str) -> None:
    """A tool's result under the id of a model call, and the other way round."""
    history = History()
    history.say("m1")
    if message == "model":
        step = history.tool_returns(history.model_call())
    else:
        history.model_says(use("add", "u1"))
        step = history.model_says("so", call_id="s1/1/2")
    assert (step.events, step.effects, step.settled) == ((), (), ())
