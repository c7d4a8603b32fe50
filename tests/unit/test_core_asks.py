"""Agents that ask agents, and hand over: what one session says to another, and what comes back."""

from datetime import timedelta

import pytest
from histories import NOW, Fold, History, agent, catalog, use
from msgspec.structs import replace
from team import HELPER, LEAD, Team, ask, asked

from agents.approval_rule import ApprovalRule
from agents.catalog import Catalog
from agents.draft import Step, Timer
from agents.limits import Limits
from agents.session import CallKind
from agents.spec import AgentSpec
from schemas.content import ToolUseBlock
from schemas.effects import CallModel, CallTool
from schemas.events import HandedOff, ToolCalled, ToolReturned, TurnCancelled, TurnCompleted, TurnStarted
from schemas.failure import FailureCode
from schemas.ids import child_session_id
from schemas.log import ApprovalDecided, CancelRequested, ChildEnded, TimerFired


def team(**limits: int) -> Catalog:
    """A lead that asks a helper, which may ask itself, and hands over to an expert; the helper has a tool."""
    return catalog(
        AgentSpec(
            name=LEAD,
            instructions="Lead.",
            agents=(HELPER,),
            handoffs=("expert",),
            tools=("add",),
            limits=Limits(**limits),
        ),
        replace(agent(HELPER), agents=(HELPER,)),
        AgentSpec(name="expert", instructions="Know.", tools=("send",)),
    )


def handoff(id: str = "u9") -> ToolUseBlock:
    return ToolUseBlock(id=id, name="hand_off_to_expert", input={"message": "an invoice"})


def test_an_agent_is_asked_in_a_session_of_its_own_and_its_end_is_the_result() -> None:
    """The child sees the question only; the parent's model goes on with the answer, and the cost is told apart."""
    world = Team(team())
    parent = world.session("s1")
    parent.say("m1", user_id="ann", tenant="acme")
    step = world.hear(parent.model_says("let me ask", ask()))
    (message,) = asked(step)
    assert message.session_id == child_session_id("s1", 1, 2) == "s1~1.2"
    assert (message.agent, message.user_id, message.tenant) == (HELPER, "ann", "acme")
    assert message.message_id == "s1/1/2"
    assert message.asked_by is not None
    assert (message.asked_by.session_id, message.asked_by.call_id, message.asked_by.depth) == ("s1", "s1/1/2", 1)
    called = parent.seen[-1]
    assert isinstance(called, ToolCalled)
    assert called.child_session_id == message.session_id
    assert step.effects == ()
    assert step.timers == (Timer("s1/1/2", NOW + timedelta(days=1)),)
    world.deliver()
    child = world.session(message.session_id)
    started = child.seen[0]
    assert isinstance(started, TurnStarted)
    assert started.asked_by == message.asked_by
    ended = world.hear(child.model_says("it is 42", tokens=7))
    (fact,) = ended.facts
    assert isinstance(fact, ChildEnded)
    assert (fact.session_id, fact.content, fact.is_error, fact.tokens, fact.cost_micros) == (
        "s1",
        "it is 42",
        False,
        7,
        2,
    )
    world.deliver()
    returned = parent.seen[-1]
    assert isinstance(returned, ToolReturned)
    assert (returned.content, returned.child_session_id) == ("it is 42", message.session_id)
    (again,) = parent.steps[-1].effects
    assert isinstance(again, CallModel)
    parent.model_says("so it is 42")
    (end,) = parent.ends()
    assert isinstance(end, TurnCompleted)
    assert (end.text, end.cost_micros, end.asked_cost_micros) == ("so it is 42", 4, 2)


def test_several_are_asked_at_once_beside_a_tool() -> None:
    """The model goes on when the last of them is there, in whatever order."""
    world = Team(team())
    parent = world.session("s1")
    parent.say("m1")
    step = world.hear(parent.model_says(ask("u1"), ask("u2"), use("add", "u3")))
    one, two = (message.session_id for message in asked(step))
    assert {one, two} == {"s1~1.2", "s1~1.3"}
    world.deliver()
    world.hear(world.session(two).model_says("two"))
    world.deliver()
    parent.tool_returns("s1/1/4", "three")
    assert not parent.pending(CallKind.MODEL)
    world.hear(world.session(one).model_says("one"))
    world.deliver()
    parent.model_call()
    results = parent.prompt_of(LEAD).messages[-1]["content"]
    assert [result["content"] for result in results] == ["one", "two", "three"]


def test_what_was_said_twice_counts_once() -> None:
    """A worker that died says it again: the child is one, and so is its answer."""
    world = Team(team())
    parent = world.session("s1")
    parent.say("m1")
    (message,) = asked(parent.model_says(ask()))
    child = world.session(message.session_id)
    child.feed(message)
    assert child.feed(message).effects == ()
    (answer,) = child.model_says("42").facts
    parent.feed(answer)
    before = parent.session
    assert before is not None
    assert parent.feed(answer).effects == ()
    assert parent.session is not None
    assert parent.session.transcript == before.transcript
    assert child.feed(message).events == ()


