"""The table of topics: everything that a topic is, in one place.

Creating and checking topics, the AsyncAPI document, the decoders of `headrace tail` and the docs are derived from it.
All topics with `partitions=None` have the pipeline's partition count: a session has the same partition number in each,
so that one worker holds all that belongs to it.
"""

from enum import StrEnum

from msgspec import Struct

from schemas.audit import AuditEvent
from schemas.commands import ApprovalDecision, Broadcast, CancelTurn, EndSession, ReleaseSession, UserMessage
from schemas.dead_letter import DeadLetter
from schemas.directory import AgentAnnounced, AgentApplied, AgentRemoved
from schemas.effects import CallModel, CallTool
from schemas.events import (
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
    TurnFailed,
    TurnStarted,
)
from schemas.log import (
    ApprovalDecided,
    BroadcastAccepted,
    CancelRequested,
    ChildEnded,
    MessageAccepted,
    ModelCompleted,
    ModelFailed,
    SessionEndRequested,
    SessionExpired,
    SessionReleaseRequested,
    SpendingRefused,
    TimerFired,
    ToolCompleted,
    ToolFailed,
    ToolStarted,
)
from schemas.tool_results import RemoteResult

DAY_MS = 24 * 3600 * 1000
HOUR_MS = 3600 * 1000
MAX_PUBLIC_IN_BYTES = 1 << 20
"""1 MiB, Kafka's own default: what a producer that was not configured for more can send anyway."""
MAX_INTERNAL_BYTES = 4 << 20
"""A model's answer or a dead letter with its record in base64 fits, with room for headers."""


class Access(StrEnum):
    """Who may write or read a topic besides Headrace itself."""

    PUBLIC_IN = "public in"
    PUBLIC_OUT = "public out"
    INTERNAL = "internal"


class Topic(Struct, frozen=True, kw_only=True):
    """One topic. `key` names the record's key; sizes in bytes, retention in milliseconds."""

    name: str
    access: Access
    key: str
    records: tuple[type[Struct], ...]
    description: str
    written_by: str
    read_by: str
    retention_ms: int
    partitions: int | None = None
    cleanup_policy: str = "delete"
    max_message_bytes: int = MAX_INTERNAL_BYTES


