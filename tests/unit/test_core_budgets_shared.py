"""Shared budgets, as the core sees them: a call was not made, and the budget's declaration says what becomes of it."""

from datetime import timedelta
from typing import Any

import pytest
from histories import History, agent, catalog, use
from msgspec import UNSET

from agents.approval_rule import WEEK_S
from agents.budget import EXCEED_BUDGET
from agents.prompt import build_prompt
from agents.session import CallKind
from schemas.effects import CallModel
from schemas.events import ApprovalRequested, BudgetExceeded, TurnCompleted
from schemas.failure import FailureCode
from schemas.log import ApprovalDecided, SpendingRefused, TimerFired

CHEAPER: dict[str, Any] = {"on_breach": "cheaper", "cheaper_model": "claude-haiku-5-5"}


def history_of(model_calls_per_turn: int = 10) -> History:
    history = History(catalog(agent(model_calls_per_turn=model_calls_per_turn)))
    history.say("m1")
    return history


def refuse(history: History, call_id: str | None = None, **fields: Any) -> None:
    """The users' budget of 1,000 a day has refused the pending call, unless the fields say otherwise."""
    refused: dict[str, Any] = {"budget": "users", "scope": "user", "unit": "micros", "limit": 1_000}
    refused |= {"spent": 900, "reserved": 200} | fields
    history.feed(
        SpendingRefused(session_id="s1", call_id=call_id or history.model_call(), at=history.clock.at, **refused)
    )


def decide(history: History, decision: str, by: str = "ann") -> None:
    (call_id,) = history.pending(CallKind.APPROVAL)
    history.feed(
        ApprovalDecided(
            session_id="s1",
            command_id=f"c{history.offset}",
            call_id=call_id,
            decision="approve" if decision == "approve" else "deny",
            at=history.clock.at,
            by=by,
        )
    )


def breaches(history: History) -> list[BudgetExceeded]:
    return [event for event in history.seen if isinstance(event, BudgetExceeded)]


def ordered(history: History) -> CallModel:
    (order,) = history.steps[-1].effects
    assert isinstance(order, CallModel)
    return order


def test_a_refused_call_ends_the_turn_where_the_budget_says_stop() -> None:
    """The event names budget, limit, what was spent and reserved; the next turn asks again."""
    history = history_of()
    refuse(history)
    (breach,) = breaches(history)
    assert (breach.scope, breach.budget, breach.unit, breach.action) == ("user", "users", "micros", "stop")
    assert (breach.limit, breach.spent, breach.reserved, breach.local) == (1_000, 900, 200, UNSET)
    failure = history.failure()
    assert failure.code == FailureCode.BUDGET_EXCEEDED
    assert "at most 1000 micro-dollars a day for the user, got 900 spent and 200 reserved" in failure.message
    assert isinstance(history.say("m2").effects[0], CallModel)


def test_the_worker_says_that_it_counted_alone() -> None:
    """While the shared count does not answer; the event says so too."""
    history = history_of()
    refuse(history, local=True)
    (breach,) = breaches(history)
    assert breach.local is True


def test_people_let_the_call_be_made() -> None:
    """The next order says that the limit counts twice, with which the worker reserves; so do all orders of the turn."""
    history = history_of()
    refuse(history, on_breach="ask")
    (requested,) = [event for event in history.seen if isinstance(event, ApprovalRequested)]
    assert (requested.tool, requested.input["budget"], requested.input["raised_to"]) == (
        EXCEED_BUDGET,
        "users_micros",
        2_000,
    )
    history.clock.forward(3 * 24 * 3_600)
    decide(history, "approve")
    order = ordered(history)
    assert (order.exceeds, order.timeout_ms) == (("users_micros",), 600_000)
    step = history.model_says(use("add", "u1"))
    history.tool_returns(step.effects[0].call_id)
    assert ordered(history).exceeds == ("users_micros",)
    history.model_says("done")
    assert isinstance(history.seen[-1], TurnCompleted)
    history.say("m2")
    assert ordered(history).exceeds is UNSET, "the next turn begins with the plain limit"


def test_a_limit_is_raised_once() -> None:
    """Refused again, with the limit counted twice, the turn stops."""
    history = history_of()
    refuse(history, on_breach="ask")
    decide(history, "approve")
    refuse(history, on_breach="ask", spent=1_900)
    assert [(breach.action, breach.limit) for breach in breaches(history)] == [("ask", 1_000), ("stop", 2_000)]
    assert history.failure().code == FailureCode.BUDGET_EXCEEDED


def test_twice_the_limit_that_is_not_enough_is_not_asked_for() -> None:
    """Nobody is bothered with what would not help."""
    history = history_of()
    refuse(history, on_breach="ask", spent=1_900)
    assert [breach.action for breach in breaches(history)] == ["stop"]


def test_the_budget_says_who_decides() -> None:
    """Not the agent, whose own rule is for its own budget."""
    history = history_of()
    refuse(history, on_breach="ask", approvers=("boss", "chief"), approvals=2, expires_seconds=60)
    (requested,) = [event for event in history.seen if isinstance(event, ApprovalRequested)]
    assert (requested.approvers, requested.approvals) == (("boss", "chief"), 2)
    decide(history, "approve", by="ann")
    assert history.steps[-1].refusal is not None
    decide(history, "approve", by="boss")
    assert history.pending(CallKind.APPROVAL), "one of two"
    decide(history, "approve", by="chief")
    assert ordered(history).exceeds == ("users_micros",)


@pytest.mark.parametrize("denied", [True, False])
def test_a_denial_and_silence_end_the_turn(*, denied: bool) -> None:
    """As for the agent's own budget."""
    history = history_of()
    refuse(history, on_breach="ask")
    (call_id,) = history.pending(CallKind.APPROVAL)
    if denied:
        decide(history, "deny")
    else:
        due = history.clock.at + timedelta(seconds=WEEK_S)
        history.clock.forward(WEEK_S)
        history.feed(TimerFired(session_id="s1", call_id=call_id, due=due, at=history.clock.at))
    failure = history.failure()
    assert failure.code == FailureCode.BUDGET_EXCEEDED
    assert "a day for the user" in failure.message
    assert ("denied by ann" if denied else "nobody decided in time") in failure.message


def test_a_cheaper_model_goes_on() -> None:
    """With the limit counted twice; order and prompt name it, and the next turn has the agent's own."""
    history = history_of()
    refuse(history, **CHEAPER)
    order = ordered(history)
    assert (order.model, order.exceeds) == ("claude-haiku-5-5", ("users_micros",))
    assert history.session is not None
    assert build_prompt(history.catalog.agents["assistant"], [], history.session).model == "claude-haiku-5-5"
    refuse(history, budget="house", scope="all", on_breach="cheaper", cheaper_model="tiny")
    assert (ordered(history).model, ordered(history).exceeds) == ("tiny", ("users_micros", "house_micros"))
    history.model_says("so")
    history.say("m2")
    assert ordered(history).model is UNSET


def test_a_call_that_was_not_made_counts_as_none() -> None:
    """An agent that may call its model once a turn still can."""
    history = history_of(model_calls_per_turn=1)
    refuse(history, **CHEAPER)
    history.model_says("so")
    assert isinstance(history.seen[-1], TurnCompleted)


def test_a_refusal_of_a_call_that_nobody_waits_for_changes_nothing() -> None:
    """Its turn was cancelled meanwhile, or a worker that was left behind wrote it."""
    history = history_of()
    call_id = history.model_call()
    history.cancel()
    refuse(history, call_id)
    assert breaches(history) == []
    history.say("m2")
    refuse(history, call_id)
    assert history.pending(CallKind.MODEL)
