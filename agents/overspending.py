"""Budgets, before each model call and before what its answer leads to: the turn goes on, waits for people, or ends."""

from typing import assert_never

from agents.accounts import Account, accounts
from agents.approvals import request_approval
from agents.budget import EXCEED_BUDGET
from agents.draft import Draft
from agents.endings import fail
from agents.session import CallKind, PendingCall
from agents.spec import ALWAYS
from schemas.content import ToolInput
from schemas.events import BudgetExceeded
from schemas.failure import Failure, FailureCode
from schemas.fields import BudgetAction
from schemas.ids import call_id


def may_spend(draft: Draft) -> bool:
    """Whether the budgets let the turn go on now; where they do not, it has ended, or waits for an approval."""
    while (account := next((one for one in accounts(draft) if one.is_breached), None)) is not None:
        action: BudgetAction = draft.spec.budget.on_breach if account.can_be_raised else "stop"
        draft.publish(
            BudgetExceeded,
            scope=account.scope,
            unit=account.unit,
            limit=account.allowed,
            spent=account.spent,
            reserved=account.reserved,
            action=action,
        )
        match action:
            case "stop":
                fail(draft, exceeded(account))
                return False
            case "ask":
                _ask(draft, account)
                return False
            case "cheaper":
                _raise(draft, account.name)
            case _:
                assert_never(action)
    return True


def is_about_budget(call: PendingCall) -> bool:
    """Whether people are asked for money, and not about a call of the model."""
    return call.kind == CallKind.APPROVAL and call.tool == EXCEED_BUDGET and not call.tool_use_id


def _ask(draft: Draft, account: Account) -> None:
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
    call = PendingCall(
        kind=CallKind.APPROVAL,
        call_id=call_id(turn.turn_id, step),
        step=step,
        since=draft.at,
        tool=EXCEED_BUDGET,
        input=asked,
    )
    request_approval(draft, call, draft.spec.approval_rule(EXCEED_BUDGET) or ALWAYS)


def approve_spending(draft: Draft, call: PendingCall) -> None:
    """The limit counts twice for this turn."""
    draft.settle(call)
    _raise(draft, str(call.input["budget"]))


def deny_spending(draft: Draft, call: PendingCall, why: str) -> None:
    """The turn ends where it stands; what the model asked for last is not done."""
    given = call.input
    draft.settle(call)
    fail(draft, _failure(str(given["budget"]), given["limit"], given["spent"], given["reserved"], f": {why}"))


def exceeded(account: Account) -> Failure:
    return _failure(account.name, account.allowed, account.spent, account.reserved, "")


def _failure(name: str, limit: int, spent: int, reserved: int, why: str) -> Failure:
    scope, unit = name.split("_")
    what = {"turn": "in a turn", "session": "in a session", "asked": "for the agent that asks"}[scope]
    counted = "micro-dollars" if unit == "micros" else unit
    error = (
        f"expected at most {limit} {counted} {what}, got {spent} spent and {reserved} reserved for the next call{why}: "
        "raise the agent's budget, or ask for less"
    )
    return Failure(code=FailureCode.BUDGET_EXCEEDED, message=error)


def _raise(draft: Draft, name: str) -> None:
    draft.set_turn(raised=(*draft.turn.raised, name))
