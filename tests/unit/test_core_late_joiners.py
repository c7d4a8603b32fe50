"""Agents that come after a broadcast: an open gathering asks them too, one that has ended only gives it to them."""

from datetime import timedelta
from typing import Any

from histories import NOW, agent, catalog
from msgspec.structs import replace
from team import Team

from agents.catalog import Catalog
from agents.draft import Step
from schemas.content import TextBlock
from schemas.events import BroadcastCompleted, BroadcastDelivered, BroadcastReplied
from schemas.gather import Quorum
from schemas.log import BroadcastAccepted, MessageAccepted

GATHERING = "b:@"


def agents() -> Catalog:
    """Two from the beginning, one that is applied later."""
    found = catalog(agent("ada"), agent("bob"))
    found.apply(4, "late", agent("late"))
    return found


def broadcast(gather: Any = "all", **fields: Any) -> BroadcastAccepted:
    return BroadcastAccepted(
        session_id=GATHERING,
        broadcast_id="b",
        content=(TextBlock(text="who?"),),
        gather=gather,
        deadline=NOW + timedelta(seconds=30),
        at=NOW,
        **fields,
    )


def again(world: Team, **fields: Any) -> Step:
    """The broadcast is told again, for the agent that came."""
    event = broadcast(audience=("late",), specs_offset=4, for_late_joiners=True, **fields)
    step = world.hear(world.session(GATHERING).feed(event))
    world.deliver()
    return step


def begin(gather: Any = "all", **fields: Any) -> Team:
    world = Team(agents())
    world.said.append(broadcast(gather, **fields))
    world.deliver()
    return world


def says(world: Team, *names: str) -> None:
    for name in names:
        world.hear(world.session(f"b:{name}").model_says(f"{name} here"))
    world.deliver()


def ends(world: Team) -> list[BroadcastCompleted]:
    return [event for event in world.session(GATHERING).seen if isinstance(event, BroadcastCompleted)]


def test_an_open_gathering_waits_for_who_came_later() -> None:
    """It gets the broadcast once, however often that is told, and its reply counts as the others' do."""
    world = begin(budget_micros=90)
    says(world, "ada")
    assert len(again(world, budget_micros=90).facts) == 1
    assert again(world, budget_micros=90).facts == ()
    message = world.session("b:late").log[0][1]
    assert isinstance(message, MessageAccepted)
    assert (message.hops, message.budget_micros, message.message_id) == (1, 30, "b:late")
    says(world, "bob")
    assert ends(world) == []
    says(world, "late")
    (end,) = ends(world)
    assert (end.reason, [reply.agent for reply in end.replies]) == ("gathered", ["ada", "bob", "late"])


def test_it_can_make_up_a_quorum_and_is_missing_no_longer() -> None:
    """A name that there was not is one that is asked."""
    world = begin(Quorum(quorum=2), audience=("ada", "late"))
    says(world, "ada")
    assert ends(world)[0].reason == "exhausted"
    world = begin(Quorum(quorum=2), audience=("ada", "bob", "late"))
    again(world)
    says(world, "ada", "late")
    (end,) = ends(world)
    assert (end.reason, end.missing) == ("gathered", ("bob",))


def test_one_that_has_ended_gives_it_and_waits_for_nothing() -> None:
    """The agent has it, and answers for itself; what was gathered stays as it is."""
    world = begin("first")
    says(world, "ada")
    assert len(again(world).facts) == 1
    assert again(world).facts == ()
    delivered = [event.agent for event in world.session(GATHERING).seen if isinstance(event, BroadcastDelivered)]
    assert delivered == ["ada", "bob", "late"]
    step = world.session("b:late").model_says("I come late")
    assert step.facts == ()
    assert len(ends(world)) == 1
    replied = [event.agent for event in world.session(GATHERING).seen if isinstance(event, BroadcastReplied)]
    assert "late" not in replied


def test_what_was_never_routed_is_not_begun() -> None:
    """A refused broadcast, or one whose session is a conversation: nobody gets it."""
    world = Team(agents())
    assert again(world).session is None
    world.session(GATHERING).say("m1")
    step = again(world)
    assert (step.facts, step.refusal) == ((), None)


def test_a_gathering_asks_a_hundred_at_most() -> None:
    """Whoever comes then does not get it."""
    names = [f"a{number}" for number in range(100)]
    found = catalog(*(agent(name) for name in names))
    found.apply(4, "late", agent("late"))
    world = Team(found)
    world.said.append(replace(broadcast(), audience=tuple(names)))
    world.deliver()
    assert again(world).facts == ()
