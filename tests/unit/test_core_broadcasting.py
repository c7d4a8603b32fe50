"""Agents that broadcast: the call becomes a session that gathers the replies, and what it gathered is the result."""

from datetime import timedelta
from typing import Any

import pytest
from histories import NOW, History, agent, catalog
from msgspec.structs import replace
from team import Team, ask, asked

from agents.broadcasting import definitions
from agents.budget import Budget
from agents.catalog import AgentsFileError, Catalog, parse_agents
from agents.draft import Step
from agents.limits import Limits
from agents.session import CallKind
from agents.spec import AgentSpec
from schemas.content import ToolUseBlock
from schemas.events import BroadcastCompleted, BroadcastReplied, ToolReturned, TurnCancelled, TurnCompleted
from schemas.failure import FailureCode
from schemas.gather import MAX_BROADCAST_ID_CHARS, AudienceOf, call_broadcast_id
from schemas.log import BroadcastAccepted, CancelRequested, ChildEnded, MessageAccepted, SessionEvent, TimerFired

ADA, BOB, CHAIR = "ada", "bob", "chair"
GATHERING, SENDER = "s1~1.2:@", "@chair"


def spec(name: str = CHAIR, **fields: Any) -> AgentSpec:
    return AgentSpec(**{"name": name, "instructions": "Lead.", "broadcasts": True, **fields})


def agents(chair: AgentSpec | None = None) -> Catalog:
    can = {"capabilities": ("counting",)}
    return catalog(
        chair or spec(), agent(ADA), replace(agent(BOB), **can), replace(agent("foreign"), tenant="globex", **can)
    )


def cast(id: str = "u1", **arguments: Any) -> ToolUseBlock:
    return ToolUseBlock(id=id, name="broadcast", input={"message": "is it sound?", **arguments})


def begin(world: Team, *uses: ToolUseBlock, session: str = "s1", **fields: Any) -> Step:
    """A person's message, and the broadcasts that the model answers it with."""
    history = world.session(session)
    history.say(f"m{history.offset}", **fields)
    return world.hear(history.model_says(*uses))


def says(world: Team, name: str, text: str, broadcast_id: str = "s1~1.2", **fields: Any) -> None:
    world.hear(world.session(f"{broadcast_id}:{name}").model_says(text, **fields))
    world.deliver()


def result(history: History) -> ToolReturned:
    return [event for event in history.seen if isinstance(event, ToolReturned)][-1]


def completed(world: Team, session: str = GATHERING) -> BroadcastCompleted:
    (end,) = [event for event in world.session(session).seen if isinstance(event, BroadcastCompleted)]
    return end


def test_what_is_gathered_is_the_result_of_the_call() -> None:
    """All others get it, the sender does not; what they took counts in its turn; one call, one gathering."""
    world = Team(agents())
    begin(world, cast(), user_id="ann")
    world.deliver()
    parent = world.session("s1")
    assert parent.pending(CallKind.ASK) == ["s1/1/2"]
    assert world.session(GATHERING).kinds() == ["BroadcastDelivered"] * 2
    first = world.session("s1~1.2:ada").log[0][1]
    assert isinstance(first, MessageAccepted)
    assert (first.user_id, first.hops, first.metadata) == ("ann", 1, {"broadcast_id": "s1~1.2"})
    says(world, ADA, "yes", cost_micros=5, tokens=3)
    says(world, BOB, "no", cost_micros=7)
    told = result(parent)
    assert (told.is_error, told.child_session_id) == (False, GATHERING)
    assert "[ada]\nyes" in told.content
    assert "[bob]\nno" in told.content
    parent.model_says("they differ")
    end = parent.seen[-1]
    assert isinstance(end, TurnCompleted)
    assert end.asked_cost_micros == 12
    assert world.said == []


def test_with_a_quorum_the_others_are_cancelled_and_their_bill_is_counted_later() -> None:
    """The model goes on with one answer; what the other one took until then still counts in the session's budget."""
    world = Team(agents(spec(budget=Budget(session_micros=1_000))))
    begin(world, cast(quorum=1))
    world.deliver()
    says(world, ADA, "yes", cost_micros=5)
    parent = world.session("s1")
    assert "[ada]\nyes" in result(parent).content
    assert "No reply from: bob" in result(parent).content
    assert any(isinstance(event, TurnCancelled) for event in world.session("s1~1.2:bob").seen)
    assert parent.session is not None
    assert parent.session.head.ledger is not None
    assert (parent.session.head.ledger.asked_micros, parent.session.head.ledger.unheard) == (5, ())


