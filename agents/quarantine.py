"""A session that the core could not go on with is set apart, so that all others go on, until somebody releases it."""

from agents.catalog import Catalog
from agents.draft import Draft, Step
from agents.endings import fail, turn_away
from agents.failures import nothing_here, quarantined
from agents.session import Head, Session
from schemas.log import MessageAccepted, SessionEvent, SessionReleaseRequested


def quarantine(catalog: Catalog, session: Session | None, event: SessionEvent, offset: int, cause: str) -> Step:
    """The state after an event that `reduce` could not handle: every open message fails, the session is set apart."""
    if session is None:
        session = Session(Head(session_id=event.session_id, log_offset=-1, updated_at=event.at))
    draft = Draft(catalog, session, event, offset)
    if draft.head.releases:
        cause = f"{cause}, again after release number {draft.head.releases}"
    draft.set(quarantined=cause)
    failure = quarantined(cause)
    if draft.head.turn is not None:
        fail(draft, failure)
    waiting = draft.head.queue
    draft.set(queue=())
    if isinstance(event, MessageAccepted) and not session.knows(event.message_id):
        waiting = (*waiting, event)
    for message in waiting:
        turn_away(draft, message, failure)
    return draft.step()


def release(draft: Draft, event: SessionReleaseRequested) -> None:
    """Messages that were turned away have ended, and stay so: they are sent again under other ids."""
    if draft.head.quarantined is None:
        draft.refusal = nothing_here(event)
    else:
        draft.set(quarantined=None, releases=draft.head.releases + 1)
