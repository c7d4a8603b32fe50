"""What each session does now: its status, its current turn and step, its last activity.

`session:{session}` is a hash; `sessions` has all of them by the time of their last event, and `sessions:{tenant}` those
of a tenant, which are known by their ids.
"""

from collections.abc import Iterator
from typing import assert_never

from projections.calls import DAY_MS, Call, CallProjection, version
from projections.record import Record, utc
from schemas.codec import decode_agent_event
from schemas.events import (
    AgentEvent,
    ApprovalAnswered,
    ApprovalRequested,
    BroadcastCompleted,
    BroadcastDelivered,
    BroadcastReplied,
    BudgetExceeded,
    HandedOff,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
)
from schemas.gather import GATHERER
from schemas.ids import tenant_of_session
from schemas.topics import AGENT_EVENTS

LIFETIME_MS = 7 * DAY_MS


def rows(record: Record) -> Iterator[Call]:
    """One call for each event."""
    event = decode_agent_event(record.value)
    known = version(event)
    fields = [part for name, value in _fields(event).items() for part in (name, value)]
    yield Call(
        utc(event.at),
        record.topic,
        record.partition,
        record.offset,
        "session",
        _keys(event.session_id),
        (
            event.session_id,
            known.seq,
            known.at_ms,
            LIFETIME_MS,
            event.turn_id,
            int(isinstance(event, TurnCompleted | TurnFailed | TurnCancelled | BroadcastCompleted)),
            *fields,
        ),
    )


def _keys(session_id: str) -> tuple[str, ...]:
    tenant = tenant_of_session(session_id)
    return (f"session:{session_id}", "sessions", *(() if tenant is None else (f"sessions:{tenant}",)))


def _fields(event: AgentEvent) -> dict[str, str]:
    fields = {"agent": event.agent, "message_id": event.message_id, "tool": "", "step": ""}
    match event:
        case TurnStarted():
            fields |= {"status": "running", "user_id": event.user_id or "", "tenant": event.tenant or ""}
        case ToolCalled():
            fields |= {"status": "running", "tool": event.tool, "step": _step(event.call_id)}
        case ToolReturned():
            fields |= {"status": "running", "step": _step(event.call_id)}
        case ApprovalRequested():
            fields |= {"status": "waiting_for_approval", "tool": event.tool, "step": _step(event.call_id)}
        case ApprovalAnswered():
            waits = event.remaining > 0
            status = "waiting_for_approval" if waits else "running"
            fields |= {"status": status, "tool": event.tool if waits else "", "step": _step(event.call_id)}
        case HandedOff():
            fields |= {"status": "running", "agent": event.to_agent}
        case BudgetExceeded():
            fields |= {"status": "running"}
        case BroadcastDelivered() | BroadcastReplied():
            fields |= {"status": "completed" if event.late is True else "running", "agent": GATHERER}
        case BroadcastCompleted() | TurnCompleted():
            fields |= {"status": "completed"}
        case TurnFailed():
            fields |= {"status": "failed"}
        case TurnCancelled():
            fields |= {"status": "cancelled"}
        case _:
            assert_never(event)
    return fields


def _step(call_id: str) -> str:
    return call_id.rpartition("/")[2]


SESSIONS = CallProjection(name="sessions", topics=(AGENT_EVENTS,), rows=rows)