def test_with_all_what_comes_after_the_deadline_is_paid_by_the_asker_too() -> None:
    """The call has its result at the deadline, and the rest of the bill comes under a name of its own, once."""
    world = Team(agents(spec(budget=Budget(session_micros=1_000))))
    begin(world, cast(deadline_seconds=30))
    world.deliver()
    says(world, ADA, "yes", cost_micros=5)
    world.clock.forward(30)
    due = NOW + timedelta(seconds=30)
    world.hear(
        world.session(GATHERING).feed(TimerFired(session_id=GATHERING, call_id=f"{GATHERING}/1/0", due=due, at=due))
    )
    (first,) = world.said
    world.deliver()
    parent = world.session("s1")
    assert (completed(world).reason, completed(world).missing) == ("deadline", (BOB,))
    parent.feed(first)
    assert _asked_micros(parent) == 5, "told twice, counted once"
    world.hear(world.session("s1~1.2:bob").model_says("late", cost_micros=7))
    world.deliver()
    assert _asked_micros(parent) == 12
    rest = [event for _, event, _ in parent.log if isinstance(event, ChildEnded)][-1]
    parent.feed(rest)
    assert (rest.call_id, _asked_micros(parent)) == ("s1/1/2/rest", 12)
    assert parent.session is not None
    assert parent.session.head.turn is not None
    assert parent.session.head.turn.asked_cost_micros == 12


def _asked_micros(history: History) -> int:
    assert history.session is not None
    assert history.session.head.ledger is not None
    return history.session.head.ledger.asked_micros


def test_where_nobody_waits_the_model_goes_on_at_once() -> None:
    """It is told who gets it; the agents answer to nobody, and what they took is told when all of them have ended."""
    world = Team(agents(spec(budget=Budget(session_micros=1_000))))
    step = begin(world, cast(gather="none"))
    parent = world.session("s1")
    assert "ada, bob" in result(parent).content
    assert len(step.effects) == 1, "the model goes on"
    assert step.timers == ()
    world.deliver()
    assert completed(world).reason == "gathered"
    parent.model_says("sent")
    for name in (ADA, BOB):
        says(world, name, "noted", cost_micros=4)
    replies = [event for event in world.session(GATHERING).seen if isinstance(event, BroadcastReplied)]
    assert [reply.late for reply in replies] == [True, True]
    assert _asked_micros(parent) == 8
    assert len(parent.ends()) == 1


def test_whom_it_may_address() -> None:
    """Within what its spec allows, by name or by what they can do; never itself, never another tenant's agents."""

    def reached(chair: AgentSpec, session: str = "s1", **arguments: Any) -> tuple[str, ...]:
        world = Team(agents(chair))
        step = begin(world, cast(**arguments), session=session)
        audiences = [fact.audience for fact in step.facts if isinstance(fact, BroadcastAccepted)]
        return tuple(name for audience in audiences if isinstance(audience, tuple) for name in audience)

    assert reached(spec()) == (ADA, BOB)
    assert reached(spec(), session="globex:s1") == (ADA, BOB, "foreign")
    assert reached(spec(broadcasts=(BOB, CHAIR, "ghost"))) == (BOB,)
    assert reached(spec(broadcasts=AudienceOf(capability="counting"))) == (BOB,)
    assert reached(spec(), capability="counting") == (BOB,)
    assert reached(spec(), agents=[ADA]) == (ADA,)
    assert reached(spec(), agents=[ADA, "foreign"]) == ()
    assert reached(spec(broadcasts=(BOB,)), agents=[ADA]) == ()
    assert reached(spec(broadcasts=(CHAIR,))) == ()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"message": ""}, "length >= 1"),
        ({"to": "all"}, "unknown field `to`"),
        ({"quorum": 0}, ">= 1"),
        ({"agents": ["ada", "ghost"]}, "expected agents among ada, bob, got ghost"),
        ({"capability": "singing"}, "got none that can do `singing`"),
        ({"gather": "some"}, "Invalid enum value"),
    ],
)
def test_what_cannot_be_sent_is_a_result_that_says_why(arguments: dict[str, Any], expected: str) -> None:
    """The model can call it again; nothing left the session."""
    world = Team(agents())
    step = begin(world, cast(**arguments))
    told = result(world.session("s1"))
    assert told.is_error
    assert expected.lower() in told.content.lower()
    assert step.facts == ()


