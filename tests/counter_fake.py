"""The shared count in memory: what Redis and its scripts do, for tests that have no sockets."""

from collections.abc import Sequence

from agents.shared_budgets import NOTHING, Amounts, Charge
from streams.shared_counter import Answer, CounterUnavailableError, Refused, Reservation, Stand


class _Account:
    def __init__(self) -> None:
        self.spent: Amounts = NOTHING
        self.open: dict[str, Amounts] = {}
        self.ended: dict[str, Amounts] = {}
        self.dearest: dict[str, Amounts] = {}
        self.counted: dict[int, int] = {}


class MemoryCounter:
    """Counts for all workers of one process; while it `is_away`, for nobody."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked = 0
        self._accounts: dict[str, _Account] = {}

    async def reserve(self, wanted: Reservation) -> Answer:
        """See `SharedCounter`."""
        self.asked += 1
        if self.is_away:
            raise CounterUnavailableError("the count is away")
        stands = [
            self._stand(wanted, charge, known) for charge, known in zip(wanted.charges, wanted.known, strict=True)
        ]
        for index, (charge, stand) in enumerate(zip(wanted.charges, stands, strict=True)):
            for unit, limit in enumerate(charge.allowed):
                taken = stand.reserved[unit] + stand.wanted[unit]
                if (
                    limit is not None
                    and not self._is_known(wanted.call_id, charge)
                    and (stand.spent[unit] >= limit or stand.spent[unit] + taken > limit)
                ):
                    is_for_now = stand.spent[unit] + stand.wanted[unit] <= limit
                    return Answer(Refused(index, unit, stand.spent[unit], taken, is_for_now), tuple(stands))
        for charge, stand in zip(wanted.charges, stands, strict=True):
            if not self._is_known(wanted.call_id, charge):
                self._account(charge.account).open[wanted.call_id] = stand.wanted
        return Answer(None, tuple(stands))

    def correct(self, call_id: str, kind: str, accounts: Sequence[str], micros: int, tokens: int) -> None:
        """See `SharedCounter`."""
        if self.is_away:
            return
        for name in accounts:
            account = self._account(name)
            if account.open.pop(call_id, None) is not None:
                account.ended[call_id] = (micros, tokens, 1)
            account.dearest[kind] = _most(account.dearest.get(kind, NOTHING), (micros, tokens, 1))

    def give_up(self, call_id: str, accounts: Sequence[str]) -> None:
        """See `SharedCounter`."""
        for name in accounts:
            account = self._account(name)
            if not self.is_away and (reserved := account.open.pop(call_id, None)) is not None:
                account.ended[call_id] = reserved

    async def settle(
        self, call_id: str, account: str, micros: int, tokens: int, *, partition: int, offset: int
    ) -> None:
        """What the projection does with a record of the session log."""
        found = self._account(account)
        if offset > found.counted.get(partition, -1):
            found.counted[partition] = offset
            found.spent = _sum(found.spent, (micros, tokens, 1))
            found.open.pop(call_id, None)
            found.ended.pop(call_id, None)

    async def lose(self) -> None:
        """Begin again without any data."""
        self._accounts.clear()

    async def close(self) -> None:
        """Nothing is left to be told."""

    def _account(self, name: str) -> _Account:
        return self._accounts.setdefault(name, _Account())

    def _is_known(self, call_id: str, charge: Charge) -> bool:
        account = self._account(charge.account)
        return call_id in account.open or call_id in account.ended

    def _stand(self, wanted: Reservation, charge: Charge, known: Amounts) -> Stand:
        account, before = self._account(charge.account), self._account(charge.before)
        spent = _sum(account.spent, _sum_of(account.ended, wanted.call_id))
        dearest = account.dearest.get(wanted.kind) or before.dearest.get(wanted.kind, NOTHING)
        own = account.open.get(wanted.call_id) or account.ended.get(wanted.call_id)
        reserve = own or _most(dearest, (charge.budget.reserve_micros, 0, 1))
        return Stand(_most(spent, known), _sum_of(account.open, wanted.call_id), reserve)


def _sum_of(calls: dict[str, Amounts], but: str) -> Amounts:
    total = NOTHING
    for call_id, amounts in calls.items():
        total = total if call_id == but else _sum(total, amounts)
    return total


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _most(one: Amounts, other: Amounts) -> Amounts:
    return max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2])
