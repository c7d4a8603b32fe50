"""Budgets of agents that ask agents: each gets its share of what is left, and what it takes is its asker's expense."""

from datetime import timedelta
from typing import Any

from histories import catalog, use
from msgspec import UNSET
from team import HELPER, LEAD, Team, ask, asked

from agents.budget import Budget
from agents.session import CallKind
from agents.spec import AgentSpec
from schemas.events import BudgetExceeded, TurnCompleted
from schemas.log import MessageAccepted, TimerFired


def money(micros: int, **helper: Any) -> Team:
    """A lead with a budget that asks a helper."""
    lead = AgentSpec(
        name=LEAD, instructions="Lead.", agents=(HELPER,), tools=("add",), budget=Budget(turn_micros=micros)
    )
    return Team(catalog(lead, AgentSpec(name=HELPER, instructions="Help.", tools=("add",), agents=(HELPER,), **helper)))


def test_asked_agents_share_what_is_left() -> None:
    """After the reserve for the parent's own next call, which must be able to say what they found."""
    world = money(1_000)
    parent = world.session("s1")
    parent.say("m1")
    one, two = asked(parent.model_says(ask("u1"), ask("u2"), use("add", "u3"), cost_micros=100))
    for message in (one, two):
        assert message.asked_by is not None
        assert message.asked_by.budget_micros == (1_000 - 100 - 100) // 2
        assert message.asked_by.budget_tokens is UNSET


def test_an_asked_agent_stops_at_its_share_and_its_asker_goes_on() -> None:
    """Whatever its own budget says to do; the breach is a result that the model can act on, and its cost is counted."""
    world = money(1_000, budget=Budget(turn_micros=10_000, on_breach="ask"))
    parent = world.session("s1")
    parent.say("m1")
    world.hear(parent.model_says(ask("u1"), cost_micros=100))
    world.deliver()
    child = world.session("s1~1.2")
    while child.pending(CallKind.MODEL):
        step = world.hear(child.model_says(use("add", f"u{child.offset}"), cost_micros=150))
        for order in step.effects:
            world.hear(child.tool_returns(order.call_id))
    (breach,) = [event for event in child.seen if isinstance(event, BudgetExceeded)]
    assert (breach.scope, breach.limit, breach.spent, breach.action) == ("asked", 800, 750, "stop")
    world.deliver()
    assert parent.pending(CallKind.MODEL), "the reserve of the parent's next call is left"
    parent.model_says("what I have", cost_micros=100)
    end = parent.seen[-1]
    assert isinstance(end, TurnCompleted)
    assert (end.cost_micros, end.asked_cost_micros) == (200, 750)


def test_what_is_left_is_handed_down_at_every_depth() -> None:
    """A child without a budget of its own has its share, and divides it."""
    world = money(1_000)
    parent = world.session("s1")
    parent.say("m1")
    world.hear(parent.model_says(ask("u1"), cost_micros=100))
    world.deliver()
    (grandchild,) = asked(world.session("s1~1.2").model_says(ask("u1"), cost_micros=200))
    assert grandchild.asked_by is not None
    assert grandchild.asked_by.budget_micros == 800 - 200 - 200


def test_asked_agents_count_in_turn_and_session() -> None:
    """Also one that was cancelled: its bill comes late, once."""
    lead = AgentSpec(
        name=LEAD, instructions="Lead.", agents=(HELPER,), tools=("add",), budget=Budget(session_micros=1_000)
    )
    world = Team(catalog(lead, AgentSpec(name=HELPER, instructions="Help.", tools=("add",))))
    parent = world.session("s1")
    parent.say("m1")
    world.hear(parent.model_says(ask("u1"), cost_micros=10))
    world.deliver()
    child = world.session("s1~1.2")
    child.model_says(use("add", "u1"), cost_micros=400)
    world.hear(parent.cancel())
    cancelled = list(world.said)
    world.deliver()
    (bill,) = child.steps[-1].facts
    before = parent.session
    parent.feed(bill)
    assert before is not None
    assert parent.session is not None
    assert parent.session.head.ledger == before.head.ledger, "the bill was there already"
    assert cancelled
    assert parent.session.head.ledger is not None
    assert parent.session.head.ledger.asked_micros == 400


def test_a_late_bill_of_the_running_turn_counts_in_it() -> None:
    """A child that took too long is cancelled; what it cost until then is the turn's."""
    world = money(1_000)
    parent = world.session("s1")
    parent.say("m1")
    world.hear(parent.model_says(ask("u1"), cost_micros=10))
    world.deliver()
    world.session("s1~1.2").model_says(use("add", "u1"), cost_micros=400)
    due = world.clock.at + timedelta(days=1)
    world.clock.forward(24 * 3_600)
    world.hear(parent.feed(TimerFired(session_id="s1", call_id="s1/1/2", due=due, at=world.clock.at)))
    world.deliver()
    parent.model_says("without it", cost_micros=10)
    end = parent.seen[-1]
    assert isinstance(end, TurnCompleted)
    assert end.asked_cost_micros == 400


def test_calls_of_asked_agents_are_their_askers() -> None:
    """Each has its share of those that are left, and is told to stop there."""
    lead = AgentSpec(name=LEAD, instructions="Lead.", agents=(HELPER,), budget=Budget(turn_calls=5))
    world = Team(catalog(lead, AgentSpec(name=HELPER, instructions="Help.", tools=("add",))))
    parent = world.session("s1")
    parent.say("m1")
    (message,) = asked(world.hear(parent.model_says(ask("u1"))))
    assert message.asked_by is not None
    assert message.asked_by.budget_calls == 5 - 1 - 1
    world.deliver()
    child = world.session("s1~1.2")
    while child.pending(CallKind.MODEL):
        step = world.hear(child.model_says(use("add", f"u{child.offset}")))
        for order in step.effects:
            world.hear(child.tool_returns(order.call_id))
    (breach,) = [event for event in child.seen if isinstance(event, BudgetExceeded)]
    assert (breach.scope, breach.unit, breach.spent, breach.limit) == ("asked", "calls", 3, 3)
    world.deliver()
    parent.model_says("the fifth")
    assert isinstance(parent.seen[-1], TurnCompleted)
    assert parent.session is not None
    assert parent.session.head.ledger is not None
    assert (parent.session.head.ledger.calls, parent.session.head.ledger.asked_calls) == (2, 3)


def test_who_has_no_budget_shares_none() -> None:
    """And keeps no ledger: the state of such sessions is what it was."""
    world = Team(
        catalog(
            AgentSpec(name=LEAD, instructions="Lead.", agents=(HELPER,)), AgentSpec(name=HELPER, instructions="Help.")
        )
    )
    parent = world.session("s1")
    parent.say("m1")
    (message,) = world.hear(parent.model_says(ask("u1"))).facts
    assert isinstance(message, MessageAccepted)
    assert message.asked_by is not None
    assert message.asked_by.budget_micros is UNSET
    world.deliver()
    world.hear(world.session("s1~1.2").model_says("so"))
    world.deliver()
    assert parent.session is not None
    assert parent.session.head.ledger is None
