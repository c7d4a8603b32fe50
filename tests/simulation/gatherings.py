"""What must hold of sessions that gather the replies to a broadcast, and of those that reply."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from simulation.invariants import Topics, distinct_events, facts, fold, place_of

from agents.audience import reached
from agents.catalog import Catalog
from schemas.events import BroadcastCompleted, BroadcastDelivered, BroadcastReplied
from schemas.gather import GATHERER, Quorum, own_broadcast_id, reply_session_id
from schemas.log import BroadcastAccepted, CancelRequested, ChildEnded, MessageAccepted, SessionEndRequested, TimerFired
from schemas.refusal import RefusedError, check_broadcast
from schemas.topics import BROADCASTS


@dataclass(slots=True)
class Story:
    """A session that gathers: what its broadcast says, what its log and its events have, and who was told to stop."""

    begun: BroadcastAccepted
    ended: dict[str, ChildEnded] = field(default_factory=dict)
    """The first end of each session that replies."""
    ends: list[CancelRequested | SessionEndRequested] = field(default_factory=list)
    is_open: bool = True
    """As far as the log was read."""
    delivered: list[BroadcastDelivered] = field(default_factory=list)
    replied: list[BroadcastReplied] = field(default_factory=list)
    in_time: list[BroadcastReplied] = field(default_factory=list)
    completed: list[BroadcastCompleted] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.begun.session_id

    @property
    def needed(self) -> int:
        if isinstance(self.begun.gather, Quorum):
            return self.begun.gather.quorum
        return 1 if self.begun.gather == "first" else len(self.delivered)

    @property
    def counted(self) -> list[BroadcastReplied]:
        """The replies that were waited for."""
        return [reply for reply in self.in_time if self.begun.gather == "all" or not reply.is_error]


def check_gatherings(topics: Topics, catalog: Catalog) -> None:
    """A broadcast that gathers is asked of each agent that it is for, has one reply of each, and is completed once.

    When it was, as many had answered as it says; whoever is not needed is told to stop; what was gathered is what is
    told. At rest none is open.
    """
    _check_routed_once(topics)
    stories = _stories(topics, catalog)
    for story in stories.values():
        _check_asked(story, catalog)
        _check_replies(story)
        _check_end(story)
        _check_stopped(story)
    _check_told(topics, stories)


def _check_routed_once(topics: Topics) -> None:
    """However often a broadcast is routed, it is the same one."""
    sent: set[str] = set()
    for record in topics[BROADCASTS.name]:
        try:
            broadcast = check_broadcast(record.value, record.at)
        except RefusedError:
            continue
        sent.add(own_broadcast_id(broadcast.id or place_of(record), broadcast.tenant))
    begun = (event for _, event in facts(topics) if isinstance(event, BroadcastAccepted))
    gathered = {event.broadcast_id for event in begun if event.asked_by is None}
    assert gathered <= sent, f"gathered, and not sent: {gathered - sent}"


def _stories(topics: Topics, catalog: Catalog) -> dict[str, Story]:
    """By the session; the ids of broadcasts are not used again, so each session has one life."""
    stories: dict[str, Story] = {}
    stopped: defaultdict[str, set[str]] = defaultdict(set)
    steps = fold(topics, catalog)[1]
    for record, event in facts(topics):
        story = stories.get(event.session_id)
        match event:
            case BroadcastAccepted() if story is None and steps[place_of(record)].refusal is None:
                stories[event.session_id] = Story(event)
            case ChildEnded() if story is not None:
                story.ended.setdefault(event.child_session_id, event)
            case CancelRequested() | SessionEndRequested() if story is not None:
                story.ends.append(event)
            case _:
                pass
        if (story := stories.get(event.session_id)) is not None:
            completes = any(isinstance(each, BroadcastCompleted) for each in steps[place_of(record)].events)
            must = story.is_open and isinstance(event, TimerFired | SessionEndRequested)
            assert completes or not must, f"{event} should end {story.name}, and did not"
            story.is_open &= not completes
        if isinstance(event, CancelRequested) and event.asked_by is not None:
            stopped[event.asked_by.session_id].add(event.session_id)
    for (name, _, _), said in distinct_events(topics).items():
        if name in stories:
            _note(stories[name], said)
    for name, story in stories.items():
        story.stopped = stopped[name]
    return stories


def _note(story: Story, event: object) -> None:
    match event:
        case BroadcastDelivered():
            story.delivered.append(event)
        case BroadcastReplied():
            assert event.late == bool(story.completed), f"{event} was {'not ' if story.completed else ''}late"
            story.replied.append(event)
            story.in_time += [] if event.late else [event]
        case BroadcastCompleted():
            story.completed.append(event)
        case _:
            pass


def _check_asked(story: Story, catalog: Catalog) -> None:
    begun = story.begun
    wanted = reached(catalog.as_of(begun.specs_offset), begun.audience, begun.tenant)
    asked = [(event.agent, event.child_session_id) for event in story.delivered]
    due = [(agent, reply_session_id(begun.broadcast_id, agent)) for agent in wanted.agents]
    assert asked == due, f"{story.name} asked {asked}, and should {due}"


def _check_replies(story: Story) -> None:
    """Each agent replies once, with what its session has answered first."""
    agents = [event.agent for event in story.replied]
    assert len(set(agents)) == len(agents), f"{story.name} has several replies of an agent: {agents}"
    known = {event.agent for event in story.delivered}
    assert set(agents) <= known, f"{story.name} has replies of agents that it did not ask: {agents}"
    for reply in story.replied:
        end = story.ended[reply.child_session_id]
        assert (reply.content, reply.is_error) == (end.content, end.is_error), f"{reply} is not what was said: {end}"


def _check_end(story: Story) -> None:
    assert len(story.completed) == 1, f"{story.name} was completed {len(story.completed)} times"
    (end,) = story.completed
    told = [(reply.agent, reply.content, reply.is_error) for reply in end.replies]
    came = [(reply.agent, reply.content, reply.is_error) for reply in story.in_time]
    assert told == came, f"{story.name} has gathered {came}, and tells {told}"
    absent = {event.agent for event in story.delivered} - {reply.agent for reply in story.in_time}
    assert absent <= set(end.missing), f"{story.name} misses {absent}, and tells {end.missing}"
    cost = sum(story.ended[reply.child_session_id].cost_micros for reply in story.in_time)
    assert end.cost_micros == cost, f"{story.name} has cost {cost}, and tells {end.cost_micros}"
    counted = len(story.counted)
    match end.reason:
        case "gathered":
            is_so = counted == story.needed and counted > 0 and _is_last(story)
        case "exhausted":
            is_so = counted < max(story.needed, 1) and not absent
        case "deadline":
            is_so = end.at >= story.begun.deadline and counted < story.needed
        case "cancelled":
            is_so = any(asked.at == end.at for asked in story.ends) and counted < story.needed
    assert is_so, f"{story.name} needs {story.needed} and has {counted} replies, {absent} did not: {end}"


def _is_last(story: Story) -> bool:
    """Whether it ended with the reply that made it enough."""
    return story.in_time[-1] is story.counted[-1]


def _check_stopped(story: Story) -> None:
    """Whoever nobody waits for is told to stop, and nobody else is."""
    (end,) = story.completed
    goes_on = story.begun.gather == "all" and end.reason != "cancelled"
    replied = {reply.child_session_id for reply in story.in_time}
    due = set() if goes_on else {event.child_session_id for event in story.delivered} - replied
    assert story.stopped == due, f"{story.name} told {story.stopped} to stop, and should {due}"


def _check_told(topics: Topics, stories: dict[str, Story]) -> None:
    """What was gathered is a message to the session that wanted it, and no other is."""
    told = {(event.session_id, event.message_id) for event in _results(topics)}
    due = {(story.begun.reply_to, name) for name, story in stories.items() if story.begun.reply_to is not None}
    assert told == due, f"what was gathered came to {told}, and should to {due}"


def _results(topics: Topics) -> Iterator[MessageAccepted]:
    for _, event in facts(topics):
        if isinstance(event, MessageAccepted) and event.message_id.endswith(f":{GATHERER}"):
            yield event
