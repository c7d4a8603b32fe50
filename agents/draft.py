"""What one event does to a session while the reducer works it out."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agents.catalog import Catalog
from agents.session import Entry, Head, PendingCall, Session, ToolResultEntry, Turn
from agents.spec import AgentSpec
from schemas.content import ImageBlock, TextBlock, ToolUseBlock
from schemas.dead_letter import Cause
from schemas.effects import Effect
from schemas.events import AgentEvent
from schemas.ids import turn_id
from schemas.log import BroadcastAccepted, CancelRequested, ChildEnded, MessageAccepted, SessionEvent, TimerFired

SessionFact = MessageAccepted | BroadcastAccepted | CancelRequested | ChildEnded
"""What a session says to another one."""
ENTRY_OVERHEAD_BYTES = 100
"""Keys, ids and punctuation of a stored entry, roughly."""


class Refusal(Struct, frozen=True):
    """A command that cannot be followed: `error` tells its sender what was expected, what came and what to do."""

    cause: Cause
    error: str


class Timer(Struct, frozen=True):
    """When a call's wait is over; None: it waits no longer."""

    call_id: str
    due: datetime | None


class Step(Struct, frozen=True, kw_only=True):
    """What an event leads to.

    `session` is the new state; None where nothing remains, or nothing ever was. `rewritten` says that the transcript is
    not the old one with more entries, so the stored one is replaced. `settled` are the calls that were waited for and
    are not any more: their outcome came, or is not needed. `facts` are for the logs of other sessions: those that this
    one asks, or answers. `timers` are the calls that wait from now on, or no longer.
    """

    session: Session | None
    effects: tuple[Effect, ...] = ()
    events: tuple[AgentEvent, ...] = ()
    settled: tuple[str, ...] = ()
    facts: tuple[SessionFact, ...] = ()
    timers: tuple[Timer, ...] = ()
    refusal: Refusal | None = None
    rewritten: bool = False


class Draft:
    """A session in the making: the head and new entries, and what has to be emitted with them."""

    def __init__(self, catalog: Catalog, session: Session, event: SessionEvent, offset: int) -> None:
        self.catalog = catalog
        self.event = event
        self.offset = offset
        self.at: datetime = event.at
        self.before = session
        self.head: Head = replace(session.head, log_offset=offset, updated_at=event.at)
        self.transcript: tuple[Entry, ...] = session.transcript
        self.rewritten = False
        self.refusal: Refusal | None = None
        self._effects: list[Effect] = []
        self._events: list[AgentEvent] = []
        self.facts: list[SessionFact] = []

    @property
    def turn(self) -> Turn:
        assert self.head.turn is not None, "no turn runs"
        return self.head.turn

    @property
    def spec(self) -> AgentSpec:
        """The running turn's agent; one that was removed since the turn began fails the turn before this is asked."""
        spec = self.spec_of(self.turn.agent)
        assert spec is not None, "the turn's agent is gone"
        return spec

    def spec_of(self, agent: str) -> AgentSpec | None:
        """An agent as it was when the running turn's message was accepted."""
        return self.catalog.get(agent, self.turn.specs_offset)

    @property
    def session(self) -> Session:
        return Session(self.head, self.transcript)

    def set(self, **changes: Any) -> None:
        """Change fields of the head."""
        self.head = replace(self.head, **changes)

    def set_turn(self, **changes: Any) -> None:
        """Change fields of the running turn."""
        self.set(turn=replace(self.turn, **changes))

    def append(self, entry: Entry) -> None:
        self.transcript = (*self.transcript, entry)
        self.set(entries=len(self.transcript), transcript_bytes=self.head.transcript_bytes + size_bytes(entry))

    def expect(self, call: PendingCall) -> None:
        """Wait for the outcome of `call`."""
        self.set_turn(pending=(*self.turn.pending, call))

    def exchange(self, call: PendingCall, other: PendingCall) -> None:
        """Go on waiting for `call`, as `other` now."""
        pending = tuple(other if known.call_id == call.call_id else known for known in self.turn.pending)
        self.set_turn(pending=pending)

    def settle(self, call: PendingCall) -> None:
        """Wait for the outcome of `call` no longer."""
        self.set_turn(pending=tuple(other for other in self.turn.pending if other.call_id != call.call_id))

    def order(self, effect: Effect) -> None:
        self._effects.append(effect)

    def publish(self, kind: type[AgentEvent], **fields: Any) -> None:
        """Publish an event of the running turn."""
        turn = self.turn
        self.publish_about(kind, turn.number, turn.message_id, turn.agent, **fields)

    def publish_about(self, kind: type[AgentEvent], number: int, message_id: str, agent: str, **fields: Any) -> None:
        """Publish an event of turn `number`, which may never have run."""
        session_id = self.head.session_id
        self.set(seq=self.head.seq + 1)
        self._events.append(
            kind(
                session_id=session_id,
                turn_id=turn_id(session_id, number),
                message_id=message_id,
                agent=agent,
                seq=self.head.seq,
                at=self.at,
                **fields,
            )
        )

    def step(self) -> Step:
        return Step(
            session=self.session,
            effects=tuple(self._effects),
            events=tuple(self._events),
            settled=tuple(settled(self.before.head, self.head)),
            facts=tuple(self.facts),
            timers=(*new_timers(self.before.head, self.head), *left_behind(self.event, self.before.head, self.head)),
            refusal=self.refusal,
            rewritten=self.rewritten,
        )


def settled(before: Head, after: Head) -> Iterator[str]:
    """The calls that were waited for and are not any more."""
    still = {call.call_id for call in after.turn.pending} if after.turn else set()
    for call in before.turn.pending if before.turn else ():
        if call.call_id not in still:
            yield call.call_id


def deadline_id(session_id: str) -> str:
    """What waits for the deadline of the session's broadcast, where a call would: a step before the first."""
    return f"{turn_id(session_id, 1)}/0"


def new_timers(before: Head | None, after: Head | None) -> Iterator[Timer]:
    """The calls that wait until another time than before, or no longer."""
    known, now = timers(before), timers(after)
    for call_id, due in now.items():
        if known.get(call_id) != due:
            yield Timer(call_id, due)
    for call_id in known:
        if call_id not in now:
            yield Timer(call_id, None)


def left_behind(event: SessionEvent, before: Head, after: Head) -> Iterator[Timer]:
    """A wait that rings for nothing: a worker died when it had stored the session, and not removed the wait yet."""
    if isinstance(event, TimerFired) and event.call_id not in timers(before) | timers(after):
        yield Timer(event.call_id, None)


def timers(head: Head | None) -> dict[str, datetime]:
    """Until when each call of a session waits, by call id."""
    if head is None:
        return {}
    calls = head.turn.pending if head.turn else ()
    waits = {call.call_id: call.expires_at for call in calls if call.expires_at}
    if head.gathering is not None and head.gathering.deadline is not None:
        waits[deadline_id(head.session_id)] = head.gathering.deadline
    return waits


def size_bytes(entry: Entry) -> int:
    """About how many bytes the entry takes in a prompt and in the store."""
    if isinstance(entry, ToolResultEntry):
        return ENTRY_OVERHEAD_BYTES + len(entry.content)
    size = ENTRY_OVERHEAD_BYTES
    for block in getattr(entry, "content", ()):
        match block:
            case TextBlock():
                size += len(block.text)
            case ToolUseBlock():
                size += len(msgspec.json.encode(block.input))
            case ImageBlock():
                size += len(msgspec.json.encode(block.source))
            case _:
                size += len(msgspec.json.encode(block))
    return size
