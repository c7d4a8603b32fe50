"""Where the fold can begin: retention may have taken the first facts of a session."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agents.session import Head, Session
from headrace.replay.fold import fold
from headrace.replay.recording import Recording
from schemas.codec import decode_agent_event, decode_session_event
from schemas.events import AgentEvent, TurnStarted
from schemas.log import (
    MessageAccepted,
    ModelCompleted,
    ModelFailed,
    SessionEvent,
    SpendingRefused,
    ToolCompleted,
    ToolFailed,
)

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_OUTCOMES = (ModelCompleted, ModelFailed, SpendingRefused, ToolCompleted, ToolFailed)


class Beginning(Struct, frozen=True, kw_only=True):
    """The fold begins with the fact at `offset`, from `seed`; `missing` says what is not there, where something is."""

    offset: int = 0
    seed: Session | None = None
    missing: str | None = None


def find_beginning(recording: Recording) -> Beginning:
    """The first fact from which the session can be folded; the first one of all, where the log is whole."""
    about, reach = recording.about, recording.about.reach
    facts = list(_readable(recording))
    events = list(_events(recording))
    if reach.log_begin == 0 or _is_whole(facts, events):
        return Beginning()
    start = _first_known_start(facts, events) or _first_likely_start(facts)
    removed = (
        f"the log of session {about.session_id} begins in the middle: partition {reach.partition} of {reach.topic} "
        f"begins with offset {reach.log_begin}, older facts were removed by retention"
    )
    if start is None:
        end = facts[-1][0] + 1 if facts else 0
        error = f"{removed}, and no turn begins after them: no fact of the session can be folded"
        return Beginning(offset=end, missing=error)
    offset, at, turn, seq = start
    head = Head(session_id=about.session_id, log_offset=-1, updated_at=at, turns=turn - 1, seq=(seq or 1) - 1)
    if seq is None:
        head = replace(head, seq=_shift(recording, events, offset, Session(head)))
    missing = (
        f"{removed}. The fold begins with turn {turn} at offset {offset}; missing are what was said before (in "
        "transcript and prompts), older usage and cost, and the messages that were answered before"
    )
    return Beginning(offset=offset, seed=Session(head), missing=missing)


_Facts = Sequence[tuple[int, SessionEvent]]
_Start = tuple[int, datetime, int, int | None]
"""Offset and time of the message, number of its turn, `seq` of its first event where that is known."""


def _readable(recording: Recording) -> Iterator[tuple[int, SessionEvent]]:
    for fact in recording.facts:
        try:
            yield fact.offset, decode_session_event(fact.body)
        except _UNREADABLE:
            continue


def _events(recording: Recording) -> Iterator[AgentEvent]:
    for record in recording.events:
        try:
            yield decode_agent_event(record.body)
        except _UNREADABLE:
            continue


def _is_whole(facts: _Facts, events: Sequence[AgentEvent]) -> bool:
    """Whether the first message that is left was the session's first one, as far as can be seen."""
    for index, (_, fact) in enumerate(facts):
        if isinstance(fact, _OUTCOMES):
            return False
        if isinstance(fact, MessageAccepted):
            turns = [
                _turn_of(event.session_id, event.turn_id) for event in events if event.message_id == fact.message_id
            ]
            turns += [
                _turn_of(other.session_id, other.call_id) for _, other in facts[index:] if isinstance(other, _OUTCOMES)
            ]
            return not turns or turns[0] == 1
    return True


def _first_known_start(facts: _Facts, events: Sequence[AgentEvent]) -> _Start | None:
    """The first message whose turn began as soon as it was accepted, as its event says: nothing ran before it."""
    started = {event.message_id: event for event in reversed(events) if isinstance(event, TurnStarted)}
    for offset, fact in facts:
        if isinstance(fact, MessageAccepted):
            event = started.get(fact.message_id)
            if event is not None and event.at == fact.at:
                return offset, fact.at, _turn_of(event.session_id, event.turn_id), event.seq
    return None


def _first_likely_start(facts: _Facts) -> _Start | None:
    """The same without events: the first message whose next outcome is that of a turn's first step."""
    for index, (offset, fact) in enumerate(facts):
        if isinstance(fact, MessageAccepted):
            following = next((other for _, other in facts[index:] if isinstance(other, _OUTCOMES)), None)
            if following is not None and following.call_id.endswith("/1"):
                return offset, fact.at, _turn_of(following.session_id, following.call_id), None
    return None


def _shift(recording: Recording, events: Sequence[AgentEvent], offset: int, seed: Session) -> int:
    """By how much the fold's `seq` is too low, found by the first of its events that is on the topic."""
    there = {(event.turn_id, type(event), event.message_id, event.at): event.seq for event in reversed(events)}
    for moment in fold(recording, seed=seed, begin=offset):
        for event in moment.step.events:
            seq = there.get((event.turn_id, type(event), event.message_id, event.at))
            if seq is not None:
                return max(0, seq - event.seq)
    return 0


def _turn_of(session_id: str, id: str) -> int:
    """The number of the turn in `{session}/{turn}` or `{session}/{turn}/{step}`; 0 where it is no such id."""
    number = id.removeprefix(f"{session_id}/").partition("/")[0]
    return int(number) if number.isdecimal() else 0
