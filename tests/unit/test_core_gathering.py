"""Broadcasts that gather replies: one session asks many agents, and tells what came of it."""

from datetime import timedelta
from typing import Any

from histories import NOW, Clock, History, agent, catalog
from msgspec.structs import replace

from agents.audience import reached
from agents.catalog import Catalog
from agents.draft import Step, Timer
from agents.gathered import MAX_GATHERED_CHARACTERS
from schemas.content import TextBlock
from schemas.dead_letter import Cause
from schemas.events import BroadcastCompleted, BroadcastDelivered, BroadcastReplied, TurnCancelled, TurnFailed
from schemas.failure import FailureCode
from schemas.gather import AudienceOf, GatheredReply, Quorum
from schemas.log import BroadcastAccepted, CancelRequested, ChildEnded, MessageAccepted, SessionExpired, TimerFired
from streams.store import wait_key, writes

ID, GATHERING = "acme:b1", "acme:b1:@"
A, B, C = "ada", "bob", "cy"
DEADLINE = NOW + timedelta(seconds=30)
DUE = f"{GATHERING}/1/0"


def agents() -> Catalog:
    """Three for everybody, one of each of two tenants; bob and the tenants' agents can count."""
    can = {"capabilities": ("counting",)}
    return catalog(
        agent(A),
        replace(agent(B), **can),
        agent(C),
        replace(agent("own"), tenant="acme", **can),
        replace(agent("foreign"), tenant="globex", **can),
    )


class Broadcasting:
    """The sessions that a broadcast is about: what one says is the next fact of another's log, at `deliver`."""

    def __init__(self) -> None:
        self.agents = agents()
        self.clock = Clock()
        self.sessions: dict[str, History] = {}
        self.said: list[Any] = []

    def session(self, name: str) -> History:
        history = self.sessions.setdefault(name, History(self.agents, name))
        history.clock = self.clock
        return history

    @property
    def gathering(self) -> History:
        return self.session(GATHERING)

    def feed(self, fact: Any) -> Step:
        step = self.session(fact.session_id).feed(fact)
        self.said += step.facts
        return step

    def send(self, gather: Any = "all", audience: Any = (A, B, C), **fields: Any) -> Step:
        return self.feed(
            BroadcastAccepted(
                session_id=GATHERING,
                broadcast_id=ID,
                content=(TextBlock(text="who is there?"),),
                gather=gather,
                deadline=DEADLINE,
                at=self.clock.at,
                audience=audience,
                **{"tenant": "acme", "user_id": "ann", **fields},
            )
        )

    def deliver(self) -> None:
        while self.said:
            self.feed(self.said.pop(0))

    def says(self, name: str, text: str) -> None:
        self.said += self.session(f"{ID}:{name}").model_says(text, tokens=5).facts

    def fails(self, name: str) -> None:
        self.said += self.session(f"{ID}:{name}").model_fails(FailureCode.OVERLOADED).facts

    def time_is_over(self) -> Step:
        self.clock.forward(30)
        return self.feed(TimerFired(session_id=GATHERING, call_id=DUE, due=DEADLINE, at=self.clock.at))

    def completed(self) -> BroadcastCompleted:
        (end,) = [event for event in self.gathering.seen if isinstance(event, BroadcastCompleted)]
        return end

    def replies(self) -> list[tuple[str, bool, bool]]:
        """Who replied: whether with an error, whether late."""
        return [(e.agent, e.is_error, e.late) for e in self.gathering.seen if isinstance(e, BroadcastReplied)]

    def cancelled(self) -> list[str]:
        """Agents whose turn was cancelled."""
        return [n for n in (A, B, C) if any(isinstance(e, TurnCancelled) for e in self.session(f"{ID}:{n}").seen)]


