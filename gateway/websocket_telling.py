"""What of a session's feed is told over a WebSocket, in which frames: pure."""

from collections.abc import Iterator
from typing import Any, assert_never

from gateway.feeds import Entry, Position
from gateway.websocket_frames import Chat, Status, ToolUse
from schemas.codec import decode_agent_delta, decode_agent_event
from schemas.events import (
    AgentEvent,
    ApprovalRequested,
    DeltaReset,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
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
            yield Status(**turn, **waiting, agent=event.agent, state="waiting_for_approval", input=event.input)
        case TurnCompleted():
            # Whoever has only the first of the two frames, and resumes, gets both again.
            before = str(Position(position.event - 1, position.delta))
            yield Chat(**{**turn, "resume": before}, state="final", text=event.text)
            end = Status(
                **turn,
                agent=event.agent,
                state="completed",
                usage=event.usage,
                cost_micros=event.cost_micros,
                stop_reason=event.stop_reason,
            )
            yield end
        case TurnFailed():
            end = Status(
                **turn,
                agent=event.agent,
                state="failed",
                usage=event.usage,
                cost_micros=event.cost_micros,
                error=event.error,
            )
            yield end
        case TurnCancelled():
            end = Status(
                **turn,
                agent=event.agent,
                state="cancelled",
                usage=event.usage,
                cost_micros=event.cost_micros,
                reason=event.reason,
            )
            yield end
        case _:
            assert_never(event)
