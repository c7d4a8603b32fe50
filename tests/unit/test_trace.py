"""The tree of sessions that a run is, from their agent events."""

from datetime import timedelta

from histories import NOW, agent, catalog, use
from msgspec.structs import replace
from team import Team

from agents.approval_rule import ApprovalRule
from agents.budget import EXCEED_BUDGET, Budget
from agents.spec import AgentSpec
from headrace.trace import TracedTurn, trace_of
from schemas.content import ToolUseBlock
from schemas.failure import FailureCode
from schemas.log import ApprovalDecided


def told(world: Team) -> tuple[TracedTurn, ...]:
    """As a reader has it: events may come twice."""
    return trace_of("s1", {name: session.seen for name, session in world.sessions.items()})


def test_a_turn_has_those_that_it_asked() -> None:
    """While they run they say so; at the end each has its time, tokens and cost."""
    lead = replace(agent("lead"), agents=("helper",))
    world = Team(catalog(lead, agent("helper")))
    parent = world.session("s1")
    parent.say("m1")
    uses = [ToolUseBlock(id=f"u{n}", name="ask_helper", input={"message": "why?"}) for n in (1, 2)]
    world.hear(parent.model_says(*uses, ToolUseBlock(id="u3", name="send", input={})))
    world.deliver()
    world.clock.forward(2)
    world.hear(world.session("s1~1.3").model_fails(FailureCode.OVERLOADED))
    world.deliver()
    (turn,) = told(world)
    assert (turn.agent, turn.status, turn.ended_at, turn.waits_for) == (
        "lead",
        "running",
        None,
        "waits for approval of send",
    )
    running, failed = turn.asked
    assert (running.session_id, running.status, failed.session_id, failed.status) == (
        "s1~1.2",
        "running",
        "s1~1.3",
        "failed",
    )
    assert failed.details(NOW) == "2.00 s, 1 tokens, $0.000000, why"
    assert running.details(NOW + timedelta(seconds=5)) == "5.00 s"
    world.hear(world.session("s1~1.2").model_says("because", tokens=7))
    world.deliver()
    world.hear(parent.decide("s1/1/4", "deny"))
    parent.model_says("so that is why")
    (turn,) = told(world)
    assert (turn.status, turn.cost_micros, turn.asked_cost_micros, turn.tool_calls) == ("completed", 4, 2, 0)
    assert turn.details(NOW) == "2.00 s, 2 tokens, $0.000004, with all it asked $0.000006"


def test_a_turn_waits_until_people_have_decided() -> None:
    """Also about a budget, where no call follows: the turn goes on with its model."""
    budget = Budget(turn_micros=100, on_breach="ask")
    rule = {EXCEED_BUDGET: ApprovalRule(approvals=2)}
    world = Team(catalog(replace(agent(), budget=budget, approval=rule)))
    parent = world.session("s1")
    parent.say("m1")
    parent.model_says(use("add", "u1"), cost_micros=80)
    (waiting,) = parent.pending()
    assert told(world)[0].waits_for == "waits for approval of exceed_budget"
    decided = ApprovalDecided(
        session_id="s1", command_id="c1", call_id=waiting, decision="approve", at=world.clock.at, by="ann"
    )
    parent.feed(decided)
    assert told(world)[0].waits_for == "waits for approval of exceed_budget", "one more must approve"
    parent.feed(replace(decided, command_id="c2", by="bob"))
    (turn,) = told(world)
    assert (turn.status, turn.waits_for) == ("running", "")


def test_a_session_has_all_its_turns() -> None:
    """Oldest first; one that was turned away is among them."""
    world = Team(catalog(agent()))
    parent = world.session("s1")
    parent.say("m1")
    parent.model_says("one")
    parent.say("m2", agent="nobody")
    assert [(turn.turn_id, turn.status) for turn in told(world)] == [("s1/1", "completed"), ("s1/2", "failed")]


def test_a_broadcast_has_the_agents_that_it_reached() -> None:
    """Under the turn that sent it, or by itself; who did not reply is named."""
    chair = AgentSpec(name="chair", instructions="Ask.", broadcasts=True)
    world = Team(catalog(chair, agent("ada"), agent("bob")))
    parent = world.session("s1")
    parent.say("m1")
    world.hear(parent.model_says(ToolUseBlock(id="u1", name="broadcast", input={"message": "why?", "quorum": 1})))
    world.deliver()
    world.clock.forward(2)
    world.hear(world.session("s1~1.2:bob").model_says("because", tokens=7))
    world.deliver()
    (turn,) = told(world)
    (gathering,) = turn.asked
    assert (gathering.session_id, gathering.agent, gathering.status) == ("s1~1.2:@", "@", "gathered")
    assert [(one.agent, one.status) for one in gathering.asked] == [("ada", "cancelled"), ("bob", "completed")]
    assert gathering.details(NOW) == "2.00 s, 0 tokens, $0.000000, with all it asked $0.000002, no reply from ada"
    (alone,) = trace_of("s1~1.2:@", {name: session.seen for name, session in world.sessions.items()})
    assert alone == gathering
