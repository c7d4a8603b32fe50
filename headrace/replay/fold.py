"""The fold: each fact of a session through the core, as a worker's `decide` does it, without its brokers and tables."""

import hashlib
from collections.abc import Iterable, Iterator

from msgspec import Raw, Struct

from agents.catalog import Catalog
from agents.draft import Step
from agents.handle import handle
from agents.session import Session
from headrace.replay.recording import Fact, Outcome, Recording, Refused
from schemas.codec import decode_session_event, encode
from schemas.dead_letter import Cause
from schemas.log import SessionEvent
from streams.dead_letter import UNREADABLE
from streams.store import writes

NO_STATE = "none"
"""The digest where there is no session."""


class Moment(Struct, frozen=True, kw_only=True):
    """What one fact did.

    `event` is None where the record is no fact, and `refused` says why it became a dead letter, where it did.
    `is_folded` is false for facts before the place from which the log can be folded.
    """

    fact: Fact
    event: SessionEvent | None
    before: Session | None
    step: Step
    refused: Refused | None = None
    is_folded: bool = True

    @property
    def after(self) -> Session | None:
        return self.step.session

    def outcome(self) -> Outcome:
        """The same, as a recording has it."""
        return Outcome(
            offset=self.fact.offset,
            state=digest(self.after),
            effects=tuple(Raw(encode(effect)) for effect in self.step.effects),
            events=tuple(Raw(encode(event)) for event in self.step.events),
            refused=self.refused,
        )


def digest(session: Session | None) -> str:
    """The SHA-256 of the session as its table stores it, in hexadecimal."""
    if session is None:
        return NO_STATE
    hashed = hashlib.sha256()
    for key, value in writes(session.head.session_id, None, Step(session=session)):
        hashed.update(b"%d %b\n%b\n" % (len(value or b""), key, value or b""))
    return hashed.hexdigest()


def fold(
    recording: Recording, facts: Iterable[Fact] | None = None, *, seed: Session | None = None, begin: int = 0
) -> Iterator[Moment]:
    """Each fact of the recording, or each of `facts`, in their order.

    Args:
        recording: the session and its agents.
        facts: those to fold, where it is not all.
        seed: the session before the first one.
        begin: the offset of the first fact to fold; those before change nothing.
    """
    reach, catalog = recording.about.reach, recording.about.catalog()
    session = seed
    for fact in recording.facts if facts is None else facts:
        place = f"{reach.topic}/{reach.partition}/{fact.offset}"
        moment = _moment(catalog, session, fact, place) if fact.offset >= begin else _skipped(fact, session)
        yield moment
        session = moment.after


def _moment(catalog: Catalog, session: Session | None, fact: Fact, place: str) -> Moment:
    try:
        event = decode_session_event(fact.body)
    except UNREADABLE as error:
        why = Refused(Cause.NOT_VALID, f"expected an event of the session log: {error}")
        return Moment(fact=fact, event=None, before=session, step=Step(session=session), refused=why)
    handled = handle(catalog, session, event, fact.offset, place)
    refused: Refused | None = None
    if handled.bug is not None:
        refused = Refused(Cause.CORE_ERROR, f"{handled.cause}: {handled.bug}")
    elif handled.step.refusal is not None:
        refused = Refused(handled.step.refusal.cause, handled.step.refusal.error)
    return Moment(fact=fact, event=event, before=session, step=handled.step, refused=refused)


def _skipped(fact: Fact, session: Session | None) -> Moment:
    try:
        event = decode_session_event(fact.body)
    except UNREADABLE:
        event = None
    return Moment(fact=fact, event=event, before=session, step=Step(session=session), is_folded=False)
