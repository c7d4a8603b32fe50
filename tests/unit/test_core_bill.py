"""What model calls cost: the outcome of each call of the core counts once, whatever the log has of it."""

from histories import History, use

from agents.bill import GIVEN_UP_CALLS
from agents.session import CallKind
from schemas.failure import FailureCode


def spent(history: History) -> tuple[int, int]:
    """Tokens and cost of the session."""
    assert history.session is not None
    head = history.session.head
    return head.usage.total_tokens, head.cost_micros


def test_an_outcome_that_comes_again_is_not_paid_for_again() -> None:
    """The record is there twice: its writer died before it knew that the broker had it."""
    history = History()
    history.say("m1")
    call_id = history.model_call()
    history.model_says(use("add", "u1"), tokens=7)
    history.model_says(use("add", "u1"), call_id=call_id, tokens=7)
    assert spent(history) == (7, 2)
    history.tool_returns("s1/1/2")
    history.model_says("so", tokens=1)
    history.model_says("so", call_id="s1/1/3", tokens=1)
    assert spent(history) == (8, 4)


def test_an_outcome_that_comes_after_the_end_of_its_turn_counts_once() -> None:
    """The call was given up when it had been paid for; then its record comes twice."""
    history = History()
    history.say("m1")
    call_id = history.model_call()
    history.cancel()
    for _ in range(2):
        history.model_says("late", call_id=call_id, tokens=7)
    assert spent(history) == (7, 2)


def test_a_failure_that_comes_late_counts_too() -> None:
    """What was sent was paid for, though nothing came of it."""
    history = History()
    history.say("m1")
    call_id = history.model_call()
    history.end()
    history.model_fails(FailureCode.OVERLOADED, call_id=call_id)
    history.model_says("so", call_id=call_id, tokens=7)
    assert spent(history) == (1, 0)


def test_an_outcome_of_a_call_that_was_never_ordered_costs_nothing() -> None:
    """Whoever can write to the log could make a session look expensive: an unknown turn, a step that is a tool's."""
    history = History()
    history.say("m1")
    history.model_says("so", call_id="s1/9/1", tokens=100)
    history.model_says(use("add", "u1"), tokens=7)
    history.model_says("so", call_id="s1/1/2", tokens=100)
    assert spent(history) == (7, 2)


def test_the_call_that_a_bug_gave_up_is_paid_for_when_it_returns() -> None:
    """A quarantine ends the turn, and its call goes on for a moment."""
    history = History()
    history.say("m1")
    call_id = history.model_call()
    history.feed(history.log[0][1], crash=True)
    history.model_says("late", call_id=call_id, tokens=7)
    assert spent(history) == (7, 2)


def test_few_given_up_calls_are_remembered() -> None:
    """The head of a session that is cancelled again and again does not grow."""
    history = History()
    for number in range(GIVEN_UP_CALLS + 5):
        history.say(f"m{number}")
        history.cancel()
    assert history.session is not None
    assert len(history.session.head.given_up) == GIVEN_UP_CALLS
    history.model_says("late", call_id="s1/1/1", tokens=7)
    assert spent(history) == (0, 0)


def test_a_claim_of_a_call_that_waits_for_approval_is_none() -> None:
    """Nobody runs it yet: when it is approved, it is not taken for begun."""
    history = History()
    history.say("m1")
    history.model_says(use("send", "u1"))
    (call_id,) = history.pending(CallKind.APPROVAL)
    history.tool_starts(call_id)
    history.decide(call_id, "approve")
    assert history.session is not None
    assert history.session.head.turn is not None
    (call,) = history.session.head.turn.pending
    assert (call.kind, call.started_offset) == (CallKind.TOOL, None)
