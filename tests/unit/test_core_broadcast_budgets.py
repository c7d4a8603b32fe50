"""What a broadcast, or any message, may cost: the limit holds for the turn that answers it, and for no other."""

from datetime import timedelta

from histories import NOW, History, agent, catalog, use
from msgspec.structs import replace
from team import Team, ask, asked

from agents.budget import Budget
from schemas.content import TextBlock
from schemas.events import BroadcastCompleted, BudgetExceeded
from schemas.failure import FailureCode
from schemas.log import BroadcastAccepted, MessageAccepted


def test_those_that_are_gathered_share_the_budget() -> None:
    """Who takes more than its share fails, and that is its reply; what others leave is not given to it."""
    world = Team(catalog(agent("ada"), agent("bob"), agent("cy")))
    world.said.append(
        BroadcastAccepted(
            session_id="b:@",
            broadcast_id="b",
            content=(TextBlock(text="read it"),),
            gather="all",
            deadline=NOW + timedelta(seconds=30),
            at=NOW,
            budget_micros=302,
        )
    )
    world.deliver()
    messages = [world.session(f"b:{name}").log[0][1] for name in ("ada", "bob", "cy")]
    assert [message.budget_micros for message in messages if isinstance(message, MessageAccepted)] == [100] * 3
    for name in ("ada", "bob"):
        world.hear(world.session(f"b:{name}").model_says("done", cost_micros=10))
    greedy = world.session("b:cy")
    world.hear(greedy.model_says(use("add", "u1"), cost_micros=100))
    world.deliver()
    assert greedy.failure().code == FailureCode.BUDGET_EXCEEDED
    assert "at most 100 micro-dollars for this message" in greedy.failure().message
    (end,) = [event for event in world.session("b:@").seen if isinstance(event, BroadcastCompleted)]
    assert [(reply.agent, reply.is_error) for reply in end.replies] == [("ada", False), ("bob", False), ("cy", True)]
    assert end.cost_micros == 120


def test_a_messages_budget_is_its_turns() -> None:
    """It holds besides the agent's, also where that one would ask people or go on; the next turn has none of it."""
    generous = replace(agent(), budget=Budget(turn_micros=1_000, on_breach="ask"))
    history = History(catalog(generous))
    history.say("m1", budget_micros=50)
    history.model_says(use("add", "u1"), cost_micros=60)
    (breach,) = [event for event in history.seen if isinstance(event, BudgetExceeded)]
    assert (breach.scope, breach.limit, breach.spent, breach.action) == ("message", 50, 60, "stop")
    history.say("m2")
    history.model_says(use("add", "u2"), cost_micros=60)
    assert history.pending() == ["s1/2/2"]


def test_a_share_of_nothing_buys_nothing() -> None:
    """A budget smaller than the number of agents: the turn ends before it calls the model."""
    history = History()
    step = history.say("m1", budget_micros=0)
    assert step.effects == ()
    assert history.failure().code == FailureCode.BUDGET_EXCEEDED


def test_it_is_handed_down_to_asked_agents() -> None:
    """What is left is what they may take."""
    world = Team(catalog(replace(agent("lead"), agents=("helper",)), agent("helper")))
    parent = world.session("s1")
    parent.say("m1", budget_micros=100)
    (message,) = asked(parent.model_says(ask(), cost_micros=10))
    assert message.asked_by is not None
    assert (message.asked_by.budget_micros, message.budget_micros) == (80, None)
