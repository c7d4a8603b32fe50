"""Budgets of turns and sessions: what a breach does, and how far one call can overrun a limit."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from histories import Fold, History, catalog, use
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from agents.budget import EXCEED_BUDGET, Budget
from agents.limits import Limits
from agents.prompt import build_prompt
from agents.session import CallKind
from agents.spec import AgentSpec
from schemas.effects import CallModel, CallTool
from schemas.events import ApprovalRequested, BudgetExceeded, TurnCompleted, TurnFailed
from schemas.failure import FailureCode
from schemas.log import ApprovalDecided, TimerFired

TEN_CENTS = 100_000


def looping(**budget: Any) -> AgentSpec:
    """An agent that can call a tool as often as its budget lets it."""
    limits = Limits(model_calls_per_turn=10_000, tool_calls_per_turn=10_000)
    return AgentSpec(name="assistant", instructions="Loop.", tools=("add",), limits=limits, budget=Budget(**budget))


def history_of(**budget: Any) -> History:
    return History(catalog(looping(**budget)))


def round_of(history: History, cost_micros: int, tokens: int = 1) -> None:
    """The model asks for a tool, which returns where it was ordered."""
    step = history.model_says(use("add", f"u{history.offset}"), cost_micros=cost_micros, tokens=tokens)
    for order in step.effects:
        assert isinstance(order, CallTool)
        history.tool_returns(order.call_id)


def loop(history: History, cost_micros: int) -> None:
    """As long as the model is called."""
    while history.pending(CallKind.MODEL):
        round_of(history, cost_micros)


def breaches(history: Fold) -> list[BudgetExceeded]:
    return [event for event in history.seen if isinstance(event, BudgetExceeded)]


def spent(history: Fold) -> int:
    """In micro-dollars, by the session itself."""
    assert history.session is not None
    return history.session.head.cost_micros


def decide(history: History, decision: str, **fields: Any) -> None:
    (call_id,) = history.pending(CallKind.APPROVAL)
    history.feed(
        ApprovalDecided(
            session_id="s1",
            command_id=f"c{history.offset}",
            call_id=call_id,
            decision="approve" if decision == "approve" else "deny",
            at=history.clock.at,
            by="ann",
            **fields,
        )
    )


def test_a_turn_that_loops_stops_before_its_limit() -> None:
    """Calls of the same price never overrun: the next one is reserved. The event says what was spent of what."""
    history = history_of(turn_micros=TEN_CENTS)
    history.say("m1")
    loop(history, 7_000)
    assert spent(history) == 98_000
    (breach,) = breaches(history)
    assert (breach.scope, breach.unit, breach.limit, breach.spent, breach.reserved, breach.action) == (
        "turn",
        "micros",
        TEN_CENTS,
        98_000,
        7_000,
        "stop",
    )
    failure = history.failure()
    assert failure.code == FailureCode.BUDGET_EXCEEDED
    assert not failure.retryable
    assert "at most 100000 micro-dollars in a turn, got 98000 spent" in failure.message
    assert history.say("m2").effects, "the next turn has a budget of its own"


@given(st.lists(st.integers(1, 60_000), min_size=1, max_size=60), st.sampled_from([0, 5_000, 60_000]))
def test_one_call_overruns_by_what_it_is_dearer_than_all_before(costs: list[int], reserve: int) -> None:
    """With a reserve that no call exceeds, the limit holds exactly."""
    history = history_of(turn_micros=TEN_CENTS, reserve_micros=reserve)
    history.say("m1")
    made: list[int] = []
    for cost in costs:
        if not history.pending(CallKind.MODEL):
            break
        made.append(cost)
        round_of(history, cost)
    allowed = max(0, made[-1] - max([reserve, *made[:-1]]))
    assert sum(made) - TEN_CENTS <= allowed
    if reserve == 60_000:
        assert sum(made) <= TEN_CENTS


def test_a_breach_keeps_the_tools_from_their_effects() -> None:
    """The model could not be told the results; the transcript stays valid for the next turn."""
    history = history_of(turn_micros=100)
    history.say("m1")
    step = history.model_says(use("add", "u1"), cost_micros=100)
    assert step.effects == ()
    assert [type(event) for event in step.events] == [BudgetExceeded, TurnFailed]
    history.say("m2")
    assert history.pending(CallKind.MODEL)


def test_an_answer_that_is_there_is_given() -> None:
    """What was paid for is not thrown away, however dear it was."""
    history = history_of(turn_micros=100)
    history.say("m1")
    history.model_says("an answer", cost_micros=5_000)
    assert isinstance(history.seen[-1], TurnCompleted)
    assert breaches(history) == []


def test_a_sessions_budget_ends_later_turns_before_their_first_call() -> None:
    """Its limit counts all turns."""
    history = history_of(session_micros=1_000)
    history.say("m1")
    history.model_says("so", cost_micros=900)
    step = history.say("m2")
    assert step.effects == ()
    (breach,) = breaches(history)
    assert (breach.scope, breach.spent, breach.reserved) == ("session", 900, 900)
    assert history.kinds()[-3:] == ["TurnStarted", "BudgetExceeded", "TurnFailed"]


def test_tokens_count_as_money_does() -> None:
    """With the dearest call in tokens as the reserve."""
    history = history_of(turn_tokens=100)
    history.say("m1")
    for _ in range(3):
        round_of(history, 0, tokens=30)
    (breach,) = breaches(history)
    assert (breach.unit, breach.limit, breach.spent, breach.reserved) == ("tokens", 100, 90, 30)
    history = history_of(session_tokens=100)
    history.say("m1")
    history.model_says("so", tokens=80)
    assert history.say("m2").effects == ()


# Asking people


def test_people_let_a_turn_go_on_once() -> None:
    """Approved, the limit counts twice for this turn, and the calls of the last answer begin; then the turn stops."""
    history = history_of(turn_micros=TEN_CENTS, on_breach="ask")
    history.say("m1")
    for _ in range(9):
        round_of(history, 10_000)
    step = history.model_says(use("add", "late"), cost_micros=10_000)
    assert step.effects == ()
    (breach,) = breaches(history)
    assert (breach.action, breach.spent, breach.limit) == ("ask", TEN_CENTS, TEN_CENTS)
    (requested,) = [event for event in step.events if isinstance(event, ApprovalRequested)]
    assert requested.tool == EXCEED_BUDGET
    assert requested.input["raised_to"] == 2 * TEN_CENTS
    assert step.timers
    history.clock.forward(3 * 24 * 3_600)
    decide(history, "approve")
    (order,) = history.steps[-1].effects
    assert isinstance(order, CallTool), "what the model asked for when the money was gone"
    assert order.timeout_ms == 600_000, "the time that people take is not the turn's"
    history.tool_returns(order.call_id)
    loop(history, 10_000)
    assert spent(history) == 2 * TEN_CENTS
    assert [breach.action for breach in breaches(history)] == ["ask", "stop"]
    assert breaches(history)[-1].limit == 2 * TEN_CENTS
    assert history.say("m2").effects, "the next turn begins with the plain limit"


def test_people_let_the_model_go_on() -> None:
    """Where no call of the model waits, the model is called."""
    history = history_of(session_micros=1_000, on_breach="ask")
    history.say("m1")
    history.model_says("so", cost_micros=900)
    assert history.say("m2").effects == ()
    decide(history, "approve")
    (order,) = history.steps[-1].effects
    assert isinstance(order, CallModel)
    history.model_says("so too", cost_micros=900)
    assert isinstance(history.seen[-1], TurnCompleted)
    assert history.say("m3").effects == ()
    assert breaches(history)[-1].action == "stop", "with the limit counted twice, it would not be enough either"


@pytest.mark.parametrize("denied", [True, False])
def test_a_denial_and_a_decision_that_does_not_come_end_the_turn(*, denied: bool) -> None:
    """The failure says so; what the model asked for last is not done."""
    history = history_of(turn_micros=100, on_breach="ask")
    history.say("m1")
    round_of(history, 60)
    (call_id,) = history.pending(CallKind.APPROVAL)
    if denied:
        decide(history, "deny", reason="too dear")
    else:
        due = history.clock.at + timedelta(days=7)
        history.clock.forward(7 * 24 * 3_600)
        history.feed(TimerFired(session_id="s1", call_id=call_id, due=due, at=history.clock.at))
    failure = history.failure()
    assert failure.code == FailureCode.BUDGET_EXCEEDED
    assert ("denied by ann: too dear" if denied else "nobody decided in time") in failure.message
    assert not any(order for step in history.steps[1:] for order in step.effects)
    assert history.say("m2").effects


def test_an_approval_raises_a_budget_by_what_it_says() -> None:
    """Changed arguments are refused: they would promise something else."""
    history = history_of(turn_micros=100, on_breach="ask")
    history.say("m1")
    round_of(history, 60)
    decide(history, "approve", input={"raised_to": 10**9})
    assert history.steps[-1].refusal is not None
    assert history.pending(CallKind.APPROVAL)


def test_who_may_approve_money_is_said_in_the_spec() -> None:
    """As for every tool."""
    spec = msgspec.convert(
        {
            "name": "assistant",
            "instructions": "x",
            "tools": ["add"],
            "approval": {"exceed_budget": {"approvers": ["boss"]}},
            "budget": {"turn_micros": 100, "on_breach": "ask"},
        },
        AgentSpec,
    )
    history = History(catalog(spec))
    history.say("m1")
    round_of(history, 60)
    decide(history, "approve")
    assert history.steps[-1].refusal is not None
    assert history.pending(CallKind.APPROVAL)


# A cheaper model


def test_a_cheaper_model_goes_on_until_twice_the_limit_is_spent() -> None:
    """The order and the prompt name it; the next turn begins with the agent's own."""
    history = history_of(turn_micros=TEN_CENTS, on_breach="cheaper", cheaper_model="claude-haiku-5-5")
    history.say("m1")
    (first,) = history.steps[-1].effects
    assert isinstance(first, CallModel)
    assert first.model is UNSET
    for _ in range(10):
        round_of(history, 10_000)
    assert history.session is not None
    assert build_prompt(history.catalog.agents["assistant"], [], history.session).model == "claude-haiku-5-5"
    (order,) = [order for order in history.steps[-1].effects if isinstance(order, CallModel)]
    assert order.model == "claude-haiku-5-5"
    loop(history, 1_000)
    assert [(breach.action, breach.limit) for breach in breaches(history)] == [
        ("cheaper", TEN_CENTS),
        ("stop", 2 * TEN_CENTS),
    ]
    assert spent(history) <= 2 * TEN_CENTS
    (again,) = history.say("m2").effects
    assert isinstance(again, CallModel)
    assert again.model is UNSET


