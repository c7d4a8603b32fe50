"""The session log: past facts, in the one order that counts. All session state is a fold over these records.

`at` is when the fact became one, from the clock of whoever recorded it; the core reads no other clock.
"""

from msgspec import Struct

from schemas.asks import Asker
from schemas.fields import (
    AnswerContent,
    Approvers,
    AskedCalls,
    AskedCost,
    AskedTokens,
    AttemptCount,
    BudgetAction,
    BudgetLimit,
    BudgetReserved,
    BudgetScope,
    BudgetSpent,
    BudgetUnit,
    CallFailure,
    CallModelName,
    CallTime,
    ChangedInput,
    ChildSession,
    CountedIn,
    CountedLocally,
    Decision,
    ExpiresSeconds,
    FactTime,
    GivenBy,
    GivenMetadata,
    GivenReason,
    GivenTenant,
    GivenUserId,
    IdleSince,
    IsError,
    MessageContent,
    NeededApprovals,
    OtherModel,
    RequestId,
    SentTime,
    SharedBudgetName,
    SpecsOffset,
    StopReason,
    ToolResult,
    Traceparent,
    WaitsUntil,
    WantedAgent,
)
from schemas.gather import (
    Audience,
    BroadcastBudget,
    ForLateJoiners,
    Gather,
    GatherDeadline,
    Hops,
    MessageBudget,
    MessageHops,
    ReplyTo,
    SenderAgent,
)
from schemas.ids import CallId, CancelledMessageId, CommandId, SessionId
from schemas.usage import CallCost, CallUsage, Usage


class MessageAccepted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="message_accepted"):
    """A user message was checked and belongs to its session now: exactly one end follows on `agent-events`."""

    session_id: SessionId
    message_id: CommandId
    content: MessageContent
    at: FactTime
    sent_at: SentTime | None = None
    agent: WantedAgent | None = None
    user_id: GivenUserId | None = None
    tenant: GivenTenant | None = None
    metadata: GivenMetadata = {}
    traceparent: Traceparent | None = None
    specs_offset: SpecsOffset = -1
    asked_by: Asker = None
    hops: MessageHops = 0
    budget_micros: MessageBudget | None = None


class BroadcastAccepted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="broadcast_accepted"):
    """A broadcast was checked, and its session gathers the replies; the agents are those of `specs_offset`.

    With `asked_by` it is an agent's, named as `sender`, and what is gathered is the result of its call. That one goes
    through the session of its sender first, which counts it.
    """

    session_id: SessionId
    broadcast_id: CommandId
    content: MessageContent
    gather: Gather
    deadline: GatherDeadline
    at: FactTime
    audience: Audience = "all"
    sent_at: SentTime | None = None
    user_id: GivenUserId | None = None
    tenant: GivenTenant | None = None
    metadata: GivenMetadata = {}
    traceparent: Traceparent | None = None
    specs_offset: SpecsOffset = -1
    reply_to: ReplyTo | None = None
    hops: Hops = 0
    budget_micros: BroadcastBudget | None = None
    asked_by: Asker = None
    sender: SenderAgent | None = None
    for_late_joiners: ForLateJoiners = False


class CancelRequested(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="cancel_requested"):
    """Someone asked to end a turn. Where there is nothing to cancel, the command comes out as a dead letter.

    With `asked_by` it is the session that asked and waits no longer; its agent may have answered meanwhile.
    """

    session_id: SessionId
    command_id: CommandId
    at: FactTime
    message_id: CancelledMessageId | None = None
    reason: GivenReason = ""
    by: GivenBy | None = None
    asked_by: Asker = None


class ApprovalDecided(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="approval_decided"):
    """Someone let a waiting tool call run, or denied it. Where none waits, the command comes out as a dead letter."""

    session_id: SessionId
    command_id: CommandId
    call_id: CallId
    decision: Decision
    at: FactTime
    reason: GivenReason = ""
    by: GivenBy | None = None
    input: ChangedInput | None = None


class SessionEndRequested(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="session_end_requested"):
    """Someone asked to forget the conversation: its turns end, and later messages are refused."""

    session_id: SessionId
    command_id: CommandId
    at: FactTime
    reason: GivenReason = ""