def test_it_counts_as_a_question_to_agents() -> None:
    """So the limits of a turn and of the depth hold, and the tool is there only where the spec says so."""
    world = Team(agents(spec(limits=Limits(asks_per_turn=1))))
    begin(world, cast(), cast("u2"))
    assert "at most 1 questions" in result(world.session("s1")).content
    deep = Team(agents(spec(agents=(ADA,), limits=Limits(ask_depth=1))))
    begin(deep, cast())
    deep.deliver()
    message = deep.session("s1~1.2:ada").log[0][1]
    assert isinstance(message, MessageAccepted)
    assert message.asked_by is not None
    assert message.asked_by.depth == 1
    assert list(definitions(agent())) == []
    (tool,) = definitions(spec(broadcasts=(ADA, BOB)))
    assert tool["name"] == "broadcast"
    assert "ada, bob" in tool["description"]
    assert tool["input_schema"]["required"] == ["message"]
    with pytest.raises(AgentsFileError, match="broadcasts"):
        parse_agents('[x]\nbroadcasts = true\npattern = { type = "chain", steps = ["ada"] }', "here")


def test_cancelling_the_turn_cancels_the_gathering_and_its_agents() -> None:
    """However far the broadcast has come; whoever was asked hears it once."""
    for delivered in (True, False):
        world = Team(agents())
        begin(world, cast())
        if delivered:
            world.deliver()
        world.hear(world.session("s1").cancel())
        world.said.sort(key=lambda fact: fact.session_id != GATHERING)
        world.deliver()
        assert completed(world).reason == "cancelled"
        for name in (ADA, BOB):
            assert world.session(f"s1~1.2:{name}").kinds()[-1] == "TurnCancelled"
        assert world.session("s1").kinds().count("ToolReturned") == 0


def test_a_cancelled_broadcast_tells_its_bill_once() -> None:
    """When all agents have ended; the turn that was cancelled has nothing more to do with it."""
    world = Team(agents(spec(budget=Budget(session_micros=1_000))))
    begin(world, cast())
    world.deliver()
    says(world, ADA, "yes", cost_micros=5)
    world.hear(world.session("s1").cancel())
    world.deliver()
    assert _asked_micros(world.session("s1")) == 5


def test_what_is_said_twice_changes_nothing() -> None:
    """Workers die after they told facts and before they recorded that they did: each is told again."""
    world = Team(agents())
    begin(world, cast())
    heard: list[SessionEvent] = []
    while world.said:
        fact = world.said.pop(0)
        heard.append(fact)
        for _ in range(2):
            world.hear(world.session(fact.session_id).feed(fact))
    for name in (ADA, BOB):
        world.hear(world.session(f"s1~1.2:{name}").model_says("yes"))
    while world.said:
        fact = world.said.pop(0)
        for _ in range(2):
            world.hear(world.session(fact.session_id).feed(fact))
    parent = world.session("s1")
    assert parent.kinds().count("ToolReturned") == 1
    assert parent.session is not None
    assert parent.session.head.turn is not None
    assert parent.session.head.turn.asked_cost_micros == 4
    assert world.session(SENDER).session is not None
    assert len({fact.session_id for fact in heard}) == 4
    assert sum(len(world.session(f"s1~1.2:{name}").ends()) for name in (ADA, BOB)) == 2


def test_hops_are_carried_into_the_turns_and_limit_what_they_send() -> None:
    """An agent that answers a broadcast with one, which the other answers with one, …: refused, and the model knows."""
    limits = Limits(ask_depth=100)
    pair = catalog(spec(limits=limits), spec(ADA, limits=limits))
    world = Team(pair)
    begin(world, cast())
    broadcast_id, answering = "s1~1.2", ADA
    for hops in range(1, 6):
        world.deliver()
        session = f"{broadcast_id}:{answering}"
        message = world.session(session).log[0][1]
        assert isinstance(message, MessageAccepted)
        assert message.hops == hops
        step = world.hear(world.session(session).model_says(cast()))
        broadcast_id, answering = f"{session}~1.2", CHAIR if answering == ADA else ADA
    told = result(world.session(session))
    assert told.is_error
    assert "at most 4 broadcasts that lead to one another" in told.content
    assert step.facts == ()


