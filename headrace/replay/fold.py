"""The fold: each fact of a session through the core, as a worker's `decide` does it, without its brokers and tables."""

import hashlib
from collections.abc import Iterable, Iterator

from msgspec import Raw, Struct

from agents.catalog import Catalog
from agents.draft import Step
from agents.handle import handle
from agents.session import Entry, Session
from headrace.replay.recording import Fact, Outcome, Recording, Refused
from schemas.codec import decode_session_event, encode
from schemas.dead_letter import Cause
from schemas.log import SessionEvent
from schemas.refusal import UNREADABLE
from streams.store import entry_key, head_key

NO_STATE = "none"
"""The digest where there is no session."""


class Digests:
    """The digests of a session after one fact and the next: entries of a transcript that only grows are hashed once."""

    def __init__(self) -> None:
        self._hashed: tuple[Entry, ...] = ()
        self._entries = hashlib.sha256()

    def of(self, session: Session | None) -> str:
        """See `digest`."""
        if session is None:
            return NO_STATE
        known, session_id = len(self._hashed), session.head.session_id
        if session.transcript[:known] != self._hashed:
            known, self._entries = 0, hashlib.sha256()
        self._hashed = session.transcript
        for number, entry in enumerate(session.transcript[known:], start=known):
            _update(self._entries, entry_key(session_id, number), encode(entry))
        whole = self._entries.copy()
        _update(whole, head_key(session_id), encode(session.head))
        return whole.hexdigest()


def _update(hashed: "hashlib._Hash", key: bytes, value: bytes) -> None:
    hashed.update(b"%b %d\n%b\n" % (key, len(value), value))


class Moment(Struct, frozen=True, kw_only=True):
    """What one fact did.

    `event` is None where the record is no fact, and `refused` says why it became a dead letter, where it did.
    `is_folded` is false for facts before the place from which the log can be folded.
    """

    fact: Fact
    event: SessionEvent | None
    before: Session | None
    step: Step
    digests: Digests
    refused: Refused | None = None
    is_folded: bool = True

    @property
    def after(self) -> Session | None:
        return self.step.session

    @property
    def digest(self) -> str:
        """Of the state after the fact."""
        return self.digests.of(self.after)

    def outcome(self) -> Outcome:
        """The same, as a recording has it."""
        return Outcome(
            offset=self.fact.offset,
            state=self.digest,
            effects=tuple(Raw(encode(effect)) for effect in self.step.effects),
            events=tuple(Raw(encode(event)) for event in self.step.events),
            refused=self.refused,
        )


def digest(session: Session | None) -> str:
    """The SHA-256 of the session as its table stores it, in hexadecimal: its entries in their order, then its head."""
    return Digests().of(session)


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
    session, digests = seed, Digests()
    for fact in recording.facts if facts is None else facts:
        place = f"{reach.topic}/{reach.partition}/{fact.offset}"
        step, event, refused = Step(session=session), None, None
        try:
            event = decode_session_event(fact.body)
        except UNREADABLE as error:
            refused = Refused(Cause.NOT_VALID, f"expected an event of the session log: {error}")
        is_folded = fact.offset >= begin
        if event is not None and is_folded:
            step, refused = _folded(catalog, session, event, fact.offset, place)
        yield Moment(
            fact=fact,
            event=event,
            before=session,
            step=step,
            digests=digests,
            refused=refused,
            is_folded=is_folded,
        )
        session = step.session


def _folded(
    catalog: Catalog, session: Session | None, event: SessionEvent, offset: int, place: str
) -> tuple[Step, Refused | None]:
    handled = handle(catalog, session, event, offset, place)
    if handled.bug is not None:
        return handled.step, Refused(Cause.CORE_ERROR, f"{handled.cause}: {handled.bug}")
    refusal = handled.step.refusal
    return handled.step, None if refusal is None else Refused(refusal.cause, refusal.error)
