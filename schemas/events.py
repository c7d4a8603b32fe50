"""Agent events: what everyone may see of a session, on `agent-events`.

`seq` counts the events of a session from 1 without a gap. A worker that dies may publish an event again under the same
`session_id` and `seq`, with the same content: readers drop a `seq` that they have seen. Every message ends in exactly
one of `TurnCompleted`, `TurnFailed`, `TurnCancelled`.
"""

from datetime import datetime
from typing import Any

from msgspec import Struct

from schemas.failure import Failure
from schemas.ids import SessionId
from schemas.usage import Usage


class AgentEventFields(Struct, frozen=True, kw_only=True):
    """What every agent event has: the session, its turn, the user message that the turn answers, `seq` and time."""

    session_id: SessionId
    turn_id: str
    message_id: str
    seq: int
    at: datetime
    agent: str


class TurnStarted(AgentEventFields, frozen=True, kw_only=True, tag="turn_started"):
    user_id: str | None = None
    tenant: str | None = None
    metadata: dict[str, str] = {}


class ToolCalled(AgentEventFields, frozen=True, kw_only=True, tag="tool_called"):
    call_id: str
    tool: str
    input: dict[str, Any]


class ToolReturned(AgentEventFields, frozen=True, kw_only=True, tag="tool_returned"):
    call_id: str
    tool: str
    content: str
    is_error: bool = False


class ApprovalRequested(AgentEventFields, frozen=True, kw_only=True, tag="approval_requested"):
    """A tool call waits: answer with an `approval_decision` that has this `call_id`."""

    call_id: str
    tool: str
    input: dict[str, Any]


class TurnCompleted(AgentEventFields, frozen=True, kw_only=True, tag="turn_completed"):
    """The answer. `stop_reason` is `max_tokens` where the model was cut off at its output limit."""

    text: str
    usage: Usage
    cost_micros: int
    stop_reason: str = "end_turn"


class TurnFailed(AgentEventFields, frozen=True, kw_only=True, tag="turn_failed"):
    error: Failure
    usage: Usage = Usage()
    cost_micros: int = 0


class TurnCancelled(AgentEventFields, frozen=True, kw_only=True, tag="turn_cancelled"):
    reason: str = ""
    by: str | None = None
    usage: Usage = Usage()
    cost_micros: int = 0


AgentEvent = TurnStarted | ToolCalled | ToolReturned | ApprovalRequested | TurnCompleted | TurnFailed | TurnCancelled
TurnEnd = TurnCompleted | TurnFailed | TurnCancelled


class DeltaReset(Struct, frozen=True, tag="delta_reset"):
    """A new attempt of the step begins: what was shown of an earlier attempt is void."""

    session_id: SessionId
    turn_id: str
    step: int
    attempt: int
    seq: int


class TextDelta(Struct, frozen=True, tag="text_delta"):
    """A piece of the answer while the model writes it; `seq` counts the frames of one step's attempt from 0."""

    session_id: SessionId
    turn_id: str
    step: int
    attempt: int
    seq: int
    text: str


AgentDelta = DeltaReset | TextDelta