def test_all_replies_are_gathered() -> None:
    """Each agent has a session of its own, and what it says comes together under the broadcast."""
    world = Broadcasting()
    step = world.send()
    messages = [fact for fact in step.facts if isinstance(fact, MessageAccepted)]
    assert [message.session_id for message in messages] == [f"{ID}:{name}" for name in (A, B, C)]
    for message in messages:
        assert message.message_id == message.session_id, "the same as without `gather`: answered once however routed"
        assert (message.tenant, message.user_id, message.metadata) == ("acme", "ann", {"broadcast_id": ID})
        assert message.asked_by is not None
        assert (message.asked_by.session_id, message.asked_by.depth) == (GATHERING, 1)
    assert step.effects == (), "the gathering has no model"
    assert step.timers == (Timer(DUE, DEADLINE),)
    world.deliver()
    world.says(B, "bob here")
    world.fails(C)
    world.deliver()
    assert world.gathering.kinds() == ["BroadcastDelivered"] * 3 + ["BroadcastReplied"] * 2
    world.says(A, "ada here")
    world.deliver()
    end = world.completed()
    assert (end.reason, end.missing, end.agent, end.message_id, end.cost_micros) == ("gathered", (), "@", ID, 4)
    assert [(reply.agent, reply.is_error) for reply in end.replies] == [(B, False), (C, True), (A, False)]
    assert Timer(DUE, None) in world.gathering.steps[-1].timers, "the timer is not needed any more"
    assert world.cancelled() == []


def test_the_first_answer_ends_the_others() -> None:
    """A failure is no answer; whoever is not needed is cancelled, and that is recorded as late."""
    world = Broadcasting()
    world.send("first")
    world.deliver()
    world.fails(A)
    world.deliver()
    assert "BroadcastCompleted" not in world.gathering.kinds()
    world.says(C, "me")
    world.deliver()
    end = world.completed()
    assert (end.reason, end.missing) == ("gathered", (B,))
    assert end.replies[-1] == GatheredReply(agent=C, content="me")
    assert world.cancelled() == [B]
    assert world.replies() == [(A, True, False), (C, False, False), (B, True, True)]


def test_a_quorum() -> None:
    """Two of three answers are enough."""
    world = Broadcasting()
    world.send(Quorum(quorum=2))
    world.deliver()
    world.says(B, "1")
    world.deliver()
    assert "BroadcastCompleted" not in world.gathering.kinds()
    world.says(A, "2")
    world.deliver()
    assert (world.completed().reason, world.completed().missing) == ("gathered", (C,))
    assert world.cancelled() == [C]


def test_a_quorum_that_cannot_be_reached_says_so_when_all_have_ended() -> None:
    """Nobody waits for the deadline when there is nobody left to reply."""
    world = Broadcasting()
    world.send(Quorum(quorum=2))
    world.deliver()
    for name in (A, B):
        world.fails(name)
    world.says(C, "I am")
    world.deliver()
    assert (world.completed().reason, len(world.completed().replies)) == ("exhausted", 3)


def test_the_deadline_tells_what_there_is_and_what_comes_after_is_late() -> None:
    """With `all`, everybody was wanted: nobody is cancelled, and each reply is on record once."""
    world = Broadcasting()
    world.send()
    world.deliver()
    world.says(A, "in time")
    world.deliver()
    world.time_is_over()
    world.deliver()
    end = world.completed()
    assert (end.reason, end.missing, [reply.agent for reply in end.replies]) == ("deadline", (B, C), [A])
    assert world.cancelled() == []
    world.says(B, "too late")
    world.deliver()
    assert world.replies() == [(A, False, False), (B, False, True)]
    assert world.completed() == end
    assert [event.seq for event in world.gathering.seen] == list(range(1, 7))


def test_the_deadline_of_a_quorum_cancels_whom_nobody_waits_for() -> None:
    """Who wanted two answers does not pay for them when the time is over."""
    world = Broadcasting()
    world.send(Quorum(quorum=2))
    world.deliver()
    world.time_is_over()
    world.deliver()
    assert (world.completed().reason, world.completed().replies) == ("deadline", ())
    assert world.cancelled() == [A, B, C]
    assert world.replies() == [(name, True, True) for name in (A, B, C)]


