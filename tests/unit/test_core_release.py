"""How a quarantine is lifted: deterministically, by a fact of the log, and not for ever."""

from collections.abc import Callable

import pytest
from histories import History, use

from agents.handle import handle
from agents.session import Session
from schemas.dead_letter import Cause
from schemas.events import TurnCompleted, TurnFailed
from schemas.failure import FailureCode


def before_the_model(history: History) -> None:
    history.say("m1")


def some_results_are_in(history: History) -> None:
    history.say("m1")
    history.model_says("well", use("add", "u1"), use("add", "u2"), use("fly", "u3"))
    history.tool_returns("s1/1/2")


def approval_is_asked_for(history: History) -> None:
    history.say("m1")
    history.model_says(use("send", "u1"), use("add", "u2"))


@pytest.mark.parametrize("point", [before_the_model, some_results_are_in, approval_is_asked_for])
def test_a_released_session_goes_on_from_every_point(point: Callable[[History], None]) -> None:
    """Messages are answered again with a valid prompt; those that were turned away stay so, under their ids."""
    history = History()
    point(history)
    history.feed(history.log[-1][1], crash=True)
    history.say("m2")
    assert history.release().events == ()
    assert history.say("m2").events == (), "ended once"
    history.say("m3")
    history.model_says("hello")
    assert [(end.message_id, type(end)) for end in history.ends()] == [
        ("m1", TurnFailed),
        ("m2", TurnFailed),
        ("m3", TurnCompleted),
    ]


def test_a_fact_that_is_met_again_quarantines_again() -> None:
    """The cause says that it was released before, so nobody releases it for ever."""
    history = History()
    history.say("m1")
    for number in (1, 2, 3):
        history.feed(history.log[0][1], crash=True)
        history.say(f"n{number}")
        history.release()
    messages = [end.error.message for end in history.ends() if isinstance(end, TurnFailed)][1:]
    assert ["ZeroDivisionError)" in messages[0], "again after release number" in messages[0]] == [True, False]
    assert "ZeroDivisionError, again after release number 1)" in messages[1]
    assert "ZeroDivisionError, again after release number 2)" in messages[2]


def test_a_release_of_what_is_not_quarantined_is_refused() -> None:
    """Also of a session that never was; one that was accepted twice is not."""
    history = History()
    refusal = history.release().refusal
    assert refusal is not None
    assert refusal.cause == Cause.NOT_QUARANTINED
    history.say("m1")
    assert history.release().refusal is not None
    history.feed(history.log[-1][1], crash=True)
    assert history.release("r1").refusal is None
    assert history.release("r1").refusal is None
    assert history.release("r2").refusal is not None


def test_a_release_does_not_bring_an_ended_session_back() -> None:
    """It was ended by somebody, and stays so."""
    history = History()
    history.say("m1")
    history.feed(history.log[-1][1], crash=True)
    history.end()
    history.release()
    history.say("m2")
    assert history.failure().code == FailureCode.SESSION_ENDED


def test_the_cause_that_is_told_is_the_one_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead letter of the fact says the same as the failed turns."""
    history = History()
    history.say("m1")
    history.feed(history.log[0][1], crash=True)
    history.release()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("agents.handle.reduce", broken)
    handled = handle(history.catalog, history.session, history.log[0][1], history.offset, "session-log/0/9")
    assert isinstance(handled.step.session, Session)
    assert handled.cause == "ZeroDivisionError at session-log/0/9, again after release number 1"
    assert handled.step.session.head.quarantined == handled.cause
