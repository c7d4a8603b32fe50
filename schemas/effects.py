"""Effects: what the core orders the shell to do.

`log_offset` is the offset in the session log of the event that gave the order: whoever performs the effect first waits
until the session's state reflects it. `timeout_ms` is what the turn's time limit leaves, from when the work begins:
time during which no worker ran is not held against the call.
"""

from msgspec import UNSET, Struct, UnsetType

from schemas.content import ToolInput
from schemas.fields import (
    CallingAgent,
    ExceededBudgets,
    GivenTenant,
    GivenUserId,
    LogOffset,
    OtherModel,
    StepNumber,
    TimeLeft,
    ToolOfCall,
    TurnAgent,
)
from schemas.ids import CallId, SessionId, TurnId


class CallModel(Struct, frozen=True, kw_only=True, tag="call_model"):
    """Call the session's model with its transcript as it is at `log_offset`; the transcript itself is not repeated."""

    session_id: SessionId
    call_id: CallId
    turn_id: TurnId
    step: StepNumber
    agent: TurnAgent
    log_offset: LogOffset
    timeout_ms: TimeLeft
    model: OtherModel | UnsetType = UNSET
    exceeds: ExceededBudgets | UnsetType = UNSET


class CallTool(Struct, frozen=True, kw_only=True, tag="call_tool"):
    """Run a tool that the model asked for, approved where that is needed; `call_id` is its idempotency key."""

    session_id: SessionId
    call_id: CallId
    turn_id: TurnId
    step: StepNumber
    agent: CallingAgent
    tool: ToolOfCall
    input: ToolInput
    log_offset: LogOffset
    timeout_ms: TimeLeft
    user_id: GivenUserId | None = None
    tenant: GivenTenant | None = None


Effect = CallModel | CallTool
