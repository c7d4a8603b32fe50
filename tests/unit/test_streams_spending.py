"""Shared budgets in a worker: asked before each call, and without the shared count, each worker has its share."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from counter_fake import MemoryCounter
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from agents.session import Turn
from agents.shared_budgets import SharedBudget
from schemas.effects import CallModel
from schemas.log import ModelCompleted, SpendingRefused
from schemas.usage import Usage
from streams import local_shares, spending
from streams.local_shares import MAX_ACCOUNTS, LocalShares
from streams.spending import FREE, Permit, Spending

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIMIT = 1_000
COST = 100
ACCOUNT = "house/2026-05-01"
PARTITIONS = 4


def house(**fields: Any) -> SharedBudget:
    given = {"name": "house", "scope": "all", "day_micros": LIMIT, "reserve_micros": COST} | fields
    return msgspec.convert(given, SharedBudget)


def turn_of(session_id: str, **fields: Any) -> Turn:
    return Turn(number=1, turn_id=f"{session_id}/1", message_id="m", agent="lead", deadline=NOW, **fields)


def order_of(session_id: str, exceeds: tuple[str, ...] = ()) -> CallModel:
    return CallModel(
        session_id=session_id,
        call_id=f"{session_id}/1/1",
        turn_id=f"{session_id}/1",
        step=1,
        agent="lead",
        log_offset=1,
        timeout_ms=1,
        exceeds=exceeds or UNSET,
    )


class Worker:
    """One worker that holds `held` of four partitions; each session makes one call."""

    def __init__(self, counter: MemoryCounter, *budgets: SharedBudget, held: int = PARTITIONS) -> None:
        self.spending = Spending(budgets or (house(),), counter, PARTITIONS)
        self.held = held

    async def reserve(self, session_id: str, **fields: Any) -> Permit | SpendingRefused:
        order = order_of(session_id, fields.pop("exceeds", ()))
        return await self.spending.reserve(order, turn_of(session_id, **fields), "m", NOW, self.held)

    def end(self, session_id: str, permit: Permit, cost_micros: int = COST) -> None:
        event = ModelCompleted(
            session_id=session_id,
            call_id=f"{session_id}/1/1",
            model="m",
            content=(),
            stop_reason="end_turn",
            usage=Usage(output_tokens=1),
            cost_micros=cost_micros,
            at=NOW,
        )
        self.spending.ended(permit, event)

    async def spend(self, name: str, most: int = 1_000) -> int:
        """Call as often as it may; how often that was."""
        for number in range(most):
            permit = await self.reserve(f"{name}{number}")
            if isinstance(permit, SpendingRefused):
                return number
            self.end(f"{name}{number}", permit)
        return most


async def test_nobody_is_asked_where_no_budget_applies() -> None:
    """Neither without budgets, nor with those of others."""
    counter = MemoryCounter()
    worker = Worker(counter, house(scope="user"))
    assert await worker.reserve("s1") is FREE
    assert await Spending().reserve(order_of("s1"), turn_of("s1"), "m", NOW, 1) is FREE
    assert counter.asked == 0
    permit = await worker.reserve("s1", user_id="ann")
    assert isinstance(permit, Permit)
    assert permit.accounts == ("house/2026-05-01//ann",)
    assert counter.asked == 1


async def test_a_refusal_says_all_that_the_core_needs() -> None:
    """The declaration is repeated in it: the log explains what became of the turn."""
    counter = MemoryCounter()
    budget = house(on_breach="ask", approval={"approvers": ("boss",), "expires_seconds": 60})
    worker = Worker(counter, budget)
    assert await worker.spend("s") == LIMIT // COST
    refused = await worker.reserve("t")
    assert isinstance(refused, SpendingRefused)
    assert (refused.budget, refused.scope, refused.unit, refused.limit) == ("house", "all", "micros", LIMIT)
    assert (refused.on_breach, refused.approvers, refused.expires_seconds) == ("ask", ("boss",), 60)
    assert not refused.local
    assert isinstance(await worker.reserve("t", exceeds=("house_micros",)), Permit), "the order carries the approval"


async def test_two_workers_share_one_limit() -> None:
    """Also where the projection is away: what a call took is said at once."""
    counter = MemoryCounter()
    one, two = Worker(counter, held=2), Worker(counter, held=2)
    assert await one.spend("a", most=6) + await two.spend("b") == LIMIT // COST


async def test_a_call_waits_for_those_whose_reserve_is_in_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """They mostly take less than was reserved. Where what was spent leaves no room, it is refused at once."""
    monkeypatch.setattr(spending, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(spending, "LONGEST_PAUSE_S", 0.0)
    worker = Worker(MemoryCounter(), house(reserve_micros=900))
    first = await worker.reserve("a")
    assert isinstance(first, Permit)
    waiting = asyncio.create_task(worker.reserve("b"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    worker.end("a", first, 100)
    second = await waiting
    assert isinstance(second, Permit)
    worker.spending.stopped(second, "b/1/1")
    refused = await worker.reserve("c")
    assert isinstance(refused, SpendingRefused)
    assert refused.spent == 100 + 900, "what a call took that was stopped nobody says"


async def test_without_the_count_a_worker_has_its_share_of_what_was_left() -> None:
    """Half of the partitions, half of what was left when it last heard; the refusal says that it counted alone."""
    counter = MemoryCounter()
    worker = Worker(counter, held=2)
    assert await worker.spend("a", most=4) == 4
    counter.is_away = True
    assert await worker.spend("b") == (LIMIT - 4 * COST) // COST // 2
    refused = await worker.reserve("c")
    assert isinstance(refused, SpendingRefused)
    assert (refused.local, refused.limit, refused.spent, refused.reserved) == (True, LIMIT, 400 + 300, COST)


async def test_an_account_that_was_never_heard_of_is_a_share_of_the_whole() -> None:
    """As of a worker that was started while the count is away."""
    counter = MemoryCounter()
    counter.is_away = True
    assert await Worker(counter, held=1).spend("a") == LIMIT // COST // 4


async def test_what_was_spent_alone_counts_when_the_count_is_back() -> None:
    """Before the projection has told it: the worker knows better."""
    counter = MemoryCounter()
    worker = Worker(counter)
    counter.is_away = True
    assert await worker.spend("a", most=4) == 4
    counter.is_away = False
    assert await worker.spend("b") == LIMIT // COST - 4


async def test_a_count_that_lost_its_data_does_not_begin_again() -> None:
    """What a worker has heard of is spent."""
    counter = MemoryCounter()
    worker = Worker(counter)
    for number in range(6):
        permit = await worker.reserve(f"a{number}")
        assert isinstance(permit, Permit)
        worker.end(f"a{number}", permit)
        await counter.settle(f"a{number}/1/1", ACCOUNT, COST, 1, partition=0, offset=number)
    await worker.reserve("b")
    await counter.lose()
    assert await worker.spend("c") == 4


async def test_a_call_that_is_made_again_is_let_through_again() -> None:
    """Alone, too: its order was delivered twice to the same worker."""
    counter = MemoryCounter()
    worker = Worker(counter, house(reserve_micros=LIMIT))
    counter.is_away = True
    assert isinstance(await worker.reserve("a"), Permit)
    assert isinstance(await worker.reserve("a"), Permit)
    assert isinstance(await worker.reserve("b"), SpendingRefused)


async def test_an_outage_costs_no_more_than_what_workers_had_not_heard_of() -> None:
    """Each takes its share of what was left when it last heard: too much only by what others spent after that."""
    counter = MemoryCounter()
    workers = [Worker(counter, held=1) for _ in range(PARTITIONS)]
    for number in range(4):
        await workers[number].spend(f"a{number}", most=1)
    counter.is_away = True
    alone = sum([await worker.spend(f"b{number}") for number, worker in enumerate(workers)])
    # The first had not heard of three calls, the second of two, the third of one.
    unheard = (3 + 2 + 1) * COST
    assert 4 * COST + alone * COST <= LIMIT + unheard // PARTITIONS


calls = st.tuples(
    st.integers(1, 2 * COST),
    st.integers(0, PARTITIONS - 1),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
)


@given(st.lists(calls, min_size=1, max_size=120))
async def test_how_far_a_limit_can_be_overrun(calls: list[tuple[int, int, bool, bool]]) -> None:
    """Four workers, a call at a time, which costs twice the reserve at most; the count goes away and comes back.

    With the count, it is the last call's excess. Each time that it is away, all shares together are at most the limit
    once more, and each worker's last call may exceed what was reserved for it. The projection counts some calls late.
    """
    counter = MemoryCounter()
    workers = [Worker(counter, held=1) for _ in range(PARTITIONS)]
    spent = outages = spent_in_outage = 0
    for number, (cost, who, is_counted, is_turn) in enumerate(calls):
        if is_turn:
            counter.is_away = not counter.is_away
            outages, spent_in_outage = outages + int(counter.is_away), 0
        permit = await workers[who].reserve(f"s{number}")
        if isinstance(permit, SpendingRefused):
            assert permit.local == counter.is_away
            continue
        workers[who].end(f"s{number}", permit, cost)
        spent += cost
        spent_in_outage += cost
        if counter.is_away:
            assert spent_in_outage <= LIMIT + PARTITIONS * COST
        elif is_counted:
            await counter.settle(f"s{number}/1/1", ACCOUNT, cost, 1, partition=0, offset=number)
    assert spent <= LIMIT + COST + outages * (LIMIT + PARTITIONS * COST)


def test_accounts_are_not_remembered_without_end() -> None:
    """The oldest are forgotten first: they count as never heard of."""
    shares = LocalShares()
    assert MAX_ACCOUNTS <= 100_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_shares, "MAX_ACCOUNTS", 3)
        for number in range(5):
            shares._end(f"a{number}", (1, 1, 1), (1, 1, 1), is_alone=True)
    assert shares.known("a0") == (0, 0, 0)
    assert shares.known("a4") == (1, 1, 1)
