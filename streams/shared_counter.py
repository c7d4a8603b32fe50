"""The port to where all workers count what shared budgets have spent and reserved."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from agents.shared_budgets import Amounts, Charge


class CounterUnavailableError(Exception):
    """The shared count did not answer in time: count without it, and ask again later."""


class Reservation(Struct, frozen=True):
    """A call that wants to be made; `kind` is its agent and model.

    `known` says for each charge what at least was spent, as the caller knows: the count may have lost its data.
    """

    call_id: str
    kind: str
    charges: tuple[Charge, ...]
    known: tuple[Amounts, ...]


class Stand(Struct, frozen=True):
    """How an account stands: what calls that ended took, what is reserved for others, and what this call wants."""

    spent: Amounts
    reserved: Amounts
    wanted: Amounts


class Refused(Struct, frozen=True):
    """The first account, and its first unit, that has not enough left; `reserved` has what the call wants in it.

    `is_for_now`: the call would be let through if those under way took nothing, so a later one may be.
    """

    charge: int
    unit: int
    spent: int
    reserved: int
    is_for_now: bool


class Answer(Struct, frozen=True):
    """What became of a reservation, and how each of its accounts stood before it."""

    refused: Refused | None
    stands: tuple[Stand, ...]


class SharedCounter(Protocol):
    """Counts for all workers."""

    async def reserve(self, wanted: Reservation) -> Answer:
        """Reserve the call in all its accounts, or in none; one that is reserved already stays so.

        Raises:
            CounterUnavailableError: it did not answer in time. What was reserved all the same stands.
        """
        ...

    def correct(self, call_id: str, kind: str, accounts: Sequence[str], micros: int, tokens: int) -> None:
        """Say what a call took that has ended; it is told when there is time, or not at all."""

    def give_up(self, call_id: str, accounts: Sequence[str]) -> None:
        """Say that a call was stopped: nobody knows what it took, so it counts as what was reserved for it."""

    async def close(self) -> None:
        """Tell what is to be told, and let go."""
        ...
