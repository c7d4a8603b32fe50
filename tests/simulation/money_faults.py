"""Small faults in what budgets count, and in what follows from it."""

from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from agents import accounts, bill, overspending
from agents.accounts import Account
from agents.endings import fail
from agents.session import Ledger


def a_call_is_made_whatever_was_spent() -> Any:
    return patch("agents.model_call.may_spend", lambda _: True)


def tools_are_called_whatever_was_spent() -> Any:
    return patch("agents.tool_calls.may_spend", lambda _: True)


def what_asked_agents_took_is_not_counted() -> Any:
    return patch("agents.asks.count_child", lambda *_: None)


def a_late_bill_is_not_counted() -> Any:
    return patch("agents.tool_calls.count_late_child", lambda *_: None)


def the_dearest_call_is_the_last_one() -> Any:
    count = accounts.count_call

    def forgetful(draft: Any, usage: Any, cost_micros: int) -> None:
        if draft.head.ledger is not None:
            draft.set(ledger=replace(draft.head.ledger, dearest_micros=0, dearest_tokens=0))
        count(draft, usage, cost_micros)

    return patch.object(bill, "count_call", forgetful)


def nothing_is_reserved() -> Any:
    return patch.object(Account, "is_breached", property(lambda self: self.spent >= self.allowed))


def a_limit_that_was_raised_is_none() -> Any:
    return patch.object(Account, "allowed", property(lambda self: self.limit * (100 if self.is_raised else 1)))


def each_question_may_take_all_that_is_left() -> Any:
    share_out = accounts.share_out
    return patch("agents.tool_calls.share_out", lambda draft, asks: share_out(draft, min(asks, 1)))


def a_turn_that_was_denied_money_goes_on() -> Any:
    return patch("agents.tool_calls.deny_spending", lambda draft, call, _: overspending.approve_spending(draft, call))


def a_breach_is_not_told() -> Any:
    return patch.object(overspending, "_tell", lambda *_, **__: None)


def each_turn_begins_a_new_account_of_its_session() -> Any:
    def forgetful(draft: Any, failure: Any) -> None:
        fail(draft, failure)
        draft.set(ledger=Ledger())

    return patch.object(overspending, "fail", forgetful)


MONEY_FAULTS = {
    fault.__name__: fault
    for fault in (
        a_call_is_made_whatever_was_spent,
        tools_are_called_whatever_was_spent,
        what_asked_agents_took_is_not_counted,
        a_late_bill_is_not_counted,
        the_dearest_call_is_the_last_one,
        nothing_is_reserved,
        a_limit_that_was_raised_is_none,
        each_question_may_take_all_that_is_left,
        a_turn_that_was_denied_money_goes_on,
        a_breach_is_not_told,
        each_turn_begins_a_new_account_of_its_session,
    )
}
OFTEN = dict.fromkeys(MONEY_FAULTS, frozenset({"budget", "team", "silence"}))
