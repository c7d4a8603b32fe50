"""Calls that wait for people: who may decide, how many must approve, and what becomes of the call."""

from datetime import timedelta

from msgspec.structs import replace

from agents.approval_rule import ApprovalRule
from agents.draft import Draft
from agents.failures import already_decided, nobody_named, not_an_approver, nothing_here, nothing_to_change
from agents.results import Result
from agents.session import CallKind, Decided, PendingCall
from agents.spec import ALWAYS
from schemas.events import ApprovalAnswered, ApprovalRequested
from schemas.log import ApprovalDecided


def request_approval(draft: Draft, call: PendingCall, rule: ApprovalRule) -> None:
    """Let the call wait. It holds no worker: the state has it, and a timer ends it."""
    expires_at = draft.at + timedelta(seconds=rule.expires_seconds)
    draft.expect(replace(call, kind=CallKind.APPROVAL, expires_at=expires_at))
    draft.publish(
        ApprovalRequested,
        call_id=call.call_id,
        tool=call.tool,
        input=call.input,
        expires_at=expires_at,
        approvals=rule.approvals,
        approvers=rule.approvers,
    )


def decided_by_people(draft: Draft, call: PendingCall | None, event: ApprovalDecided) -> PendingCall | Result | None:
    """What a decision makes of the call that waits: the call that may begin now, its denial, or None: it waits on.

    One that cannot be followed is refused; one that only repeats what was decided is not even that.
    """
    if call is None:
        _refuse_late(draft, event)
        return None
    rule = _rule(draft, call)
    if event.by is None and (rule.approvals > 1 or rule.approvers):
        draft.refusal = nobody_named(event)
        return None
    if rule.approvers and event.by not in rule.approvers:
        draft.refusal = not_an_approver(event, rule.approvers)
        return None
    if event.input is not None and not call.tool_use_id:
        draft.refusal = nothing_to_change(event)
        return None
    if event.decision == "deny":
        _decide(draft, call, event)
        return denial(event.reason, event.by)
    return _approve(draft, call, event, rule)


def _approve(draft: Draft, call: PendingCall, event: ApprovalDecided, rule: ApprovalRule) -> PendingCall | None:
    if event.input is not None and event.input != call.input:
        # Who approved before has approved something else.
        changed = replace(call, input=event.input, is_changed=True, approved_by=())
    else:
        changed = call
    by = event.by or ""
    if by in changed.approved_by:
        return None
    approved_by = (*changed.approved_by, by)
    remaining = rule.approvals - len(approved_by)
    if remaining > 0:
        draft.exchange(call, replace(changed, approved_by=approved_by))
        _answered(draft, changed, event, remaining)
        return None
    _decide(draft, changed, event)
    return replace(changed, kind=CallKind.TOOL, since=draft.at, expires_at=None, approved_by=())


def denial(reason: str, by: str | None = None) -> Result:
    """What the model is told of a call that may not begin."""
    return Result(f"the call was denied{f' by {by}' if by else ''}{f': {reason}' if reason else ''}", is_error=True)


def expire(draft: Draft, call: PendingCall) -> None:
    """Nobody decided in time."""
    draft.set_turn(decided=(*draft.turn.decided, Decided(call.call_id, "expired", None)))
    draft.publish(ApprovalAnswered, call_id=call.call_id, tool=call.tool, input=call.input, decision="expired")


def _refuse_late(draft: Draft, event: ApprovalDecided) -> None:
    known = draft.head.turn.decided if draft.head.turn else ()
    decided = next((decided for decided in known if decided.call_id == event.call_id), None)
    if decided is None:
        draft.refusal = nothing_here(event)
    elif decided.decision != event.decision:
        draft.refusal = already_decided(event, decided)


def _decide(draft: Draft, call: PendingCall, event: ApprovalDecided) -> None:
    draft.set_turn(decided=(*draft.turn.decided, Decided(call.call_id, event.decision, event.by)))
    _answered(draft, call, event, 0)


def _answered(draft: Draft, call: PendingCall, event: ApprovalDecided, remaining: int) -> None:
    draft.publish(
        ApprovalAnswered,
        call_id=call.call_id,
        tool=call.tool,
        input=call.input,
        decision=event.decision,
        remaining=remaining,
        reason=event.reason,
        by=event.by,
    )


def _rule(draft: Draft, call: PendingCall) -> ApprovalRule:
    if call.rule is not None:
        return call.rule
    spec = draft.spec_of(call.agent or draft.turn.agent)
    return (spec.approval_rule(call.tool) if spec else None) or ALWAYS