def test_a_child_that_fails_is_a_result_that_the_model_can_act_on() -> None:
    """Whatever the reason: the turn of the parent goes on."""
    world = Team(team())
    parent = world.session("s1")
    parent.say("m1")
    world.hear(parent.model_says(ask()))
    world.deliver()
    world.hear(world.session("s1~1.2").model_fails(FailureCode.OVERLOADED))
    world.deliver()
    returned = parent.seen[-1]
    assert isinstance(returned, ToolReturned)
    assert returned.is_error
    assert "helper" in returned.content
    assert "why" in returned.content
    parent.model_says("without it, then")
    assert isinstance(parent.seen[-1], TurnCompleted)


def test_cancelling_the_parent_cancels_what_it_asked_at_every_depth() -> None:
    """And a child that has ended meanwhile is no error."""
    world = Team(team())
    parent = world.session("s1")
    parent.say("m1")
    world.hear(parent.model_says(ask("u1"), ask("u2")))
    world.deliver()
    world.hear(world.session("s1~1.2").model_says(ask()))
    world.deliver()
    grandchild = world.session("s1~1.2~1.2")
    assert grandchild.pending(CallKind.MODEL)
    late = world.session("s1~1.3").model_says("done")
    world.hear(parent.cancel())
    world.said += late.facts
    world.deliver()
    assert isinstance(parent.seen[-1], TurnCancelled)
    assert isinstance(world.session("s1~1.2").seen[-1], TurnCancelled)
    assert isinstance(grandchild.seen[-1], TurnCancelled)
    assert isinstance(world.session("s1~1.3").seen[-1], TurnCompleted)
    assert all(step.refusal is None for history in world.sessions.values() for step in history.steps)
    assert len(parent.ends()) == 1


def test_a_cancelled_child_that_never_began_has_nothing_to_cancel() -> None:
    """The order to cancel may come to a session that is gone."""
    world = Team(team())
    parent = world.session("s1")
    parent.say("m1")
    parent.model_says(ask())
    (fact,) = parent.cancel().facts
    assert isinstance(fact, CancelRequested)
    assert Fold(world.agents, fact.session_id).feed(fact) == Step(session=None)


def test_an_answer_that_takes_too_long_is_not_waited_for() -> None:
    """The timer is a fact of the log: the child is cancelled, and its late answer changes nothing."""
    world = Team(team(ask_seconds=60))
    parent = world.session("s1")
    parent.say("m1")
    world.hear(parent.model_says(ask()))
    world.deliver()
    due = NOW + timedelta(seconds=60)
    early = TimerFired(session_id="s1", call_id="s1/1/2", due=due - timedelta(seconds=1), at=due)
    assert parent.feed(early).events == (), "of an earlier wait"
    world.clock.forward(61)
    fired = TimerFired(session_id="s1", call_id="s1/1/2", due=due, at=world.clock.at)
    step = world.hear(parent.feed(fired))
    assert step.settled == ("s1/1/2",)
    assert parent.pending(CallKind.MODEL)
    late = world.session("s1~1.2").model_says("too late").facts
    world.said += late
    world.deliver()
    assert [event.is_error for event in parent.seen if isinstance(event, ToolReturned)] == [True]
    assert parent.feed(fired).events == ()


def test_the_time_that_an_answer_takes_is_not_the_turns() -> None:
    """A child has limits of its own, and may wait for people."""
    world = Team(team(turn_seconds=100))
    parent = world.session("s1")
    parent.say("m1")
    world.hear(parent.model_says(ask()))
    world.deliver()
    world.clock.forward(1_000)
    world.hear(world.session("s1~1.2").model_says("42"))
    world.deliver()
    (order,) = parent.steps[-1].effects
    assert order.timeout_ms == 100_000


@pytest.mark.parametrize(
    ("limits", "uses", "problem"),
    [
        ({"asks_per_turn": 1}, (ask("u1"), ask("u2")), "at most 1 questions"),
        ({}, (ask("u1"), ask("u2", message=7)), "expected `message` to be a text"),
        ({}, (ask("u1"), ask("u2", message="  ")), "expected `message` to be a text"),
        ({}, (ask("u1"), ask("u2", agent="nobody")), "expected one of the tools"),
    ],
)
def test_a_question_that_cannot_be_asked_has_its_result_at_once(
    limits: dict[str, int], uses: tuple[ToolUseBlock, ...], problem: str
) -> None:
    """The model reads what to do instead; the others go on."""
    world = Team(team(**limits))
    parent = world.session("s1")
    parent.say("m1")
    step = parent.model_says(*uses)
    assert len(asked(step)) == 1
    (returned,) = [event for event in step.events if isinstance(event, ToolReturned)]
    assert returned.is_error
    assert problem in returned.content


def test_agents_that_ask_each_other_come_to_an_end() -> None:
    """The deepest one is told to answer itself."""
    world = Team(team())
    world.session("s1").say("m1")
    name = "s1"
    for _ in range(4):
        world.hear(world.session(name).model_says(ask()))
        world.deliver()
        name += "~1.2"
    step = world.session(name).model_says(ask())
    assert step.facts == ()
    assert [event.is_error for event in step.events if isinstance(event, ToolReturned)] == [True]


