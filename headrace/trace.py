"""What a session's turns did, and the sessions of those that they asked: a tree, from the agent events."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from aiokafka import ConsumerRecord
from msgspec import UNSET, Struct

from headrace.connect import consumer, partitions_of
from headrace.errors import HeadraceError
from headrace.records import read_partitions
from runtime.kafka import partition_for, topic_name
from runtime.settings import Settings
from schemas.codec import decode_agent_event
from schemas.events import (
    AgentEvent,
    ApprovalAnswered,
    ApprovalRequested,
    BroadcastCompleted,
    BroadcastDelivered,
    HandedOff,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
)
from schemas.gather import GATHERER
from schemas.refusal import UNREADABLE
from schemas.topics import AGENT_EVENTS

MAX_DEPTH = 100
"""Far more than agents may ask each other; records that somebody else wrote must not make the tree endless."""
CLOCKS_APART_MS = 300_000
"""A record has the time of the worker that wrote it. Another one may have answered, by a clock of its own."""
ENDS = {TurnCompleted: "completed", TurnFailed: "failed", TurnCancelled: "cancelled"}


class NotTracedError(HeadraceError):
    """The brokers have no agent events of the session: correct its id, or the settings."""


class TracedTurn(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A turn; `ended_at` is missing while it runs, `error` says why it failed.

    `tokens` and `cost_micros` (millionths of a dollar) are those of its own model calls and known when it ends;
    `asked_cost_micros` is the cost of all that it asked.
    """

    session_id: str
    turn_id: str
    agent: str
    status: str
    started_at: datetime
    ended_at: datetime | None = None
    tokens: int = 0
    cost_micros: int = 0
    asked_cost_micros: int = 0
    tool_calls: int = 0
    error: str = ""
    waits_for: str = ""
    asked: tuple["TracedTurn", ...] = ()

    def details(self, now: datetime) -> str:
        """How long, how much and why, in words."""
        seconds = ((self.ended_at or now) - self.started_at).total_seconds()
        said = [f"{seconds:.2f} s"]
        if self.tool_calls:
            said.append(f"{self.tool_calls} tool calls")
        if self.ended_at is not None:
            said.append(f"{self.tokens} tokens, ${self.cost_micros / 1e6:.6f}")
        if self.asked_cost_micros:
            said.append(f"with all it asked ${(self.cost_micros + self.asked_cost_micros) / 1e6:.6f}")
        return ", ".join((*said, *filter(None, (self.error, self.waits_for))))


async def read_trace(settings: Settings, session_id: str) -> tuple[TracedTurn, ...]:
    """The turns of a session that the brokers have now, oldest first, each with what it asked.

    Read are the partition of the session, and from when it first asked, those of the sessions that it asked.

    Raises:
        NotTracedError: there are none.
        StartBrokersError, ApplyTopicsError: there are no brokers, or no topic.
    """
    reading = _Reading()
    async with consumer(settings) as client:
        partitions = await partitions_of(client, topic_name(settings, AGENT_EVENTS))
        wanted, since_ms = {session_id}, None
        for _ in range(MAX_DEPTH):
            of_wanted = {partitions[partition_for(name.encode(), len(partitions))] for name in wanted}
            async for record in read_partitions(client, of_wanted, since_ms):
                reading.take(record, wanted)
            wanted, since_ms = reading.asked()
            if not wanted:
                break
    if session_id not in reading.events:
        raise NotTracedError(
            f"session {session_id} has no agent events on these brokers: correct the id (its case counts), the "
            "brokers, or the topic prefix"
        )
    return trace_of(session_id, {name: found.values() for name, found in reading.events.items()})


class _Reading:
    """The events of sessions that were read, by session and `seq`, and the sessions that these asked since."""

    def __init__(self) -> None:
        self.events: defaultdict[str, dict[int, AgentEvent]] = defaultdict(dict)
        self._asked_at_ms: dict[str, int] = {}

    def take(self, record: ConsumerRecord, wanted: Collection[str]) -> None:
        try:
            event = decode_agent_event(record.value or b"")
        except UNREADABLE:
            return
        if event.session_id not in wanted:
            return
        self.events[event.session_id].setdefault(event.seq, event)
        if isinstance(event, ToolCalled | BroadcastDelivered) and isinstance(event.child_session_id, str):
            self._asked_at_ms.setdefault(event.child_session_id, record.timestamp)

    def asked(self) -> tuple[set[str], int]:
        """The sessions that were asked and have not been read, and a time before any of them began."""
        new = {name: at_ms for name, at_ms in self._asked_at_ms.items() if name not in self.events}
        self._asked_at_ms = {}
        return set(new), max(0, min(new.values(), default=0) - CLOCKS_APART_MS)