def test_what_was_said_twice_counts_once() -> None:
    """Workers that die say things again: the broadcast, a reply, the timer; also a timer of another time."""
    world = Broadcasting()
    world.send(Quorum(quorum=2))
    assert world.send(Quorum(quorum=2)).facts == ()
    world.said = world.said[:3]
    world.deliver()
    early = TimerFired(session_id=GATHERING, call_id=DUE, due=NOW, at=NOW)
    assert world.feed(early).events == ()
    world.says(A, "1")
    (reply,) = world.said
    world.deliver()
    again = world.feed(reply)
    assert (again.events, again.facts) == ((), ())
    for strange in (
        replace(reply, child_session_id=f"{ID}:{B}"),
        replace(reply, call_id="other/1/1", child_session_id=f"{ID}:{B}"),
    ):
        assert world.feed(strange).events == ()
    world.says(B, "2")
    world.deliver()
    world.time_is_over()
    assert len([e for e in world.gathering.seen if isinstance(e, BroadcastCompleted)]) == 1


def test_whom_a_broadcast_reaches() -> None:
    """Everybody's agents and its tenant's; of another tenant's agents it cannot tell whether they exist."""
    known = agents().agents
    assert reached(known, "all", None).agents == (A, B, C)
    assert reached(known, "all", "acme").agents == (A, B, C, "own")
    assert reached(known, AudienceOf(capability="counting"), "acme").agents == (B, "own")
    assert reached(known, AudienceOf(tenant="acme"), "acme").agents == ("own",)
    assert reached(known, AudienceOf(tenant="acme", capability="singing"), "acme").agents == ()
    assert reached(known, AudienceOf(tenant="globex"), "acme").agents == ()
    assert reached(known, AudienceOf(tenant="globex"), None).agents == ()
    assert reached(known, (B, "foreign", B, "ghost"), "acme") == ((B,), ("foreign", "ghost"))


def test_another_tenants_agent_is_as_missing_as_one_that_does_not_exist() -> None:
    """What is gathered is the same for both, and neither gets the broadcast."""
    world = Broadcasting()
    step = world.send(audience=(A, "foreign", "ghost"))
    assert [fact.session_id for fact in step.facts] == [f"{ID}:{A}"]
    world.deliver()
    world.says(A, "only me")
    world.deliver()
    assert (world.completed().reason, world.completed().missing) == ("gathered", ("foreign", "ghost"))


def test_a_broadcast_that_reaches_nobody_is_over_at_once() -> None:
    """Whoever waits for it need not wait for the deadline."""
    world = Broadcasting()
    step = world.send(audience=("ghost",))
    assert step.timers == ()
    assert (world.completed().reason, world.completed().missing) == ("exhausted", ("ghost",))


def test_a_wait_that_was_left_behind_is_forgotten_when_it_rings() -> None:
    """A worker died when it had stored that nobody waits any more, and before it had removed the wait."""
    world = Broadcasting()
    world.send(audience=("ghost",))
    rings = TimerFired(session_id=GATHERING, call_id=DUE, due=DEADLINE, at=DEADLINE)
    for step in (world.gathering.feed(rings), History(session_id=GATHERING).feed(rings)):
        assert step.timers == (Timer(DUE, None),)
        assert (step.events, step.effects, step.facts) == ((), (), ())
        assert (wait_key(DUE), None) in writes(GATHERING, None, step)


def test_agents_are_those_of_when_it_was_routed() -> None:
    """Whatever is applied later, a log that is folded again asks the same agents."""
    world = Broadcasting()
    world.agents.apply(4, "new", agent("new"))
    assert len(world.send(audience="all", specs_offset=3).facts) == 4
    other = Broadcasting()
    other.agents.apply(4, "new", agent("new"))
    last = other.send(audience="all", specs_offset=4).facts[-1]
    assert last.session_id == f"{ID}:new"


def test_what_was_gathered_is_sent_on() -> None:
    """`reply_to` gets a message, once, and whoever asked by a call gets its result."""
    world = Broadcasting()
    world.send("first", reply_to="acme:s1")
    world.deliver()
    world.says(A, "yes")
    world.deliver()
    told = world.session("acme:s1").log[0][1]
    assert isinstance(told, MessageAccepted)
    assert told.message_id == GATHERING
    assert (told.tenant, told.asked_by) == ("acme", None)
    (block,) = told.content
    assert isinstance(block, TextBlock)
    assert block.text.startswith("1 of 3 agents replied")
    assert "[ada]\nyes" in block.text


