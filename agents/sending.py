"""A session through which all broadcasts of an agent go, one for each tenant: it counts them, and passes them on.

So the limit of an agent's broadcasts per minute holds over all its sessions and workers, and a log that is folded again
refuses the same ones.
"""

from datetime import timedelta

from msgspec.structs import replace

from agents.draft import Draft
from agents.failures import too_many_broadcasts
from agents.limits import Limits
from agents.session import Sent
from schemas.gather import call_broadcast_id, gathering_session_id
from schemas.ids import call_number, tenant_of_session
from schemas.log import BroadcastAccepted, CancelRequested, ChildEnded

WINDOW = timedelta(minutes=1)
REMEMBERED = 256
"""About 150 bytes each. A broadcast is told twice when a worker dies just after it told it, so few come in between."""


def pass_on(draft: Draft, event: BroadcastAccepted) -> None:
    """Hand a broadcast to the session that gathers its replies, or refuse it; the same again where it comes again."""
    known = next((sent for sent in draft.head.sent if sent.broadcast_id == event.broadcast_id), None)
    limit = _limit(draft, event)
    if known is None:
        counted = [sent for sent in draft.head.sent if not sent.is_refused and sent.at > draft.at - WINDOW]
        known = Sent(event.broadcast_id, draft.at, is_refused=len(counted) >= limit)
        draft.set(sent=(*draft.head.sent, known)[-max(REMEMBERED, limit) :])
    if not known.is_refused:
        draft.facts.append(replace(event, session_id=gathering_session_id(event.broadcast_id)))
    elif event.asked_by is not None:
        draft.facts.append(
            ChildEnded(
                session_id=event.asked_by.session_id,
                call_id=event.asked_by.call_id,
                child_session_id=gathering_session_id(event.broadcast_id),
                content=too_many_broadcasts(limit, event.sender or ""),
                at=draft.at,
                is_error=True,
            )
        )


def _limit(draft: Draft, event: BroadcastAccepted) -> int:
    spec = draft.catalog.get(event.sender or "", event.specs_offset)
    return (spec.limits if spec else Limits()).broadcasts_per_minute


def pass_on_cancel(draft: Draft, event: CancelRequested) -> None:
    """Nobody waits for a broadcast any more: whoever gathers its replies hears it after the broadcast itself."""
    assert event.asked_by is not None, "an agent's call is cancelled by its session"
    asker = event.asked_by.session_id
    numbers = call_number(event.asked_by.call_id, asker)
    if numbers is not None:
        broadcast_id = call_broadcast_id(asker, *numbers, tenant_of_session(event.session_id))
        draft.facts.append(replace(event, session_id=gathering_session_id(broadcast_id)))
