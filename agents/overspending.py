"""Budgets, before each model call and before what its answer leads to: the turn goes on, waits for people, or ends."""

from typing import assert_never

from msgspec import UNSET

from agents.accounts import Account, accounts
from agents.approval_rule import WEEK_S, ApprovalRule
from agents.approvals import request_approval
from agents.budget import EXCEED_BUDGET
from agents.draft import Draft
from agents.endings import fail
from agents.session import CallKind, PendingCall
from agents.spec import ALWAYS
from schemas.content import ToolInput
from schemas.events import BudgetExceeded
from schemas.failure import Failure, FailureCode
from schemas.fields import BudgetAction, BudgetScope
from schemas.ids import call_id
from schemas.log import SpendingRefused

OF_WHOM: dict[BudgetScope, str] = {
    "turn": "in a turn",
    "session": "in a session",
    "asked": "for the agent that asks",
    "message": "for this message",
    "agent": "a day for the agent",
    "user": "a day for the user",
    "tenant": "a day for the tenant",
    "all": "a day for all together",
}


def may_spend(draft: Draft) -> bool:
    """Whether the agent's budget lets the turn go on now; where not, it has ended, or waits for an approval."""
    while (account := next((one for one in accounts(draft) if one.is_breached), None)) is not None:
        action: BudgetAction = draft.spec.budget.on_breach if account.can_be_raised else "stop"
        _tell(draft, account, action)
        match action:
            case "stop":
                fail(draft, exceeded(account))
                return False
            case "ask":
                _ask(draft, account)
                return False
            case "cheaper":
                draft.set_turn(raised=(*draft.turn.raised, account.name))
            case _:
                assert_never(action)
    return True


def may_exceed(draft: Draft, event: SpendingRefused) -> bool:
    """Whether the turn goes on though a shared budget has refused its call; its limit then counts twice."""
    account = Account(event.scope, event.unit, event.limit, event.spent, event.reserved, budget=event.budget)
    if account.name in draft.turn.exceeded:
        account = Account(event.scope, event.unit, event.limit, event.spent, event.reserved, True, event.budget)
    action: BudgetAction = event.on_breach if account.can_be_raised else "stop"
    _tell(draft, account, action, is_local=event.local)
    match action:
        case "stop":
            fail(draft, exceeded(account))
        case "ask":
            expires = event.expires_seconds or WEEK_S
            rule = ApprovalRule(approvals=event.approvals, approvers=event.approvers, expires_seconds=expires)
            _ask(draft, account, rule)
        case "cheaper":
            draft.set_turn(exceeded=(*draft.turn.exceeded, account.name), cheaper_model=event.cheaper_model or "")
            return True
        case _:
            assert_never(action)
    return False


def _tell(draft: Draft, account: Account, action: BudgetAction, *, is_local: bool = False) -> None:
    draft.publish(
        BudgetExceeded,
        scope=account.scope,
        unit=account.unit,
        limit=account.allowed,
        spent=account.spent,
        reserved=account.reserved,
        action=action,
        budget=account.budget or UNSET,
        local=is_local or UNSET,
    )


def is_about_budget(call: PendingCall) -> bool:
    """Whether people are asked for money, and not about a call of the model."""
    return call.kind == CallKind.APPROVAL and call.tool == EXCEED_BUDGET and not call.tool_use_id


def _ask(draft: Draft, account: Account, rule: ApprovalRule | None = None) -> None:
    """Of a shared budget, `rule` says who decides; of its own, the agent does."""
    turn = draft.turn
    step = turn.steps + 1
    draft.set_turn(steps=step)
    asked: ToolInput = {
        "budget": account.name,
        "limit": account.limit,
        "spent": account.spent,
        "reserved": account.reserved,
        "raised_to": account.limit * 2,
    }
    if account.budget:
        asked["scope"] = account.scope
    call = PendingCall(
        kind=CallKind.APPROVAL,
        call_id=call_id(turn.turn_id, step),
        step=step,
        since=draft.at,
        tool=EXCEED_BUDGET,
        input=asked,
        rule=rule,
    )
    request_approval(draft, call, rule or draft.spec.approval_rule(EXCEED_BUDGET) or ALWAYS)


def approve_spending(draft: Draft, call: PendingCall) -> None:
    """The limit counts twice for this turn."""
    draft.settle(call)
    name = str(call.input["budget"])
    if "scope" in call.input:
        draft.set_turn(exceeded=(*draft.turn.exceeded, name))
    else:
        draft.set_turn(raised=(*draft.turn.raised, name))


def deny_spending(draft: Draft, call: PendingCall, why: str) -> None:
    """The turn ends where it stands; what the model asked for last is not done."""
    given = call.input
    draft.settle(call)
    name, _, unit = str(given["budget"]).rpartition("_")
    fail(draft, _failure(given.get("scope", name), unit, given["limit"], given["spent"], given["reserved"], f": {why}"))


def exceeded(account: Account) -> Failure:
    return _failure(account.scope, account.unit, account.allowed, account.spent, account.reserved, "")


def _failure(scope: BudgetScope, unit: str, limit: int, spent: int, reserved: int, why: str) -> Failure:
    counted = {"micros": "micro-dollars", "tokens": "tokens", "calls": "model calls"}[unit]
    advice = "wait for tomorrow (UTC), raise it"
    if scope in {"turn", "session", "asked", "message"}:
        advice = "give the message a larger budget" if scope == "message" else "raise the agent's budget"
    error = (
        f"expected at most {limit} {counted} {OF_WHOM[scope]}, got {spent} spent and {reserved} reserved for the next "
        f"call{why}: {advice}, or ask for less"
    )
    return Failure(code=FailureCode.BUDGET_EXCEEDED, message=error)