def test_a_long_id_leaves_room_for_its_children() -> None:
    """Ids of children differ, and stay ids."""
    children = {child_session_id("s" * 199, 1, step) for step in range(1, 50)} | {child_session_id("s" * 198, 1, 1)}
    assert len(children) == 50
    assert max(map(len, children)) <= 200


def test_a_conversation_is_passed_on() -> None:
    """The other agent sees all of it, has its own tools, and answers this message and the next."""
    world = Team(team())
    parent = world.session("s1")
    parent.say("m1")
    step = parent.model_says("this is for another", handoff(), use("add", "u1"))
    assert [type(order) for order in step.effects] == [CallTool]
    (passed,) = [event for event in step.events if isinstance(event, HandedOff)]
    assert (passed.agent, passed.to_agent, passed.reason) == (LEAD, "expert", "an invoice")
    (order,) = parent.tool_returns("s1/1/2").effects
    assert isinstance(order, CallModel)
    assert order.agent == "expert"
    parent.model_says("I am the expert")
    (end,) = parent.ends()
    assert end.agent == "expert"
    (order,) = parent.say("m2").effects
    assert order.agent == "expert"
    step = parent.model_says(use("add", "u2"))
    assert "expected one of the tools send" in next(
        event.content for event in step.events if isinstance(event, ToolReturned)
    )


@pytest.mark.parametrize("name", ["ask_helper", "add"])
def test_a_call_that_waits_for_people_is_not_handed_over(name: str) -> None:
    """It has the rule of the agent that made it, and is what that one meant by it."""
    rule = ApprovalRule(approvers=("ann",))
    world = Team(
        catalog(
            AgentSpec(
                name=LEAD,
                instructions="Lead.",
                agents=(HELPER,),
                handoffs=("expert",),
                tools=("add",),
                approval={name: rule},
            ),
            agent(HELPER),
            AgentSpec(name="expert", instructions="Know."),
        )
    )
    parent = world.session("s1")
    parent.say("m1")
    parent.model_says(handoff(), ToolUseBlock(id="u1", name=name, input={"message": "what?"}))
    approved = ApprovalDecided(
        session_id="s1", command_id="c1", call_id="s1/1/2", decision="approve", at=world.clock.at, by="eve"
    )
    assert parent.feed(approved).refusal is not None
    step = parent.feed(replace(approved, command_id="c2", by="ann"))
    assert len(asked(step)) == (name == "ask_helper")
    assert [effect.agent for effect in step.effects] == ([LEAD] if name == "add" else [])


def test_agents_that_pass_a_conversation_back_and_forth_come_to_an_end() -> None:
    """One that may not pass it on any more is told to answer."""
    world = Team(
        catalog(
            AgentSpec(name=LEAD, instructions="Lead.", handoffs=("expert",)),
            AgentSpec(name="expert", instructions="Know.", handoffs=(LEAD,)),
        )
    )
    history = world.session("s1")
    history.say("m1")
    for number in range(6):
        name = ("expert", LEAD)[number % 2]
        history.model_says(ToolUseBlock(id=f"u{number}", name=f"hand_off_to_{name}", input={"message": "yours"}))
    returned = [event for event in history.seen if isinstance(event, ToolReturned)]
    assert [event.is_error for event in returned] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("session_id", "tenant"), [("beta:1", None), ("beta:1", "acme"), ("plain", None), ("plain", "beta")]
)
def test_an_agent_of_another_tenant_is_as_one_that_does_not_exist(session_id: str, tenant: str | None) -> None:
    """Neither a message nor an agent reaches it; what a session's id says counts more than what the sender says."""
    theirs = AgentSpec(name="theirs", instructions="Help.", tenant="acme")
    ours = AgentSpec(name="ours", instructions="Help.", agents=("theirs",), handoffs=("theirs",))
    history = History(catalog(ours, theirs), session_id)
    history.say("m1", agent="theirs", tenant=tenant)
    assert history.failure().code == FailureCode.UNKNOWN_AGENT
    assert "theirs" not in history.failure().message.partition(", got")[0]
    history.say("m2", agent="ours", tenant=tenant)
    step = history.model_says(
        ToolUseBlock(id="u1", name="ask_theirs", input={"message": "hi"}),
        ToolUseBlock(id="u2", name="hand_off_to_theirs", input={"message": "hi"}),
    )
    assert step.facts == ()
    assert [event.is_error for event in step.events if isinstance(event, ToolReturned)] == [True, True]


def test_an_agent_serves_its_own_tenant() -> None:
    """By the session's id, or by what the message says where the id says nothing."""
    theirs = AgentSpec(name="theirs", instructions="Help.", tenant="acme")
    for session_id, tenant in (("acme:1", None), ("acme:1", "beta"), ("plain", "acme")):
        history = History(catalog(theirs), session_id)
        (order,) = history.say("m1", tenant=tenant).effects
        assert isinstance(order, CallModel)