def test_hops_go_along_with_questions() -> None:
    """Who is asked by an agent that answers a broadcast counts on from there."""
    world = Team(catalog(spec(), replace(agent(ADA), agents=(BOB,)), agent(BOB)))
    begin(world, cast(agents=[ADA]))
    world.deliver()
    (message,) = asked(world.session("s1~1.2:ada").model_says(ask(agent=BOB)))
    assert message.hops == 1


def test_broadcasts_per_minute_are_counted_over_all_sessions_of_an_agent() -> None:
    """Of one tenant; a refused one does not count, and is refused again where it is told again."""
    world = Team(agents(spec(limits=Limits(broadcasts_per_minute=2))))
    for number in (1, 2):
        begin(world, cast(agents=[ADA]), session=f"s{number}")
        world.deliver()
    begin(world, cast(agents=[ADA]), session="s3")
    (third,) = world.said
    world.deliver()
    told = result(world.session("s3"))
    assert told.is_error
    assert "at most 2 broadcasts per minute" in told.content
    assert "s3~1.2:@" not in world.sessions
    begin(world, cast(agents=[ADA]), session="acme:s4")
    world.deliver()
    assert "acme:@chair" in world.sessions
    assert world.session("acme:s4").pending(CallKind.ASK) != []
    world.clock.forward(60)
    assert isinstance(third, BroadcastAccepted)
    again = world.session(SENDER).feed(replace(third, at=world.clock.at))
    assert [type(fact) for fact in again.facts] == [ChildEnded]
    begin(world, cast(agents=[ADA]), session="s5")
    world.deliver()
    assert world.session("s5").pending(CallKind.ASK) != []


def test_agents_share_what_the_turn_has_left() -> None:
    """As those that are asked one by one do; who takes more fails, and that is its reply."""
    world = Team(agents(spec(budget=Budget(turn_micros=102, turn_tokens=1_001))))
    begin(world, cast())
    world.deliver()
    message = world.session("s1~1.2:ada").log[0][1]
    assert isinstance(message, MessageAccepted)
    assert message.asked_by is not None
    assert (message.asked_by.budget_micros, message.asked_by.budget_tokens) == (49, 499)
    step = world.session("s1~1.2:ada").model_says(ToolUseBlock(id="u", name="add", input={}), cost_micros=50)
    world.hear(step)
    world.deliver()
    assert world.session("s1~1.2:ada").failure().code == FailureCode.BUDGET_EXCEEDED
    says(world, BOB, "yes")
    assert "[ada, failed]" in result(world.session("s1")).content


def test_a_session_that_is_in_use_is_told_to_who_asked() -> None:
    """Somebody talks where the replies would be gathered: the call does not wait for nothing."""
    world = Team(agents())
    world.session(GATHERING).say("m1")
    begin(world, cast())
    world.deliver()
    assert result(world.session("s1")).is_error


def test_the_call_ends_also_when_nobody_gathers() -> None:
    """The worker that gathers is down past the deadline: the call waits a minute more, and is an error then."""
    world = Team(agents())
    begin(world, cast(deadline_seconds=30))
    due = NOW + timedelta(seconds=90)
    step = world.session("s1").feed(TimerFired(session_id="s1", call_id="s1/1/2", due=due, at=due))
    assert [(type(fact), fact.session_id) for fact in step.facts] == [
        (CancelRequested, SENDER),
        (CancelRequested, GATHERING),
    ]
    assert result(world.session("s1")).is_error


def test_ids_belong_to_the_sessions_tenant_and_leave_room_for_an_agents_name() -> None:
    """Whatever the session is called; of two that are cut, each has its own."""
    assert call_broadcast_id("s1", 1, 2, None) == "s1~1.2"
    assert call_broadcast_id("acme:s1", 1, 2, "acme") == "acme:s1~1.2"
    assert call_broadcast_id("s1", 1, 2, "acme") == "acme:s1~1.2"
    long = {call_broadcast_id("acme:" + "x" * 190, 1, step, "acme") for step in (2, 3)}
    assert len(long) == 2
    assert all(len(name) == MAX_BROADCAST_ID_CHARS and name.startswith("acme:xxx") for name in long)
