"""Effects: what the core orders the shell to do.

`log_offset` is the offset in the session log of the event that gave the order: whoever performs the effect first waits
until the session's state reflects it. `timeout_ms` is what the turn's time limit leaves, from when the work begins:
time during which no worker ran is not held against the call.
"""

from typing import Any

from msgspec import Struct

from schemas.ids import SessionId


class CallModel(Struct, frozen=True, kw_only=True, tag="call_model"):
    """Call the session's model with its transcript as it is at `log_offset`; the transcript itself is not repeated."""

    session_id: SessionId
    call_id: str
    turn_id: str
    step: int
    agent: str
    log_offset: int
    timeout_ms: int


class CallTool(Struct, frozen=True, kw_only=True, tag="call_tool"):
    """Run a tool; `call_id` is its idempotency key."""

    session_id: SessionId
    call_id: str
    turn_id: str
    step: int
    agent: str
    tool: str
    input: dict[str, Any]
    log_offset: int
    timeout_ms: int


Effect = CallModel | CallTool
