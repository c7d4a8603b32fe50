"""What of a session's feed is told over a WebSocket, in which frames: pure."""

from collections.abc import Iterator
from typing import Any, Final, assert_never

from gateway.feeds import Entry, Position
from gateway.websocket_frames import Chat, Status, ToolUse
from schemas.codec import decode_agent_delta, decode_agent_event
from schemas.events import (
    AgentEvent,
    ApprovalAnswered,
    ApprovalRequested,
    BroadcastCompleted,
    BroadcastDelivered,
    BroadcastReplied,
    BudgetExceeded,
    DeltaReset,
    HandedOff,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnEnd,
    TurnFailed,
    TurnStarted,
)

Told = Chat | ToolUse | Status


def frames_of(entry: Entry) -> Iterator[Told]:
    """The frames that say what the entry says."""
    if entry.kind == "event":
        yield from _of_event(decode_agent_event(entry.body), entry.position)
        return
    delta = decode_agent_delta(entry.body)
    match delta:
        case TextDelta():
            text: str | None = delta.text
        case DeltaReset():
            text = None
        case _:
            assert_never(delta)
    yield Chat(
        session_id=delta.session_id,
        resume=str(entry.position),
        turn_id=delta.turn_id,
        state="reset" if text is None else "delta",
        text=text,
        step=delta.step,
        attempt=delta.attempt,
        seq=delta.seq,
    )


WAITS: Final = "waiting_for_approval"


def _of_event(event: AgentEvent, position: Position) -> Iterator[Told]:
    place: dict[str, Any] = {"session_id": event.session_id, "resume": str(position), "turn_id": event.turn_id}
    turn = {**place, "message_id": event.message_id}
    match event:
        case TurnStarted():
            yield Status(**turn, agent=event.agent, state="running")
        case ToolCalled():
            yield ToolUse(**turn, state="called", call_id=event.call_id, tool=event.tool, input=event.input)
        case ToolReturned():
            yield ToolUse(
                **turn,
                state="returned",
                call_id=event.call_id,
                tool=event.tool,
                content=event.content,
                is_error=event.is_error,
            )
        case ApprovalRequested():
            waiting: dict[str, Any] = {"call_id": event.call_id, "tool": event.tool}
            yield Status(**turn, **waiting, agent=event.agent, state=WAITS, input=event.input)
        case ApprovalAnswered():
            decided: dict[str, Any] = {
                "call_id": event.call_id,
                "tool": event.tool,
                "decision": event.decision,
                "by": event.by,
            }
            yield Status(**turn, **decided, agent=event.agent, state=WAITS if event.remaining else "running")
        case HandedOff():
            yield Status(**turn, agent=event.to_agent, state="running", call_id=event.call_id, reason=event.reason)
        case BroadcastDelivered():
            yield Status(
                **turn, agent=event.agent, state="completed" if event.late is True else "running", reason="delivered"
            )
        case BroadcastReplied():
            said = "replied with an error" if event.is_error else "replied"
            yield Status(**turn, agent=event.agent, state="completed" if event.late else "running", reason=said)
        case BroadcastCompleted():
            yield Status(**turn, agent=event.agent, state="completed", reason=event.reason)
        case BudgetExceeded():
            yield Status(**turn, agent=event.agent, state="running", reason=f"budget exceeded: {event.action}")
        case TurnCompleted():
            # Whoever has only the first of the two frames, and resumes, gets both again.
            before = str(Position(position.event - 1, position.delta))
            yield Chat(**{**turn, "resume": before}, state="final", text=event.text)
            yield Status(**turn, **_bill(event), state="completed", stop_reason=event.stop_reason)
        case TurnFailed():
            yield Status(**turn, **_bill(event), state="failed", error=event.error)
        case TurnCancelled():
            yield Status(**turn, **_bill(event), state="cancelled", reason=event.reason)
        case _:
            assert_never(event)


def _bill(end: TurnEnd) -> dict[str, Any]:
    return {"agent": end.agent, "usage": end.usage, "cost_micros": end.cost_micros}
