"""What a session's budgets count, and how each limit stands. Sums only: what follows from them is in `overspending`."""

from collections.abc import Iterator

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from agents.budget import Budget
from agents.draft import Draft
from agents.session import Ledger, PendingCall, Turn
from agents.spec import AgentSpec
from schemas.asks import AskedBy
from schemas.fields import BudgetScope, BudgetUnit
from schemas.log import ChildEnded
from schemas.usage import Usage

UNITS: tuple[BudgetUnit, ...] = ("micros", "tokens", "calls")
UNHEARD_CHILDREN = 20
"""That are remembered: as many as a turn asks by default. One that is cancelled says soon what it cost."""


class Account(Struct, frozen=True):
    """One limit, and how it stands; with `is_raised` it counts twice for this turn. `budget` names a shared one."""

    scope: BudgetScope
    unit: BudgetUnit
    limit: int
    spent: int
    reserved: int
    is_raised: bool = False
    budget: str = ""

    @property
    def name(self) -> str:
        """As the agent's budget names it; of a shared budget, `{budget}_{unit}`."""
        return f"{self.budget or self.scope}_{self.unit}"

    @property
    def allowed(self) -> int:
        return self.limit * 2 if self.is_raised else self.limit

    @property
    def left(self) -> int:
        """For asked agents: the next call of this one is paid first."""
        return max(0, self.allowed - self.spent - self.reserved)

    @property
    def is_breached(self) -> bool:
        return self.spent >= self.allowed or self.spent + self.reserved > self.allowed

    @property
    def can_be_raised(self) -> bool:
        """Whether the turn could go on with the limit counted twice, and it was not yet."""
        is_own = self.scope not in {"asked", "message"}
        return is_own and not self.is_raised and not replace(self, is_raised=True).is_breached


def accounts(draft: Draft) -> Iterator[Account]:
    """Every limit that holds for the running turn. Nothing is reserved for a pattern: it calls no model."""
    head, turn, budget = draft.head, draft.turn, draft.spec.budget
    ledger = head.ledger or Ledger()
    reserves = (max(budget.reserve_micros, ledger.dearest_micros), ledger.dearest_tokens, 1)
    if draft.spec.pattern is not None:
        reserves = (0, 0, 0)
    of_turn = (
        turn.cost_micros + turn.asked_cost_micros,
        turn.usage.total_tokens + turn.asked_tokens,
        turn.calls + turn.asked_calls,
    )
    of_session = (
        head.cost_micros + ledger.asked_micros,
        head.usage.total_tokens + ledger.asked_tokens,
        ledger.calls + ledger.asked_calls,
    )
    limits: tuple[tuple[BudgetScope, tuple[int | None, int | None, int | None], tuple[int, int, int]], ...] = (
        ("turn", (budget.turn_micros, budget.turn_tokens, budget.turn_calls), of_turn),
        ("session", (budget.session_micros, budget.session_tokens, budget.session_calls), of_session),
        ("asked", caps(turn), of_turn),
        ("message", (turn.budget_micros, None, None), of_turn),
    )
    for index, unit in enumerate(UNITS):
        for scope, of_scope, spent in limits:
            limit = of_scope[index]
            if limit is not None:
                is_raised = f"{scope}_{unit}" in turn.raised
                yield Account(scope, unit, limit, spent[index], reserves[index], is_raised)


def caps(turn: Turn) -> tuple[int | None, int | None, int | None]:
    """What the asking session left for the turn, in the order of `UNITS`."""
    asked_by = turn.asked_by
    if asked_by is None:
        return None, None, None
    return _given(asked_by.budget_micros), _given(asked_by.budget_tokens), _given(asked_by.budget_calls)


def _given(cap: int | UnsetType) -> int | None:
    return None if isinstance(cap, UnsetType) else cap


def model_of(spec: AgentSpec, turn: Turn) -> str:
    """The model of the turn's next call: the cheaper one after a breach, where the budget has one."""
    if turn.cheaper_model:
        return turn.cheaper_model
    cheaper = spec.budget.cheaper_model
    return cheaper if cheaper is not None and turn.raised else spec.model


