"""What a worker may spend of shared budgets while the shared count does not answer: its share of what was left.

Its share of an account is the share of the pipeline's partitions that it holds, so the shares of all workers together
are one. They are taken of what was left when the worker last heard of the account; of one that it never heard of, of
the whole limit.
"""

from collections import OrderedDict
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from agents.shared_budgets import NOTHING, Amounts, Charge
from streams.shared_counter import Answer, Refused, Stand

MAX_ACCOUNTS = 100_000
"""That are remembered, some hundred bytes each: one for each user of a day. The others count as never heard of."""


class _Known(Struct, frozen=True):
    """How an account stood at the last answer, and what calls took since that were let through here alone.

    `least` is what was spent at least, as far as this worker can know. It never shrinks: the shared count may have
    lost its data, and does not know yet what was spent here alone.
    """

    spent: Amounts = NOTHING
    reserved: Amounts = NOTHING
    least: Amounts = NOTHING
    spent_alone: Amounts = NOTHING
    reserved_alone: Amounts = NOTHING


class _Call(Struct, frozen=True):
    """A call under way, with what is reserved for it in each account."""

    reserved: dict[str, Amounts]
    is_alone: bool


class LocalShares:
    """What this worker knows of the accounts, and has let through alone."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Known] = OrderedDict()
        self._dearest: dict[str, Amounts] = {}
        self._calls: dict[str, _Call] = {}

    def known(self, account: str) -> Amounts:
        """What was spent of it at least."""
        return self._get(account).least

    def heard(self, call_id: str, charges: Sequence[Charge], answer: Answer) -> None:
        """The shared count has answered."""
        for charge, stand in zip(charges, answer.stands, strict=True):
            known = self._get(charge.account)
            least = _most(known.least, stand.spent)
            reserved = _sum(stand.reserved, NOTHING if answer.refused else stand.wanted)
            self._put(charge.account, _Known(least, reserved, least, NOTHING, known.reserved_alone))
        if answer.refused is None:
            self._begin(call_id, charges, answer.stands, is_alone=False)

    def reserve(self, call_id: str, kind: str, charges: Sequence[Charge], share: float) -> Answer:
        """Let the call through, or refuse it, by `share` (0 to 1) of what was left of each account."""
        stands = tuple(self._stand(kind, charge) for charge in charges)
        if call_id in self._calls:
            return Answer(None, stands)
        for index, (charge, stand) in enumerate(zip(charges, stands, strict=True)):
            refused = _refused(index, self._get(charge.account), charge, stand, share)
            if refused is not None:
                return Answer(refused, stands)
        for charge, stand in zip(charges, stands, strict=True):
            known = self._get(charge.account)
            self._put(charge.account, replace(known, reserved_alone=_sum(known.reserved_alone, stand.wanted)))
        self._begin(call_id, charges, stands, is_alone=True)
        return Answer(None, stands)

    def ended(self, call_id: str, kind: str, micros: int, tokens: int) -> None:
        """A call took so much."""
        took = (micros, tokens, 1)
        self._dearest[kind] = _most(self._dearest.get(kind, NOTHING), took)
        call = self._calls.pop(call_id, None)
        for account, reserved in call.reserved.items() if call else ():
            self._end(account, reserved, took, is_alone=call is not None and call.is_alone)

    def stopped(self, call_id: str) -> None:
        """Nobody knows what the call took: it counts as what was reserved for it."""
        call = self._calls.pop(call_id, None)
        for account, reserved in call.reserved.items() if call else ():
            self._end(account, reserved, reserved, is_alone=call is not None and call.is_alone)

    def _begin(self, call_id: str, charges: Sequence[Charge], stands: Sequence[Stand], *, is_alone: bool) -> None:
        reserved = {charge.account: stand.wanted for charge, stand in zip(charges, stands, strict=True)}
        self._calls[call_id] = _Call(reserved, is_alone)

    def _end(self, account: str, reserved: Amounts, took: Amounts, *, is_alone: bool) -> None:
        known = self._get(account)
        least = _sum(known.least, took)
        if is_alone:
            open_, spent = _less(known.reserved_alone, reserved), _sum(known.spent_alone, took)
            self._put(account, replace(known, least=least, spent_alone=spent, reserved_alone=open_))
        else:
            open_, spent = _less(known.reserved, reserved), _sum(known.spent, took)
            self._put(account, replace(known, least=least, spent=spent, reserved=open_))

    def _stand(self, kind: str, charge: Charge) -> Stand:
        known = self._get(charge.account)
        wanted = _most(self._dearest.get(kind, NOTHING), (charge.budget.reserve_micros, 0, 1))
        return Stand(_sum(known.spent, known.spent_alone), _sum(known.reserved, known.reserved_alone), wanted)

    def _get(self, account: str) -> _Known:
        return self._accounts.get(account) or _Known()

    def _put(self, account: str, known: _Known) -> None:
        self._accounts[account] = known
        self._accounts.move_to_end(account)
        if len(self._accounts) > MAX_ACCOUNTS:
            self._accounts.popitem(last=False)


def _refused(index: int, known: _Known, charge: Charge, stand: Stand, share: float) -> Refused | None:
    """Where this worker's share of some unit is used up."""
    for unit, allowed in enumerate(charge.allowed):
        if allowed is not None:
            mine = int(max(0, allowed - known.spent[unit] - known.reserved[unit]) * share)
            spent, wanted = known.spent_alone[unit], stand.wanted[unit]
            if spent >= mine or spent + known.reserved_alone[unit] + wanted > mine:
                reserved = stand.reserved[unit] + wanted
                return Refused(index, unit, stand.spent[unit], reserved, is_for_now=spent + wanted <= mine)
    return None


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _less(one: Amounts, other: Amounts) -> Amounts:
    return max(0, one[0] - other[0]), max(0, one[1] - other[1]), max(0, one[2] - other[2])


def _most(one: Amounts, other: Amounts) -> Amounts:
    return max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2])