def trace_of(
    session_id: str, events: Mapping[str, Iterable[AgentEvent]], message_id: str | None = None, depth: int = 0
) -> tuple[TracedTurn, ...]:
    """The turns of a session, or only that of one message."""
    turns: defaultdict[str, list[AgentEvent]] = defaultdict(list)
    for event in sorted(events.get(session_id, ()), key=lambda event: event.seq):
        if message_id in {None, event.message_id}:
            turns[event.turn_id].append(event)
    return tuple(_turn(of_turn, events, depth) for of_turn in turns.values())


def _turn(own: list[AgentEvent], events: Mapping[str, Iterable[AgentEvent]], depth: int) -> TracedTurn:
    if isinstance(own[0], BroadcastDelivered | BroadcastCompleted):
        return _gathering(own, events, depth)
    first, last = own[0], own[-1]
    end = last if isinstance(last, TurnCompleted | TurnFailed | TurnCancelled) else None
    calls = [event for event in own if isinstance(event, ToolCalled)]
    asked: list[TracedTurn] = []
    for call in calls:
        if isinstance(call.child_session_id, str) and depth < MAX_DEPTH:
            # What gathers the replies to a broadcast does so for one call, under the broadcast's name.
            message_id = None if call.child_session_id.endswith(f":{GATHERER}") else call.call_id
            asked += trace_of(call.child_session_id, events, message_id, depth + 1)
    handed = [event.to_agent for event in own if isinstance(event, HandedOff)]
    return TracedTurn(
        session_id=first.session_id,
        turn_id=first.turn_id,
        agent=" → ".join((first.agent, *handed)),
        status="running" if end is None else ENDS[type(end)],
        started_at=first.at,
        ended_at=None if end is None else end.at,
        tokens=0 if end is None else end.usage.total_tokens,
        cost_micros=0 if end is None else end.cost_micros,
        asked_cost_micros=0 if end is None or end.asked_cost_micros is UNSET else end.asked_cost_micros,
        tool_calls=sum(call.child_session_id is UNSET for call in calls),
        error=end.error.message if isinstance(end, TurnFailed) else "",
        waits_for="" if end is not None else _waiting(own),
        asked=tuple(asked),
    )


def _gathering(own: list[AgentEvent], events: Mapping[str, Iterable[AgentEvent]], depth: int) -> TracedTurn:
    """What became of a broadcast; its agents are what it asked."""
    first = own[0]
    end = next((event for event in own if isinstance(event, BroadcastCompleted)), None)
    asked: list[TracedTurn] = []
    for event in own:
        if isinstance(event, BroadcastDelivered) and depth < MAX_DEPTH:
            asked += trace_of(event.child_session_id, events, event.child_session_id, depth + 1)
    missing = f"no reply from {', '.join(end.missing)}" if end is not None and end.missing else ""
    return TracedTurn(
        session_id=first.session_id,
        turn_id=first.turn_id,
        agent=GATHERER,
        status="running" if end is None else end.reason,
        started_at=first.at,
        ended_at=None if end is None else end.at,
        asked_cost_micros=0 if end is None else end.cost_micros,
        error=missing,
        asked=tuple(asked),
    )


def _waiting(own: list[AgentEvent]) -> str:
    """Which calls of a running turn wait for people."""
    waiting: dict[str, str] = {}
    for event in own:
        if isinstance(event, ApprovalRequested):
            waiting[event.call_id] = event.tool
        elif isinstance(event, ToolCalled | ToolReturned) or (
            isinstance(event, ApprovalAnswered) and not event.remaining
        ):
            waiting.pop(event.call_id, None)
    return f"waits for approval of {', '.join(waiting.values())}" if waiting else ""
