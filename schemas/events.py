"""Agent events: what everyone may see of a session, on `agent-events`.

`seq` counts the events of a session from 1 without a gap. A worker that dies may publish an event again under the same
`session_id` and `seq`, with the same content: readers drop a `seq` that they have seen. Every message ends in exactly
one of `TurnCompleted`, `TurnFailed`, `TurnCancelled`.
"""

from msgspec import UNSET, Struct, UnsetType

from schemas.asks import ToldAsker
from schemas.content import ToolInput
from schemas.fields import (
    AnswerText,
    Approvers,
    AskedAgent,
    AskedCost,
    AttemptNumber,
    BudgetAction,
    BudgetLimit,
    BudgetReserved,
    BudgetScope,
    BudgetSpent,
    BudgetUnit,
    ChildCost,
    ChildSession,
    CountedLocally,
    DecidedHow,
    DeltaText,
    EventSeq,
    EventTime,
    FrameSeq,
    GivenBy,
    GivenMetadata,
    GivenReason,
    GivenTenant,
    GivenUserId,
    IsError,
    NeededApprovals,
    Remaining,
    ReplySession,
    ReplyText,
    SharedBudgetName,
    StepNumber,
    StopReason,
    ToolOfCall,
    ToolResult,
    TurnAgent,
    TurnError,
    WaitsUntil,
)
from schemas.gather import Gathered, IsLate, Missing, WhyOver
from schemas.ids import AnsweredMessageId, CallId, SessionId, TurnId
from schemas.usage import TurnCost, TurnUsage, Usage


class AgentEventFields(Struct, frozen=True, kw_only=True):
    """What every agent event has: the session, its turn, the user message that the turn answers, `seq` and time."""

    session_id: SessionId
    turn_id: TurnId
    message_id: AnsweredMessageId
    seq: EventSeq
    at: EventTime
    agent: TurnAgent


class TurnStarted(AgentEventFields, frozen=True, kw_only=True, tag="turn_started"):
    """The agent begins to work on a message. One that is turned away or cancelled before has only its end."""

    user_id: GivenUserId | None = None
    tenant: GivenTenant | None = None
    metadata: GivenMetadata = {}
    asked_by: ToldAsker = UNSET


class ToolCalled(AgentEventFields, frozen=True, kw_only=True, tag="tool_called"):
    """The model calls a tool, approved where that is needed; `tool_returned` follows, unless the turn ends before.

    With `child_session_id` it asks another agent: what that one does is in the events of that session.
    """

    call_id: CallId
    tool: ToolOfCall
    input: ToolInput
    child_session_id: ChildSession | UnsetType = UNSET


class ToolReturned(AgentEventFields, frozen=True, kw_only=True, tag="tool_returned"):
    """A tool call has its result, as the model is told it; that may be an error or a denial."""

    call_id: CallId
    tool: ToolOfCall
    content: ToolResult
    is_error: IsError = False
    child_session_id: ChildSession | UnsetType = UNSET


class ApprovalRequested(AgentEventFields, frozen=True, kw_only=True, tag="approval_requested"):
    """A tool call waits: answer with an `approval_decision` that has this `call_id`."""

    call_id: CallId
    tool: ToolOfCall
    input: ToolInput
    expires_at: WaitsUntil | None = None
    approvals: NeededApprovals = 1
    approvers: Approvers = ()


class ApprovalAnswered(AgentEventFields, frozen=True, kw_only=True, tag="approval_answered"):
    """Somebody decided about a call that waits, or nobody did in time. With `remaining` 0 it waits no longer."""

    call_id: CallId
    tool: ToolOfCall
    input: ToolInput
    decision: DecidedHow
    remaining: Remaining = 0
    reason: GivenReason = ""
    by: GivenBy | None = None


class HandedOff(AgentEventFields, frozen=True, kw_only=True, tag="handed_off"):
    """The agent passes the conversation on: from here on `to_agent` answers, in this turn and in later ones."""

    call_id: CallId
    to_agent: AskedAgent
    reason: GivenReason = ""


