"""What a session says when something cannot be done: what was expected, what came, what to do."""

from collections.abc import Iterable

from agents.draft import Refusal
from agents.session import Decided
from schemas.dead_letter import Cause
from schemas.failure import Failure, FailureCode
from schemas.log import ApprovalDecided, BroadcastAccepted, CancelRequested, SessionReleaseRequested


def limit_reached(code: FailureCode, limit: int, what: str) -> Failure:
    error = f"expected at most {limit} {what}, and the turn needs more: raise the agent's limit, or ask for less"
    return Failure(code=code, message=error)


def queue_full(limit: int, what: str) -> Failure:
    error = f"expected at most {limit} {what} to wait for the running turn: send it again when the turn has ended"
    return Failure(code=FailureCode.LIMIT_QUEUE, message=error, retryable=True)


def quarantined(cause: str) -> Failure:
    error = f"the session is quarantined after an internal error ({cause}): tell the operator, go on in a new session"
    return Failure(code=FailureCode.SESSION_QUARANTINED, message=error)


def agent_removed(agent: str) -> Failure:
    error = f"the agent `{agent}` was removed while it answered: name another agent, or add it again"
    return Failure(code=FailureCode.UNKNOWN_AGENT, message=error)


def nothing_here(event: CancelRequested | ApprovalDecided | SessionReleaseRequested) -> Refusal:
    if isinstance(event, SessionReleaseRequested):
        error = f"expected session `{event.session_id}` to be quarantined, got none such: it was released, or never was"
        return Refusal(Cause.NOT_QUARANTINED, error)
    if isinstance(event, CancelRequested):
        what = f"message `{event.message_id}`" if event.message_id else "a turn"
        error = (
            f"expected {what} to be queued or running in session `{event.session_id}`, got none: it ended, or never was"
        )
        return Refusal(Cause.NOTHING_TO_CANCEL, error)
    error = f"expected call `{event.call_id}` to wait for approval, got none such: it was decided, or never asked"
    return Refusal(Cause.NOTHING_TO_APPROVE, error)


def already_decided(event: ApprovalDecided, decided: Decided) -> Refusal:
    by = f" by {decided.by}" if decided.by else ""
    error = (
        f"expected call `{event.call_id}` to wait for approval, got one that is decided: `{decided.decision}`{by}. "
        "A decision stays as it is"
    )
    return Refusal(Cause.NOTHING_TO_APPROVE, error)


def nothing_to_change(event: ApprovalDecided) -> Refusal:
    error = f"expected no `input` with the approval of `{event.call_id}`, got one: it raises a budget by what it says"
    return Refusal(Cause.NOTHING_TO_APPROVE, error)


def not_an_approver(event: ApprovalDecided, approvers: Iterable[str]) -> Refusal:
    error = f"expected `by` to be one of {', '.join(approvers)}, got `{event.by}`: one of them must decide"
    return Refusal(Cause.NOT_AN_APPROVER, error)


def nobody_named(event: ApprovalDecided) -> Refusal:
    error = f"expected `by`, since it counts who approves `{event.call_id}`, got none: say who decides"
    return Refusal(Cause.NOT_AN_APPROVER, error)


def unknown_agent(agent: str, known: Iterable[str]) -> Failure:
    error = f"expected one of the agents {', '.join(sorted(known))}, got `{agent}`: name one of them, or add it"
    return Failure(code=FailureCode.UNKNOWN_AGENT, message=error)


def session_ended(session_id: str) -> Failure:
    error = f"expected a session that goes on, got `{session_id}`, which was ended: use another session_id"
    return Failure(code=FailureCode.SESSION_ENDED, message=error)


def gathers(session_id: str) -> Failure:
    error = f"expected a session with an agent, got `{session_id}`, which gathers replies: use another session_id"
    return Failure(code=FailureCode.SESSION_ENDED, message=error)


def id_in_use(event: BroadcastAccepted) -> Refusal:
    error = f"expected a broadcast in a session of its own, got `{event.session_id}`, which is a conversation: "
    return Refusal(Cause.ID_IN_USE, f"{error}send it again with another id")


def too_many_broadcasts(limit: int, agent: str) -> str:
    return f"expected at most {limit} broadcasts per minute of the agent `{agent}`, got more: go on without it"


UNUSABLE_ANSWERS = {
    "max_tokens": Failure(
        code=FailureCode.OUTPUT_TRUNCATED,
        message="expected a whole tool call, got one cut off at the output limit: raise `max_output_tokens`",
    ),
    "refusal": Failure(
        code=FailureCode.REFUSAL,
        message="the model declined to answer: change the request; this turn is left out of later prompts",
    ),
    "model_context_window_exceeded": Failure(
        code=FailureCode.CONTEXT_WINDOW_EXCEEDED,
        message="the conversation no longer fits the model's context window: go on in a new session",
    ),
}
"""Stop reasons after which there is no answer, whatever the content."""


def unexpected_stop(stop_reason: str, tool_calls: int) -> Failure:
    error = f"expected a stop reason that fits the answer, got `{stop_reason}` with {tool_calls} tool calls"
    return Failure(code=FailureCode.UNEXPECTED_STOP_REASON, message=error)