class SessionReleaseRequested(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="session_release_requested"):
    """Someone asked to lift a quarantine. Where the session is in none, the command comes out as a dead letter."""

    session_id: SessionId
    command_id: CommandId
    at: FactTime
    reason: GivenReason = ""
    by: GivenBy | None = None


class SessionExpired(Struct, frozen=True, kw_only=True, tag="session_expired"):
    """Nothing happened to the session since `idle_since`, for its retention time: its state leaves the tables."""

    session_id: SessionId
    idle_since: IdleSince
    at: FactTime


class ModelCompleted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="model_completed"):
    """The model answered a call, with text, with uses of tools, or both. It is not paid for again."""

    session_id: SessionId
    call_id: CallId
    model: CallModelName
    content: AnswerContent
    stop_reason: StopReason
    usage: CallUsage
    cost_micros: CallCost
    at: FactTime
    attempts: AttemptCount = 1
    duration_ms: CallTime = 0
    request_id: RequestId | None = None
    counted_in: CountedIn = ()


class ModelFailed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="model_failed"):
    """The call failed for good: its retries are used up, or it cannot be retried."""

    session_id: SessionId
    call_id: CallId
    model: CallModelName
    failure: CallFailure
    at: FactTime
    usage: CallUsage = Usage()
    cost_micros: CallCost = 0
    attempts: AttemptCount = 1
    duration_ms: CallTime = 0
    counted_in: CountedIn = ()


class SpendingRefused(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="spending_refused"):
    """A model call was not made: with it, a shared budget would be exceeded. `limit` is as declared.

    What the budget's declaration said is repeated, so that the log explains what became of the turn.
    """

    session_id: SessionId
    call_id: CallId
    budget: SharedBudgetName
    scope: BudgetScope
    unit: BudgetUnit
    limit: BudgetLimit
    spent: BudgetSpent
    reserved: BudgetReserved
    at: FactTime
    on_breach: BudgetAction = "stop"
    cheaper_model: OtherModel | None = None
    approvals: NeededApprovals = 1
    approvers: Approvers = ()
    expires_seconds: ExpiresSeconds | None = None
    local: CountedLocally = False


class ToolStarted(Struct, frozen=True, kw_only=True, tag="tool_started"):
    """A tool that is not idempotent is about to run. The first one of a call counts: only its writer may run it."""

    session_id: SessionId
    call_id: CallId
    at: FactTime


class ToolCompleted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tool_completed"):
    """A tool returned; the model gets `content` as the result of its tool use."""

    session_id: SessionId
    call_id: CallId
    content: ToolResult
    at: FactTime
    attempts: AttemptCount = 1
    duration_ms: CallTime = 0


class ToolFailed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tool_failed"):
    """The model gets `failure.message` as an error result and can act on it."""

    session_id: SessionId
    call_id: CallId
    failure: CallFailure
    at: FactTime
    attempts: AttemptCount = 1
    duration_ms: CallTime = 0


class ChildEnded(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="child_ended"):
    """The agent that a call asked has answered, or will not: the model gets `content` as the result of its call."""

    session_id: SessionId
    call_id: CallId
    child_session_id: ChildSession
    content: ToolResult
    at: FactTime
    is_error: IsError = False
    tokens: AskedTokens = 0
    cost_micros: AskedCost = 0
    calls: AskedCalls = 0


class TimerFired(Struct, frozen=True, kw_only=True, tag="timer_fired"):
    """The time of a call that waits is over. Where the call waits no more, or for longer, it says nothing."""

    session_id: SessionId
    call_id: CallId
    due: WaitsUntil
    at: FactTime


SessionEvent = (
    MessageAccepted
    | BroadcastAccepted
    | CancelRequested
    | ApprovalDecided
    | SessionEndRequested
    | SessionReleaseRequested
    | SessionExpired
    | ModelCompleted
    | ModelFailed
    | SpendingRefused
    | ToolStarted
    | ToolCompleted
    | ToolFailed
    | ChildEnded
    | TimerFired
)