class BudgetExceeded(AgentEventFields, frozen=True, kw_only=True, tag="budget_exceeded"):
    """What is spent, with what the next call may take, is more than a limit; `action` says what becomes of the turn."""

    scope: BudgetScope
    unit: BudgetUnit
    limit: BudgetLimit
    spent: BudgetSpent
    action: BudgetAction
    reserved: BudgetReserved = 0
    budget: SharedBudgetName | UnsetType = UNSET
    local: CountedLocally | UnsetType = UNSET


def budget_of(event: BudgetExceeded) -> str:
    """Which budget, for people: the scope, and the name of a shared one."""
    return event.scope if isinstance(event.budget, UnsetType) else f"{event.scope}, {event.budget}"


class TurnCompleted(AgentEventFields, frozen=True, kw_only=True, tag="turn_completed"):
    """The answer. `stop_reason` is `max_tokens` where the model was cut off at its output limit."""

    text: AnswerText
    usage: TurnUsage
    cost_micros: TurnCost
    stop_reason: StopReason = "end_turn"
    asked_cost_micros: ChildCost | UnsetType = UNSET


class TurnFailed(AgentEventFields, frozen=True, kw_only=True, tag="turn_failed"):
    """The message ends without an answer; the session goes on with its next one."""

    error: TurnError
    usage: TurnUsage = Usage()
    cost_micros: TurnCost = 0
    asked_cost_micros: ChildCost | UnsetType = UNSET


class TurnCancelled(AgentEventFields, frozen=True, kw_only=True, tag="turn_cancelled"):
    """The message ends without an answer, because a `cancel_turn` or an `end_session` asked for it."""

    reason: GivenReason = ""
    by: GivenBy | None = None
    usage: TurnUsage = Usage()
    cost_micros: TurnCost = 0
    asked_cost_micros: ChildCost | UnsetType = UNSET


class BroadcastDelivered(AgentEventFields, frozen=True, kw_only=True, tag="broadcast_delivered"):
    """A broadcast that gathers replies was given to `agent`, which answers in the session `child_session_id`.

    With `late` the agent came when the gathering had ended: it answers there, and nobody waits for it.
    """

    child_session_id: ReplySession
    late: IsLate | UnsetType = UNSET


class BroadcastReplied(AgentEventFields, frozen=True, kw_only=True, tag="broadcast_replied"):
    """`agent` has answered a broadcast, or ended without an answer, which `content` then says why."""

    child_session_id: ReplySession
    content: ReplyText
    is_error: IsError = False
    late: IsLate = False


class BroadcastCompleted(AgentEventFields, frozen=True, kw_only=True, tag="broadcast_completed"):
    """What was gathered; `agent` is `@`. What comes after it is late. `cost_micros` is that of the gathered replies."""

    reason: WhyOver
    replies: Gathered = ()
    missing: Missing = ()
    cost_micros: AskedCost = 0


AgentEvent = (
    TurnStarted
    | ToolCalled
    | ToolReturned
    | ApprovalRequested
    | ApprovalAnswered
    | HandedOff
    | BudgetExceeded
    | TurnCompleted
    | TurnFailed
    | TurnCancelled
    | BroadcastDelivered
    | BroadcastReplied
    | BroadcastCompleted
)
TurnEnd = TurnCompleted | TurnFailed | TurnCancelled


class DeltaReset(Struct, frozen=True, tag="delta_reset"):
    """A new attempt of the step begins: what was shown of an earlier attempt is void."""

    session_id: SessionId
    turn_id: TurnId
    step: StepNumber
    attempt: AttemptNumber
    seq: FrameSeq


class TextDelta(Struct, frozen=True, tag="text_delta"):
    """A piece of the answer while the model writes it; `seq` counts the frames of one step's attempt from 0."""

    session_id: SessionId
    turn_id: TurnId
    step: StepNumber
    attempt: AttemptNumber
    seq: FrameSeq
    text: DeltaText


AgentDelta = DeltaReset | TextDelta
