"""What agents and tools did, counted: per minute for two days, and in total.

`statistics:minute:{YYYY-MM-DDTHH:MM}` (UTC) and `statistics:total` are hashes of counters, named
`agent/{agent}/{counter}` and `tool/{tool}/{counter}`.
"""

from collections.abc import Iterator
from typing import assert_never

from projections.calls import DAY_MS, Call, CallProjection, milliseconds, version
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
    TurnEnd,
    TurnFailed,
    TurnStarted,
)
from schemas.topics import AGENT_EVENTS

MINUTE_LIFETIME_MS = 2 * DAY_MS
KNOWN_LIFETIME_MS = DAY_MS
"""An event is published again by a worker that comes back after a crash: within minutes."""
MAX_TOOL_NAME_CHARACTERS = 64
"""As long as the names of tools are; a model can write anything."""


def rows(record: Record) -> Iterator[Call]:
    """One call for each event that counts."""
    event = decode_agent_event(record.value)
    counts = _counts(event)
    at, known = utc(event.at), version(event)
    minute = at.replace(second=0, microsecond=0)
    yield Call(
        at,
        record.topic,
        record.partition,
        record.offset,
        "count",
        (
            "statistics:progress",
            f"statistics:known:{event.session_id}",
            f"statistics:minute:{minute:%Y-%m-%dT%H:%M}",
            "statistics:total",
        ),
        (
            record.partition,
            record.offset,
            known.seq,
            known.at_ms,
            KNOWN_LIFETIME_MS,
            2,
            milliseconds(minute) + MINUTE_LIFETIME_MS,
            0,
            *(part for name, count in counts.items() if count for part in (name, count)),
        ),
    )


def _counts(event: AgentEvent) -> dict[str, int]:
    agent = f"agent/{event.agent}"
    counts: dict[str, int]
    match event:
        case TurnStarted():
            counts = {f"{agent}/turns_started": 1}
        case ToolCalled():
            counts = {f"{agent}/tool_calls": 1, f"{_tool(event.tool)}/calls": 1}
        case ToolReturned():
            counts = {f"{_tool(event.tool)}/results": 1, f"{_tool(event.tool)}/errors": int(event.is_error)}
        case ApprovalRequested():
            counts = {f"{agent}/approvals_requested": 1}
        case ApprovalAnswered():
            counts = {f"{agent}/approvals_answered": int(event.remaining == 0)}
        case HandedOff():
            counts = {f"{agent}/handoffs": 1}
        case BroadcastDelivered():
            counts = {f"{agent}/broadcasts_delivered": 1}
        case BroadcastReplied():
            counts = {f"{agent}/broadcasts_replied": 1, f"{agent}/broadcasts_replied_late": int(event.late)}
        case BroadcastCompleted():
            counts = {}
        case BudgetExceeded():
            counts = {f"{agent}/budgets_exceeded": 1}
        case TurnCompleted():
            counts = {f"{agent}/turns_completed": 1} | _usage(agent, event)
        case TurnFailed():
            counts = {f"{agent}/turns_failed": 1} | _usage(agent, event)
        case TurnCancelled():
            counts = {f"{agent}/turns_cancelled": 1} | _usage(agent, event)
        case _:
            assert_never(event)
    return counts


def _tool(name: str) -> str:
    return f"tool/{name[:MAX_TOOL_NAME_CHARACTERS]}"


def _usage(agent: str, event: TurnEnd) -> dict[str, int]:
    usage = event.usage
    return {
        f"{agent}/input_tokens": usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        f"{agent}/output_tokens": usage.output_tokens,
        f"{agent}/cost_micros": event.cost_micros,
    }


STATISTICS = CallProjection(name="statistics", topics=(AGENT_EVENTS,), rows=rows)
