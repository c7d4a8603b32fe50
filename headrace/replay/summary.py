"""What of a session a person looks at first, and how one fact changed it."""

from typing import Any

import msgspec
from msgspec import Struct

from agents.session import CallKind, Session

STATUS_OF_CALLS = {
    CallKind.MODEL: "calls the model",
    CallKind.TOOL: "runs tools",
    CallKind.APPROVAL: "waits for approval",
}


class Summary(Struct, frozen=True, kw_only=True):
    """The state in short; `status` says what the session does, and `usage` counts tokens since it began."""

    status: str = "no session"
    agent: str | None = None
    turn: int = 0
    step: int = 0
    pending: tuple[str, ...] = ()
    queue: tuple[str, ...] = ()
    seq: int = 0
    entries: int = 0
    transcript_bytes: int = 0
    usage: int = 0
    cost_micros: int = 0


def summarise(session: Session | None) -> Summary:
    if session is None:
        return Summary()
    head, turn = session.head, session.head.turn
    return Summary(
        status=_status(session),
        agent=head.agent,
        turn=head.turns,
        step=turn.steps if turn else 0,
        pending=tuple(_pending(session)),
        queue=tuple(message.message_id for message in head.queue),
        seq=head.seq,
        entries=head.entries,
        transcript_bytes=head.transcript_bytes,
        usage=head.usage.total_tokens,
        cost_micros=head.cost_micros,
    )


def _status(session: Session) -> str:
    head = session.head
    if head.quarantined is not None:
        return "quarantined"
    if head.turn is not None:
        kinds = {call.kind for call in head.turn.pending}
        return ", ".join(status for kind, status in STATUS_OF_CALLS.items() if kind in kinds)
    if head.is_busy:
        return "gathers replies"
    return "idle" if head.ended_at is None else "ended"


def _pending(session: Session) -> list[str]:
    calls = session.head.turn.pending if session.head.turn else ()
    return [
        f"{call.call_id} {call.tool or 'model'}"
        + (" (approval)" if call.kind == CallKind.APPROVAL else "")
        + (" (started)" if call.started_offset is not None else "")
        for call in calls
    ]


def changes(before: Session | None, after: Session | None) -> dict[str, tuple[Any, Any]]:
    """The fields of the summary that differ, by name: what they were, and what they are."""
    if before is after:
        return {}
    old, new = msgspec.structs.asdict(summarise(before)), msgspec.structs.asdict(summarise(after))
    return {name: (old[name], new[name]) for name in new if old[name] != new[name]}
