"""Shared budgets as they are declared, and the accounts that a call counts in."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from agents.session import Turn
from agents.shared_budgets import BudgetsFileError, SharedBudget, charges, expires_ms, parse_budgets

NOW = datetime(2026, 5, 1, 23, 59, tzinfo=UTC)
TURN = Turn(number=1, turn_id="s1/1", message_id="m1", agent="reader", deadline=NOW, user_id="ann", tenant="acme")
WHOLE = """
[house]
scope = "all"
day_micros = 50_000_000

[readers]
scope = "agent"
only = ["reader"]
day_tokens = 1_000_000
on_breach = "cheaper"
cheaper_model = "claude-haiku-5-5"

[users]
scope = "user"
day_calls = 500
on_breach = "ask"
approval = { approvers = ["boss"], expires_seconds = 3600 }
"""


def accounts(budget: SharedBudget, turn: Turn = TURN, session_id: str = "s1") -> list[str]:
    return [charge.account for charge in charges([budget], turn, session_id, NOW)]


def test_a_file_has_a_table_for_each_budget() -> None:
    """In their order, which is the order in which they are asked."""
    house, readers, users = parse_budgets(WHOLE, "budgets.toml")
    assert (house.name, house.limits) == ("house", (50_000_000, None, None))
    assert (readers.only, readers.cheaper_model) == (("reader",), "claude-haiku-5-5")
    assert users.approval is not None
    assert users.approval.approvers == ("boss",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1 to 50 tables"),
        ("[a", "expected TOML"),
        ("a = 1", "put it below the name of a budget"),
        ('[a]\nday_micros = 1\nname = "b"', "remove it"),
        ('[a]\nscope = "all"', "at least one of"),
        ('[a]\nscope = "galaxy"\nday_micros = 1', "scope"),
        ("[a]\nday_micros = 1", "scope"),
        ('[A]\nscope = "all"\nday_micros = 1', "name"),
        ('[a_b]\nscope = "all"\nday_micros = 1', "name"),
        ('[a]\nscope = "all"\nday_micros = 0', "day_micros"),
        ('[a]\nscope = "all"\nday_dollars = 1', "day_dollars.*It has: scope, only, day_micros"),
        ('[a]\nscope = "all"\nday_micros = 1\nonly = ["x"]', "only"),
        ('[a]\nscope = "all"\nday_micros = 1\non_breach = "cheaper"', "cheaper_model"),
        ('[a]\nscope = "all"\nday_micros = 1\nreserve_micros = 2', "reserve_micros"),
        ('[a]\nscope = "all"\nday_tokens = 1\nreserve_micros = 2', "reserve_micros"),
        ('[a]\nscope = "all"\nday_micros = 1\napproval = {}', "approval"),
        ('[a]\nscope = "all"\nday_micros = 1\non_breach = "ask"\napproval = { when = "x" }', "approval"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(text: str, problem: str) -> None:
    """The error says which file, which table, what was expected."""
    with pytest.raises(BudgetsFileError, match=rf"(?s)budgets\.toml.*{problem}"):
        parse_budgets(text, "budgets.toml")


@pytest.mark.parametrize(
    ("fields", "turn", "session_id", "account"),
    [
        ({"scope": "all"}, TURN, "s1", "b/2026-05-01"),
        ({"scope": "agent"}, TURN, "s1", "b/2026-05-01/reader"),
        ({"scope": "agent", "only": ("writer",)}, TURN, "s1", None),
        ({"scope": "tenant"}, TURN, "s1", "b/2026-05-01/acme"),
        ({"scope": "tenant"}, TURN, "mill:s1", "b/2026-05-01/mill"),
        ({"scope": "tenant"}, replace(TURN, tenant=None), "s1", None),
        ({"scope": "tenant", "only": ("acme",)}, TURN, "mill:s1", None),
        ({"scope": "user"}, TURN, "s1", "b/2026-05-01/acme/ann"),
        ({"scope": "user"}, TURN, "mill:s1", "b/2026-05-01/mill/ann"),
        ({"scope": "user"}, replace(TURN, tenant=None), "s1", "b/2026-05-01//ann"),
        ({"scope": "user"}, replace(TURN, user_id=None), "s1", None),
        ({"scope": "user", "only": ("ann",)}, TURN, "s1", "b/2026-05-01/acme/ann"),
        ({"scope": "user", "only": ("bob",)}, TURN, "s1", None),
    ],
)
def test_whose_account_a_call_counts_in(
    fields: dict[str, Any], turn: Turn, session_id: str, account: str | None
) -> None:
    """Of the day in UTC; the tenant is that of the session's id, else what the message said."""
    assert accounts(SharedBudget(name="b", day_micros=1, **fields), turn, session_id) == ([account] if account else [])


def test_only_the_limits_that_the_order_names_count_twice() -> None:
    """People approved of one, or a cheaper model goes on."""
    budget = SharedBudget(name="b", scope="all", day_micros=10, day_calls=5)
    (charge,) = charges([budget], TURN, "s1", NOW, ("b_micros", "other_calls"))
    assert charge.allowed == (20, None, 5)
    assert charge.before == "b/2026-04-30"


def test_an_account_is_forgotten_two_days_after_its_own() -> None:
    """What is no account is refused as a record that cannot be read."""
    assert expires_ms("b/2026-05-01//ann") == datetime(2026, 5, 4, tzinfo=UTC).timestamp() * 1000
    for name in ("b", "b/today", ""):
        with pytest.raises(OverflowError):
            expires_ms(name)