def share_out(draft: Draft, asks: int) -> None:
    """Divide what is left among the `asks` that the model's answer has."""
    left: dict[str, int] = {}
    for account in accounts(draft) if asks else ():
        left[account.unit] = min(account.left // asks, left.get(account.unit, account.left))
    draft.set_turn(share_micros=left.get("micros"), share_tokens=left.get("tokens"), share_calls=left.get("calls"))


def share(asked_by: AskedBy, turn: Turn) -> AskedBy:
    """The same, with what one ask of the answer that is worked on may take."""
    return replace(
        asked_by,
        budget_micros=_or_unset(turn.share_micros),
        budget_tokens=_or_unset(turn.share_tokens),
        budget_calls=_or_unset(turn.share_calls),
    )


def _or_unset(amount: int | None) -> int | UnsetType:
    return UNSET if amount is None else amount


def count_call(draft: Draft, usage: Usage, cost_micros: int) -> None:
    """A model call has ended: it may be the dearest of the session."""
    if (ledger := _ledger(draft)) is not None:
        dearest_micros = max(ledger.dearest_micros, cost_micros)
        dearest_tokens = max(ledger.dearest_tokens, usage.total_tokens)
        calls = ledger.calls + 1
        draft.set(ledger=replace(ledger, calls=calls, dearest_micros=dearest_micros, dearest_tokens=dearest_tokens))


def count_call_of_turn(draft: Draft, usage: Usage, cost_micros: int) -> None:
    """The running turn's call has ended; `count_call` counts it in the session."""
    turn = draft.turn
    draft.set_turn(
        usage=turn.usage + usage,
        cost_micros=turn.cost_micros + cost_micros,
        calls=turn.calls + int(draft.head.ledger is not None),
    )


def count_child(draft: Draft, event: ChildEnded) -> None:
    """What an asked agent took is its asker's expense."""
    turn = draft.head.turn
    if turn is not None and event.call_id.startswith(f"{turn.turn_id}/"):
        draft.set_turn(
            asked_cost_micros=turn.asked_cost_micros + event.cost_micros,
            asked_tokens=turn.asked_tokens + event.tokens,
            asked_calls=turn.asked_calls + event.calls,
        )
    if (ledger := _ledger(draft)) is not None:
        draft.set(
            ledger=replace(
                ledger,
                asked_micros=ledger.asked_micros + event.cost_micros,
                asked_tokens=ledger.asked_tokens + event.tokens,
                asked_calls=ledger.asked_calls + event.calls,
            )
        )


def wait_for_bill(draft: Draft, call: PendingCall) -> None:
    """Nobody waits for what was asked any more: what it took until then is still to come."""
    _await_bill(draft, call.call_id)
    if call.via:
        wait_for_rest(draft, call)


def wait_for_rest(draft: Draft, call: PendingCall) -> None:
    """A broadcast has its result: some of the agents that it reached may run on, for a while."""
    _await_bill(draft, rest_of_bill(call.call_id))


def _await_bill(draft: Draft, call_id: str) -> None:
    if (ledger := _ledger(draft)) is not None:
        draft.set(ledger=replace(ledger, unheard=(*ledger.unheard, call_id)[-UNHEARD_CHILDREN:]))


def rest_of_bill(call_id: str) -> str:
    """The name under which that is told."""
    return f"{call_id}/rest"


def count_late_child(draft: Draft, event: ChildEnded) -> None:
    """The bill of one that was cancelled; of no other, since an end may be said twice."""
    ledger = draft.head.ledger
    if ledger is not None and event.call_id in ledger.unheard:
        unheard = tuple(call_id for call_id in ledger.unheard if call_id != event.call_id)
        draft.set(ledger=replace(ledger, unheard=unheard))
        count_child(draft, event)


def _ledger(draft: Draft) -> Ledger | None:
    """What budgets count; None where the session never had one."""
    if draft.head.ledger is not None or draft.head.turn is None:
        return draft.head.ledger
    spec = draft.spec_of(draft.turn.agent)
    budget = spec.budget if spec else Budget()
    given = (*caps(draft.turn), draft.turn.budget_micros)
    return Ledger() if budget.is_limited or any(cap is not None for cap in given) else None