# Declarations


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ({"on_breach": "cheaper"}, "cheaper_model"),
        ({"cheaper_model": "m"}, "cheaper_model"),
        ({"turn_micros": 10, "reserve_micros": 11}, "reserve_micros"),
        ({"reserve_micros": 11}, "reserve_micros"),
        ({"turn_micros": 0}, "turn_micros"),
        ({"turn_dollars": 1}, "turn_dollars"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(budget: dict[str, Any], problem: str) -> None:
    """When the agent is declared, not when it runs."""
    with pytest.raises(msgspec.ValidationError, match=problem):
        msgspec.convert(budget, Budget)


def test_money_is_approved_only_where_the_budget_asks() -> None:
    """A rule that nothing would follow is refused."""
    with pytest.raises(ValueError, match="approval"):
        AgentSpec(name="a", instructions="x", approval=(EXCEED_BUDGET,), budget=Budget(turn_micros=1))


# Calls


def test_model_calls_count_in_turn_and_session() -> None:
    """Failed ones too; a turn with as many as it may have does not begin what its last answer asks for."""
    history = history_of(turn_calls=2, session_calls=4)
    history.say("m1")
    loop(history, 1)
    (breach,) = breaches(history)
    assert (breach.scope, breach.unit, breach.limit, breach.spent, breach.reserved) == ("turn", "calls", 2, 2, 1)
    assert "at most 2 model calls in a turn" in history.failure().message
    history.say("m2")
    history.model_fails(FailureCode.OVERLOADED)
    history.say("m3")
    history.model_says("the fourth")
    assert isinstance(history.seen[-1], TurnCompleted)
    assert history.say("m4").effects == ()
    assert breaches(history)[-1].scope == "session"
