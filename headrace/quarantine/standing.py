"""Which sessions are quarantined: those with a fact that the core could not handle, and no release since then."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from agents.session import Head, Session
from schemas.dead_letter import DeadLetter
from schemas.events import AgentEvent, TurnFailed
from schemas.failure import FailureCode
from schemas.log import MessageAccepted, SessionEvent, SessionExpired, SessionReleaseRequested


class Quarantine(Struct, frozen=True, kw_only=True):
    """A session that is set apart: since when, and the fact that its core could not handle.

    `turned_away` counts the messages that ended because of it, or of an earlier one, and were not sent again.
    """

    session_id: str
    since: datetime
    cause: str
    fact: str
    fact_type: str
    turned_away: int = 0
    releases: int = 0

    @property
    def release_id(self) -> str:
        """The id of the command that lifts it: the same whoever gives it, so that it is lifted once."""
        return f"release:{self.fact}"


class LoggedFact(Struct, frozen=True, kw_only=True):
    """A fact and where the log has it; `event` is None for one that cannot be read."""

    partition: int
    offset: int
    event: SessionEvent | None


def standing(letters: Iterable[DeadLetter], facts: Iterable[LoggedFact]) -> list[Quarantine]:
    """Those that stand, the oldest first.

    Args:
        letters: of facts that the core could not handle.
        facts: of the sessions that the letters name, in the order of each partition, from the first letter on.
    """
    by_place = {(letter.partition, letter.offset): letter for letter in letters}
    found: dict[str, Quarantine] = {}
    releases: dict[str, list[str]] = defaultdict(list)
    last: dict[str, datetime] = {}
    for fact in facts:
        letter, event = by_place.get((fact.partition, fact.offset)), fact.event
        if letter is not None and letter.session_id is not None:
            found[letter.session_id] = _quarantine(letter, event, len(releases[letter.session_id]))
        elif isinstance(event, SessionReleaseRequested) and event.command_id not in releases[event.session_id]:
            if found.pop(event.session_id, None) is not None:
                releases[event.session_id].append(event.command_id)
        elif isinstance(event, SessionExpired) and event.session_id in last:
            head = Head(session_id=event.session_id, log_offset=-1, updated_at=last[event.session_id])
            if Session(head).is_idle_since(event.idle_since):
                found.pop(event.session_id, None)
                releases.pop(event.session_id, None)
        if event is not None and event.at.tzinfo is not None:
            last[event.session_id] = event.at
    return sorted(found.values(), key=lambda one: (one.since, one.session_id))


def _quarantine(letter: DeadLetter, event: SessionEvent | None, releases: int) -> Quarantine:
    assert letter.session_id is not None
    return Quarantine(
        session_id=letter.session_id,
        since=letter.at,
        cause=letter.error,
        fact=letter.id,
        fact_type="unknown" if event is None else str(event.__struct_config__.tag),
        releases=releases,
    )


def turned_away(events: Iterable[AgentEvent]) -> list[str]:
    """The messages that ended because their session was quarantined, each once, in their order."""
    ids = [
        event.message_id
        for event in events
        if isinstance(event, TurnFailed) and event.error.code is FailureCode.SESSION_QUARANTINED
    ]
    return list(dict.fromkeys(ids))


class Resent(Struct, frozen=True, kw_only=True):
    """A message that was turned away, and the fact that it was accepted as; `id` is what it is sent again as."""

    id: str
    place: str
    message: MessageAccepted


def to_resend(log_topic: str, facts: Sequence[LoggedFact], away: Iterable[str]) -> list[Resent]:
    """Those of the messages that were not sent again yet, in the order in which they were accepted.

    A message keeps its end, so it is sent again under another id: the place of its fact, which nobody can choose twice.
    """
    accepted: dict[str, tuple[LoggedFact, MessageAccepted]] = {}
    for fact in facts:
        if isinstance(fact.event, MessageAccepted):
            accepted.setdefault(fact.event.message_id, (fact, fact.event))
    found = [accepted[message_id] for message_id in away if message_id in accepted]
    found.sort(key=lambda each: each[0].offset)
    places = ((f"{log_topic}/{fact.partition}/{fact.offset}", message) for fact, message in found)
    return [Resent(id=place, place=place, message=message) for place, message in places if place not in accepted]
