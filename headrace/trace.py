"""What a session's turns did, and the sessions of those that they asked: a tree, from the agent events."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec
from msgspec import UNSET, Struct

from headrace.errors import HeadraceError
from headrace.records import read_topic
from runtime.settings import Settings
from schemas.codec import decode_agent_event
from schemas.events import (
    AgentEvent,
    ApprovalAnswered,
    ApprovalRequested,
    HandedOff,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
)
from schemas.topics import AGENT_EVENTS

MAX_DEPTH = 100
"""Far more than agents may ask each other; records that somebody else wrote must not make the tree endless."""
CUT = 160
"""Ids of children begin like their parent's, of which a long one is cut: this much stays at any depth."""
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

    Raises:
        NotTracedError: there are none.
        StartBrokersError, ApplyTopicsError: there are no brokers, or no topic.
    """
    # What a session asks is in other partitions, and may be there before the event that names it is read.
    events: defaultdict[str, dict[int, AgentEvent]] = defaultdict(dict)
    async for record in read_topic(settings, AGENT_EVENTS):
        try:
            event = decode_agent_event(record.value or b"")
        except msgspec.DecodeError:
            continue
        if event.session_id == session_id or event.session_id.startswith(session_id[:CUT]):
            events[event.session_id].setdefault(event.seq, event)
    if session_id not in events:
        raise NotTracedError(
            f"session {session_id} has no agent events on these brokers: correct the id (its case counts), the "
            "brokers, or the topic prefix"
        )
    return trace_of(session_id, {name: found.values() for name, found in events.items()})


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
    first, last = own[0], own[-1]
    end = last if isinstance(last, TurnCompleted | TurnFailed | TurnCancelled) else None
    calls = [event for event in own if isinstance(event, ToolCalled)]
    asked: list[TracedTurn] = []
    for call in calls:
        if isinstance(call.child_session_id, str) and depth < MAX_DEPTH:
            asked += trace_of(call.child_session_id, events, call.call_id, depth + 1)
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