def test_a_gathering_is_cancelled() -> None:
    """By its id, or as whatever runs there; what was not asked for is a refusal, and so is a second time."""
    world = Broadcasting()
    world.send()
    world.deliver()
    refusal = world.gathering.cancel("another").refusal
    assert refusal is not None
    assert refusal.cause == Cause.NOTHING_TO_CANCEL
    world.said += world.gathering.cancel(ID).facts
    world.deliver()
    assert (world.completed().reason, world.completed().missing) == ("cancelled", (A, B, C))
    assert world.cancelled() == [A, B, C]
    assert world.gathering.cancel(ID).refusal is not None


def test_a_gathering_that_is_ended_cancels_its_agents() -> None:
    """And takes no messages, before and after."""
    world = Broadcasting()
    world.send()
    world.deliver()
    world.gathering.say("m1")
    turned_away = world.gathering.seen[-1]
    assert isinstance(turned_away, TurnFailed)
    assert "gathers replies" in turned_away.error.message
    world.said += world.gathering.end().facts
    world.deliver()
    assert world.completed().reason == "cancelled"
    assert world.cancelled() == [A, B, C]


def test_a_conversation_is_no_place_to_gather() -> None:
    """Somebody talked in a session of that name: the broadcast is refused, and says what to do."""
    world = Broadcasting()
    world.gathering.say("m1")
    refusal = world.send().refusal
    assert refusal is not None
    assert refusal.cause == Cause.ID_IN_USE
    assert world.said == []


def test_a_gathering_is_not_forgotten_while_it_waits() -> None:
    """A deadline may be later than the time for which idle sessions are kept."""
    world = Broadcasting()
    world.send()
    expired = SessionExpired(session_id=GATHERING, idle_since=NOW + timedelta(days=1), at=NOW + timedelta(days=2))
    assert world.feed(expired).session is not None
    world.time_is_over()
    assert world.feed(expired).session is None


def test_what_is_told_together_is_bounded() -> None:
    """Each reply has its share; the whole of it is in the event of its own."""
    world = Broadcasting()
    world.send(audience=(A, B))
    world.deliver()
    world.says(A, "x" * MAX_GATHERED_CHARACTERS)
    world.says(B, "short")
    world.deliver()
    long, short = world.completed().replies
    assert len(long.content) < MAX_GATHERED_CHARACTERS * 0.6
    assert f"{ID}:{A}" in long.content
    assert short.content == "short"
    (whole, _) = [event for event in world.gathering.seen if isinstance(event, BroadcastReplied)]
    assert len(whole.content) == MAX_GATHERED_CHARACTERS


def test_hops_are_counted_through_the_agents() -> None:
    """An agent that answers a broadcast is as deep as the broadcast's hops say: its own questions count on."""
    world = Broadcasting()
    (message, *_) = [fact for fact in world.send(hops=3).facts if isinstance(fact, MessageAccepted)]
    assert message.asked_by is not None
    assert message.asked_by.depth == 4


def test_only_the_agents_themselves_are_cancelled_by_the_gathering() -> None:
    """Facts name whom they are of, so that a late one refuses nothing."""
    world = Broadcasting()
    world.send("first")
    world.deliver()
    world.says(A, "x")
    facts: list[Any] = []
    while world.said:
        fact = world.said.pop(0)
        facts.append(fact)
        world.feed(fact)
    cancels = [fact for fact in facts if isinstance(fact, CancelRequested)]
    assert [fact.session_id for fact in cancels] == [f"{ID}:{B}", f"{ID}:{C}"]
    assert all(fact.asked_by is not None for fact in cancels)
    ends = [fact for fact in facts if isinstance(fact, ChildEnded)]
    assert {fact.session_id for fact in ends} == {GATHERING}
    assert isinstance(world.gathering.seen[0], BroadcastDelivered)
