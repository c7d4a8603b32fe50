"""The session log: past facts, in the one order that counts. All session state is a fold over these records.

`at` is when the fact became one, from the clock of whoever recorded it; the core reads no other clock.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from schemas.content import AssistantBlock, UserBlock
from schemas.failure import Failure
from schemas.ids import SessionId
from schemas.usage import Usage


class MessageAccepted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="message_accepted"):
    session_id: SessionId
    message_id: str
    content: tuple[UserBlock, ...]
    at: datetime
    sent_at: datetime | None = None
    agent: str | None = None
    user_id: str | None = None
    tenant: str | None = None
    metadata: dict[str, str] = {}
    traceparent: str | None = None


class CancelRequested(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="cancel_requested"):
    session_id: SessionId
    command_id: str
    at: datetime
    message_id: str | None = None
    reason: str = ""
    by: str | None = None


class ApprovalDecided(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="approval_decided"):
    session_id: SessionId
    command_id: str
    call_id: str
    decision: Literal["approve", "deny"]
    at: datetime
    reason: str = ""
    by: str | None = None


class SessionEndRequested(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="session_end_requested"):
    session_id: SessionId
    command_id: str
    at: datetime
    reason: str = ""


class SessionExpired(Struct, frozen=True, kw_only=True, tag="session_expired"):
    """Nothing happened to the session since `idle_since`, for its retention time: its state leaves the tables."""

    session_id: SessionId
    idle_since: datetime
    at: datetime


class ModelCompleted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="model_completed"):
    session_id: SessionId
    call_id: str
    model: str
    content: tuple[AssistantBlock, ...]
    stop_reason: str
    usage: Usage
    cost_micros: int
    at: datetime
    attempts: int = 1
    duration_ms: int = 0
    request_id: str | None = None


class ModelFailed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="model_failed"):
    """The call failed for good: its retries are used up, or it cannot be retried."""

    session_id: SessionId
    call_id: str
    model: str
    failure: Failure
    at: datetime
    usage: Usage = Usage()
    cost_micros: int = 0
    attempts: int = 1
    duration_ms: int = 0


class ToolStarted(Struct, frozen=True, kw_only=True, tag="tool_started"):
    """A tool that is not idempotent is about to run. The first one of a call counts: only its writer may run it."""

    session_id: SessionId
    call_id: str
    at: datetime


class ToolCompleted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tool_completed"):
    session_id: SessionId
    call_id: str
    content: str
    at: datetime
    attempts: int = 1
    duration_ms: int = 0


class ToolFailed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tool_failed"):
    """The model gets `failure.message` as an error result and can act on it."""

    session_id: SessionId
    call_id: str
    failure: Failure
    at: datetime
    attempts: int = 1
    duration_ms: int = 0


SessionEvent = (
    MessageAccepted
    | CancelRequested
    | ApprovalDecided
    | SessionEndRequested
    | SessionExpired
    | ModelCompleted
    | ModelFailed
    | ToolStarted
    | ToolCompleted
    | ToolFailed
)