USER_MESSAGES = Topic(
    name="user-messages",
    access=Access.PUBLIC_IN,
    key="session_id, or none",
    records=(UserMessage, CancelTurn, ApprovalDecision, EndSession, ReleaseSession),
    description="Commands to sessions. `session_id` and `text` make a complete message.",
    written_by="anyone",
    read_by="accept",
    retention_ms=7 * DAY_MS,
    max_message_bytes=MAX_PUBLIC_IN_BYTES,
)
BROADCASTS = Topic(
    name="broadcasts",
    access=Access.PUBLIC_IN,
    key="any, or none",
    records=(Broadcast,),
    description="A message to many agents, each of which answers in a session of its own.",
    written_by="anyone",
    read_by="route_broadcast",
    retention_ms=7 * DAY_MS,
    max_message_bytes=MAX_PUBLIC_IN_BYTES,
)
SESSION_LOG = Topic(
    name="session-log",
    access=Access.INTERNAL,
    key="session_id",
    records=(
        MessageAccepted,
        BroadcastAccepted,
        CancelRequested,
        ApprovalDecided,
        SessionEndRequested,
        SessionReleaseRequested,
        SessionExpired,
        ModelCompleted,
        ModelFailed,
        SpendingRefused,
        ToolStarted,
        ToolCompleted,
        ToolFailed,
        ChildEnded,
        TimerFired,
    ),
    description="Every fact of a session in its one order: the truth, of which all state is a fold.",
    written_by="accept, accept_results, route_broadcast, decide, call_model, call_tool, timers, expire",
    read_by="decide",
    retention_ms=30 * DAY_MS,
)
LLM_REQUESTS = Topic(
    name="llm-requests",
    access=Access.INTERNAL,
    key="session_id",
    records=(CallModel,),
    description="Orders to call the model.",
    written_by="decide",
    read_by="call_model",
    retention_ms=DAY_MS,
)
TOOL_CALLS = Topic(
    name="tool-calls",
    access=Access.PUBLIC_OUT,
    key="session_id",
    records=(CallTool,),
    description="Orders to run a tool. Drop a `call_id` that was seen: orders may be repeated.",
    written_by="decide",
    read_by="call_tool, tool services outside",
    retention_ms=DAY_MS,
)
TOOL_RESULTS = Topic(
    name="tool-results",
    access=Access.PUBLIC_IN,
    key="session_id, or none",
    records=(RemoteResult,),
    description="How calls of remote tools ended. `session_id` and `call_id` are those of the call on `tool-calls`.",
    written_by="tool services outside",
    read_by="accept_results",
    retention_ms=DAY_MS,
    max_message_bytes=MAX_PUBLIC_IN_BYTES,
)
AGENT_EVENTS = Topic(
    name="agent-events",
    access=Access.PUBLIC_OUT,
    key="session_id",
    records=(
        TurnStarted,
        ToolCalled,
        ToolReturned,
        ApprovalRequested,
        ApprovalAnswered,
        HandedOff,
        BudgetExceeded,
        TurnCompleted,
        TurnFailed,
        TurnCancelled,
        BroadcastDelivered,
        BroadcastReplied,
        BroadcastCompleted,
    ),
    description="What a session does, for everyone to see. Drop a `seq` that was seen: events may be repeated.",
    written_by="decide",
    read_by="anyone",
    retention_ms=7 * DAY_MS,
)
AGENT_DELTAS = Topic(
    name="agent-deltas",
    access=Access.PUBLIC_OUT,
    key="session_id",
    records=(TextDelta, DeltaReset),
    description="The answer's text while the model writes it. Advisory: the answer is in `turn_completed`.",
    written_by="call_model",
    read_by="anyone",
    retention_ms=HOUR_MS,
)
AUDIT_EVENTS = Topic(
    name="audit-events",
    access=Access.PUBLIC_OUT,
    key="session_id where there is one, else the id of the API key, or none",
    records=(AuditEvent,),
    description="Who did what at the door. Drop an `id` that was seen: events may be repeated.",
    written_by="gateway, the headrace command",
    read_by="anyone",
    retention_ms=30 * DAY_MS,
    max_message_bytes=MAX_PUBLIC_IN_BYTES,
)
AGENT_SPECS = Topic(
    name="agent-specs",
    access=Access.PUBLIC_IN,
    key="`{agent}@{version}-{its own}`: each record has another",
    records=(AgentApplied, AgentRemoved),
    description="The agents that were applied since the workers' files, in the order in which they were.",
    written_by="headrace agents apply, headrace agents remove",
    read_by="every worker",
    retention_ms=0,
    # How far it was read is one number, which is stamped on each message that is accepted.
    partitions=1,
    cleanup_policy="compact",
    max_message_bytes=MAX_PUBLIC_IN_BYTES,
)
AGENT_DIRECTORY = Topic(
    name="agent-directory",
    access=Access.PUBLIC_OUT,
    key="`{agent}@{worker}`",
    records=(AgentAnnounced,),
    description="Which agents there are, what they can do, and which workers serve them; said again all the time.",
    written_by="every worker",
    read_by="every worker, anyone",
    retention_ms=DAY_MS,
    partitions=1,
    # Who falls silent without a farewell is forgotten, not kept for ever.
    cleanup_policy="compact,delete",
    max_message_bytes=MAX_PUBLIC_IN_BYTES,
)
DEAD_LETTERS = Topic(
    name="dead-letters",
    access=Access.PUBLIC_OUT,
    key="session_id where it is known, else the record's own key",
    records=(DeadLetter,),
    description="Records that could not be processed, byte for byte, each with its cause.",
    written_by="accept, accept_results, route_broadcast, decide, call_model, call_tool",
    read_by="anyone",
    retention_ms=30 * DAY_MS,
)

TOPICS: tuple[Topic, ...] = (
    USER_MESSAGES,
    BROADCASTS,
    SESSION_LOG,
    LLM_REQUESTS,
    TOOL_CALLS,
    TOOL_RESULTS,
    AGENT_EVENTS,
    AGENT_DELTAS,
    AUDIT_EVENTS,
    AGENT_SPECS,
    AGENT_DIRECTORY,
    DEAD_LETTERS,
)
