"""Asks the shared budgets before each model call, and tells them what it took. Without any, it does nothing."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from msgspec import UNSET, Struct

from agents.accounts import UNITS
from agents.session import Turn
from agents.shared_budgets import Charge, SharedBudget, charges
from schemas.effects import CallModel
from schemas.log import ModelCompleted, ModelFailed, SpendingRefused
from streams.local_shares import LocalShares
from streams.shared_counter import Answer, CounterUnavailableError, Refused, Reservation, SharedCounter

PATIENCE_S = 30.0
"""As long as most calls take."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


class Permit(Struct, frozen=True):
    """A call may be made; it counts in these accounts."""

    kind: str = ""
    accounts: tuple[str, ...] = ()


FREE = Permit()


class Spending:
    """The shared budgets, as one worker sees them; `partitions` is how many the pipeline has."""

    def __init__(
        self, budgets: Sequence[SharedBudget] = (), counter: SharedCounter | None = None, partitions: int = 1
    ) -> None:
        self._budgets = budgets
        self._counter = counter
        self._partitions = partitions
        self._shares = LocalShares()

    async def reserve(
        self, order: CallModel, turn: Turn, model: str, at: datetime, held: int
    ) -> Permit | SpendingRefused:
        """Whether the call may be made; `held` is how many partitions this worker has."""
        if not self._budgets or self._counter is None:
            return FREE
        exceeds = () if order.exceeds is UNSET else order.exceeds
        found = tuple(charges(self._budgets, turn, order.session_id, at, exceeds))
        if not found:
            return FREE
        kind = f"{turn.agent} {model}"
        accounts = tuple(charge.account for charge in found)
        try:
            answer, is_local = await self._patiently(order, kind, found, held)
        except asyncio.CancelledError:
            # It may have been reserved all the same, and took nothing.
            self._counter.correct(order.call_id, kind, accounts, 0, 0)
            raise
        if answer.refused is not None:
            return _refusal(order, found[answer.refused.charge].budget, answer.refused, at, is_local=is_local)
        return Permit(kind, accounts)

    async def _patiently(
        self, order: CallModel, kind: str, found: tuple[Charge, ...], held: int
    ) -> tuple[Answer, bool]:
        """Where only what is reserved for others is in the way, wait a while: most calls take less than reserved."""
        loop = asyncio.get_running_loop()
        until, pause_s = loop.time() + min(PATIENCE_S, order.timeout_ms / 1000), FIRST_PAUSE_S
        while True:
            answer, is_local = await self._ask(order.call_id, kind, found, held)
            is_final = answer.refused is None or not answer.refused.is_for_now
            if is_final or loop.time() + pause_s > until:
                return answer, is_local
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def ended(self, permit: Permit, event: ModelCompleted | ModelFailed) -> None:
        """The call took so much, as the log will say: told before that, so that it cannot count twice."""
        if permit.accounts and self._counter is not None:
            micros, tokens = event.cost_micros, event.usage.total_tokens
            self._shares.ended(event.call_id, permit.kind, micros, tokens)
            self._counter.correct(event.call_id, permit.kind, permit.accounts, micros, tokens)

    def stopped(self, permit: Permit, call_id: str) -> None:
        """Nobody waits for the call any more."""
        if permit.accounts and self._counter is not None:
            self._shares.stopped(call_id)
            self._counter.give_up(call_id, permit.accounts)

    async def close(self) -> None:
        """Tell what is to be told, and let go of the shared count."""
        if self._counter is not None:
            await self._counter.close()

    async def _ask(self, call_id: str, kind: str, found: tuple[Charge, ...], held: int) -> tuple[Answer, bool]:
        """The shared count's answer; where there is none, this worker's own, and True."""
        assert self._counter is not None, "nobody counts"
        known = tuple(self._shares.known(charge.account) for charge in found)
        try:
            answer = await self._counter.reserve(Reservation(call_id, kind, found, known))
        except CounterUnavailableError:
            return self._shares.reserve(call_id, kind, found, held / self._partitions), True
        self._shares.heard(call_id, found, answer)
        return answer, False


def _refusal(
    order: CallModel, budget: SharedBudget, refused: Refused, at: datetime, *, is_local: bool
) -> SpendingRefused:
    unit, rule = UNITS[refused.unit], budget.approval
    limit = budget.limits[refused.unit]
    assert limit is not None, "what has no limit refuses nothing"
    return SpendingRefused(
        session_id=order.session_id,
        call_id=order.call_id,
        budget=budget.name,
        scope=budget.scope,
        unit=unit,
        limit=limit,
        spent=refused.spent,
        reserved=refused.reserved,
        at=at,
        on_breach=budget.on_breach,
        cheaper_model=budget.cheaper_model,
        approvals=rule.approvals if rule else 1,
        approvers=rule.approvers if rule else (),
        expires_seconds=rule.expires_seconds if rule else None,
        local=is_local,
    )
