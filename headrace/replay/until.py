"""Where a replay stops: at an offset of the log, a `seq`, a time, or a call."""

import itertools
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from msgspec import Struct

from agents.session import Session
from headrace.errors import UsageError
from headrace.replay.errors import NotReachedError
from headrace.replay.fold import Moment
from headrace.replay.recording import Fact
from runtime.kafka import record_time

_SEQ = re.compile(r"seq:(\d+)")
_CALL = re.compile(r"\d+/\d+")


class AtOffset(Struct, frozen=True):
    """After the last fact up to this offset of the log."""

    offset: int


class AtSeq(Struct, frozen=True):
    """After the fact that leads to the agent event with this `seq`."""

    seq: int


class AtTime(Struct, frozen=True):
    """After the last fact up to this time."""

    time: datetime


class AtCall(Struct, frozen=True):
    """After the fact that orders this call, or asks for its approval."""

    call_id: str


Until = AtOffset | AtSeq | AtTime | AtCall


def parse_until(text: str, session_id: str) -> Until:
    """Read `12`, `seq:7`, `2026-05-01T12:00:00Z`, `s1/2/1` or `2/1`; a time without a zone is UTC.

    Raises:
        UsageError: it is none of them.
    """
    prefix = f"{session_id}/"
    if text.startswith(prefix) and _CALL.fullmatch(text.removeprefix(prefix)):
        return AtCall(text)
    if _CALL.fullmatch(text):
        return AtCall(prefix + text)
    if text.isdecimal():
        return AtOffset(int(text))
    if found := _SEQ.fullmatch(text):
        return AtSeq(int(found[1]))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"expected --until with an offset of the log (12), an agent event (seq:7), a time (2026-05-01T12:00:00Z) "
            f"or a call ({prefix}2/1), got {text}"
        ) from None
    return AtTime(time.replace(tzinfo=UTC) if time.tzinfo is None else time)


def facts_until(facts: Iterable[Fact], until: Until | None) -> list[Fact]:
    """Those to fold.

    Raises:
        NotReachedError: the first fact is later.
    """
    facts = list(facts)
    match until:
        case AtOffset():
            kept = list(itertools.takewhile(lambda fact: fact.offset <= until.offset, facts))
        case AtTime():
            kept = list(itertools.takewhile(lambda fact: _time_of(fact) <= until.time, facts))
        case _:
            return facts
    if not kept:
        first = facts[0]
        raise NotReachedError(
            f"the first fact of the session that is kept is at offset {first.offset}, "
            f"{_time_of(first):%Y-%m-%dT%H:%M:%S.%fZ}: stop there, or later"
        )
    return kept


def moments_until(moments: Iterable[Moment], until: Until | None) -> Iterator[Moment]:
    """The moments up to the place.

    Raises:
        NotReachedError: no fact leads to this `seq` or call.
    """
    calls: list[str] = []
    last_seq = 0
    for moment in moments:
        yield moment
        new = list(_calls(moment))
        calls += new
        seqs = [event.seq for event in moment.step.events]
        last_seq = max([last_seq, *seqs])
        if (isinstance(until, AtCall) and until.call_id in new) or (isinstance(until, AtSeq) and until.seq in seqs):
            return
    if isinstance(until, AtCall):
        known = ", ".join(calls) or "none"
        raise NotReachedError(f"no fact of the session orders call {until.call_id}: the calls are {known}")
    if isinstance(until, AtSeq):
        raise NotReachedError(f"no fact of the session leads to seq {until.seq}: the last one is {last_seq}")


def _calls(moment: Moment) -> Iterator[str]:
    """The calls that are waited for since this fact."""
    before = _pending(moment.before)
    yield from (call_id for call_id in _pending(moment.after) if call_id not in before)


def _pending(session: Session | None) -> list[str]:
    turn = session.head.turn if session else None
    return [call.call_id for call in turn.pending] if turn else []


def _time_of(fact: Fact) -> datetime:
    return record_time(fact.timestamp_ms)
