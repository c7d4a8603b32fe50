"""Budgets that agents, users, tenants or all together share: what is declared, and which accounts a call counts in."""

import tomllib
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct

from agents.accounts import UNITS
from agents.approval_rule import ApprovalRule
from agents.budget import Amount
from agents.session import Turn
from schemas.fields import BudgetUnit
from schemas.ids import tenant_of_session

BudgetName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9-]*(?!\n)$")]
Amounts = tuple[int, int, int]
"""In the order of `UNITS`."""
NOTHING: Amounts = (0, 0, 0)
MAX_BUDGETS = 50
"""All that apply are asked before each call: a few, not thousands."""

SPENT_PREFIX = "budget:"
"""Of the key, before an account, that says what was spent; it is made of the session log."""
OPEN_PREFIX = "budget-open:"
"""Of the key that says what is reserved."""
LIFETIME = timedelta(days=3)
"""From the begin of an account's day: a call ends on the next one at the latest, and people look back."""


class BudgetsFileError(ValueError):
    """The file of shared budgets cannot be read, or declares none that can be meant."""


class SharedBudget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all calls of a day (UTC) may take together, by `scope`: of each agent, of each user, of each tenant, of all.

    With `only`, of these agents, users or tenants. Before each call it is reserved what the dearest call of the same
    agent and model took in the account today or yesterday, and at least `reserve_micros`. `ask` lets the turn wait for
    an approval of `exceed_budget`, for which `approval` says who decides, and `cheaper` lets `cheaper_model` go on:
    either way the limit then counts twice for this turn.
    """

    name: BudgetName
    scope: Literal["agent", "user", "tenant", "all"]
    only: tuple[str, ...] = ()
    day_micros: Amount | None = None
    day_tokens: Amount | None = None
    day_calls: Amount | None = None
    reserve_micros: Annotated[int, msgspec.Meta(ge=0)] = 0
    on_breach: Literal["stop", "ask", "cheaper"] = "stop"
    cheaper_model: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    approval: ApprovalRule | None = None

    def __post_init__(self) -> None:
        if not any(self.limits):
            raise ValueError("expected at least one of `day_micros`, `day_tokens` and `day_calls`: set one")
        if (self.on_breach == "cheaper") != (self.cheaper_model is not None):
            raise ValueError('expected `cheaper_model` with `on_breach = "cheaper"`, and only there: set both, or none')
        if self.approval is not None and (self.on_breach != "ask" or self.approval.when is not None):
            raise ValueError('expected `approval` only with `on_breach = "ask"`, and without `when`: remove it')
        if self.reserve_micros and (self.day_micros is None or self.reserve_micros > self.day_micros):
            raise ValueError(
                f"expected `reserve_micros` of at most `day_micros`, got {self.reserve_micros} with {self.day_micros}: "
                "no call could be made"
            )
        if self.only and self.scope == "all":
            raise ValueError('expected `only` with the scopes "agent", "user" and "tenant", got "all": remove one')

    @property
    def limits(self) -> tuple[int | None, int | None, int | None]:
        """In the order of `UNITS`."""
        return self.day_micros, self.day_tokens, self.day_calls

    def limit_name(self, unit: BudgetUnit) -> str:
        """As orders of calls say that it may be exceeded."""
        return f"{self.name}_{unit}"

    def owner(self, turn: Turn, session_id: str) -> str | None:
        """Whose account the turn's calls count in, as it stands in its name; None: they do not count."""
        tenant = tenant_of_session(session_id, turn.tenant)
        match self.scope:
            case "all":
                return ""
            case "agent":
                name, owner = turn.agent, turn.agent
            case "tenant":
                name = owner = tenant or ""
            case "user":
                # The users of two tenants may have the same id.
                name, owner = turn.user_id or "", f"{tenant or ''}/{turn.user_id}"
        return owner if name and (not self.only or name in self.only) else None


class Charge(Struct, frozen=True):
    """An account that a call counts in, and its limits for this call: those of `raised` count twice."""

    budget: SharedBudget
    account: str
    before: str
    """The same account of the day before."""
    raised: tuple[bool, bool, bool]

    @property
    def allowed(self) -> tuple[int | None, int | None, int | None]:
        micros, tokens, calls = (
            None if limit is None else limit * (1 + is_raised)
            for limit, is_raised in zip(self.budget.limits, self.raised, strict=True)
        )
        return micros, tokens, calls


def charges(
    budgets: Iterable[SharedBudget], turn: Turn, session_id: str, at: datetime, exceeds: Iterable[str] = ()
) -> Iterator[Charge]:
    """The accounts that the turn's next call counts in, in the order of the budgets."""
    day, exceeded = at.astimezone(UTC).date(), frozenset(exceeds)
    for budget in budgets:
        owner = budget.owner(turn, session_id)
        if owner is not None:
            micros, tokens, calls = (budget.limit_name(unit) in exceeded for unit in UNITS)
            before = account_name(budget.name, day - timedelta(days=1), owner)
            yield Charge(budget, account_name(budget.name, day, owner), before, (micros, tokens, calls))


def account_name(budget: str, day: date, owner: str) -> str:
    """`{budget}/{YYYY-MM-DD}/{owner}`; of all together, without an owner."""
    return f"{budget}/{day.isoformat()}" + (f"/{owner}" if owner else "")


def expires_ms(account: str) -> int:
    """When an account is forgotten, in milliseconds since 1970.

    Raises:
        OverflowError: it is no account's name.
    """
    try:
        day = datetime.fromisoformat(account.split("/")[1]).replace(tzinfo=UTC)
    except (IndexError, ValueError):
        raise OverflowError(f"expected an account as `budget/2026-05-01`, got {account:.100}") from None
    return int((day + LIFETIME).timestamp() * 1000)


def parse_budgets(text: str, source: str) -> tuple[SharedBudget, ...]:
    """Read the TOML of a file: a table for each budget.

    Args:
        text: the TOML.
        source: where it is from, for the error.

    Raises:
        BudgetsFileError: it is not TOML, or a table is not what it should be.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BudgetsFileError(f"{source}: expected TOML: {error}") from None
    if not 1 <= len(tables) <= MAX_BUDGETS:
        raise BudgetsFileError(f"{source}: expected 1 to {MAX_BUDGETS} tables, one for each budget, got {len(tables)}")
    return tuple(_budget(name, table, f"{source}, [{name}]") for name, table in tables.items())


def _budget(name: str, table: Any, where: str) -> SharedBudget:
    if not isinstance(table, dict):
        raise BudgetsFileError(f"{where}: expected a table, got a value: put it below the name of a budget")
    if "name" in table:
        raise BudgetsFileError(f"{where}: expected the table's name as the budget's, got `name`: remove it")
    try:
        return msgspec.convert({"name": name, **table}, SharedBudget)
    except msgspec.ValidationError as error:
        known = ", ".join(field for field in SharedBudget.__struct_fields__ if field != "name")
        raise BudgetsFileError(f"{where}: {error}. It has: {known}") from None
