"""The port of the shared count: the same histories against the fake and against Redis with its scripts."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

import pytest
import pytest_asyncio
from counter_fake import MemoryCounter
from redis.asyncio import Redis
from valkey_fixture import ValkeyServer, valkey_server

from agents.shared_budgets import NOTHING, Amounts, Charge, SharedBudget
from projections.budgets import rows
from projections.record import Record
from projections.redis_calls import RedisCalls
from schemas.codec import encode
from schemas.log import ModelCompleted
from schemas.topics import SESSION_LOG
from schemas.usage import Usage
from streams.redis_counter import RedisCounter
from streams.shared_counter import Answer, CounterUnavailableError, Reservation, SharedCounter

__all__ = ["valkey_server"]

pytestmark = pytest.mark.asyncio(loop_scope="session")

TODAY = datetime.now(UTC).date().isoformat()
PLAIN = (False, False, False)


class Counted(SharedCounter, Protocol):
    """A count, and what the projection tells it."""

    async def settle(
        self, call_id: str, account: str, micros: int, tokens: int, *, partition: int, offset: int
    ) -> None:
        """The log has the call's outcome at this offset."""
        ...

    async def lose(self) -> None:
        """All data are gone."""
        ...


class InRedis(RedisCounter):
    """With the projection beside it."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url, prefix)
        self._url, self._root = url, prefix

    async def settle(
        self, call_id: str, account: str, micros: int, tokens: int, *, partition: int, offset: int
    ) -> None:
        fact = ModelCompleted(
            session_id="s1",
            call_id=call_id,
            model="m",
            content=(),
            stop_reason="end_turn",
            usage=Usage(output_tokens=tokens),
            cost_micros=micros,
            at=datetime.now(UTC),
            counted_in=(account,),
        )
        store = RedisCalls("budgets", self._url, self._root)
        await store.write(list(rows(Record(SESSION_LOG.name, partition, offset, encode(fact)))))
        await store.close()

    async def lose(self) -> None:
        client: Any = Redis.from_url(self._url)
        async for key in client.scan_iter(match=f"{self._root}*"):
            await client.unlink(key)
        await client.aclose()


@pytest_asyncio.fixture(params=["fake", "redis"], loop_scope="session")
async def counter(request: pytest.FixtureRequest, valkey_server: ValkeyServer) -> AsyncIterator[Counted]:
    if request.param == "fake":
        yield MemoryCounter()
        return
    counter = InRedis(valkey_server.url, f"test:{uuid4().hex}:")
    yield counter
    await counter.close()


def budget(name: str = "house", *, day_micros: int | None = 1_000, **fields: Any) -> SharedBudget:
    return SharedBudget(name=name, scope="all", day_micros=day_micros, **fields)


def charge(of: SharedBudget | None = None, day: str = TODAY, before: str = "2000-01-01", raised: Any = PLAIN) -> Charge:
    found = of or budget()
    return Charge(found, f"{found.name}/{day}", f"{found.name}/{before}", raised)


async def reserve(
    counter: Counted, call_id: str, *wanted: Charge, known: Amounts = NOTHING, kind: str = "lead m"
) -> Answer:
    found = wanted or (charge(),)
    return await counter.reserve(Reservation(call_id, kind, found, (known,) * len(found)))


ACCOUNT = f"house/{TODAY}"


async def test_what_is_reserved_is_not_given_again(counter: Counted) -> None:
    """Until it is settled, and then by what it took. A refusal says what was spent and what would be reserved."""
    thrifty = charge(budget(reserve_micros=400))
    for call_id in ("s1/1/1", "s2/1/1"):
        assert (await reserve(counter, call_id, thrifty)).refused is None
    refused = (await reserve(counter, "s3/1/1", thrifty)).refused
    assert refused is not None
    assert (refused.charge, refused.unit, refused.spent, refused.reserved) == (0, 0, 0, 1_200)
    assert refused.is_for_now
    await counter.settle("s1/1/1", ACCOUNT, 100, 7, partition=0, offset=5)
    answer = await reserve(counter, "s3/1/1", thrifty)
    assert answer.refused is None
    assert answer.stands[0].spent == (100, 7, 1)
    assert answer.stands[0].reserved == (400, 0, 1)


async def test_a_call_that_is_made_again_is_reserved_once(counter: Counted) -> None:
    """A worker died between reserve and outcome: the next one is let through, also where nothing is left."""
    dear = charge(budget(reserve_micros=1_000))
    assert (await reserve(counter, "s1/1/1", dear)).refused is None
    assert (await reserve(counter, "s1/1/1", dear)).refused is None
    assert (await reserve(counter, "s2/1/1", dear)).refused is not None
    await counter.settle("s1/1/1", ACCOUNT, 10, 0, partition=0, offset=1)
    assert (await reserve(counter, "s2/1/1", charge(budget(reserve_micros=900)))).stands[0].reserved == NOTHING


async def test_a_record_that_comes_again_counts_once(counter: Counted) -> None:
    """By its offset in its partition."""
    for _ in range(3):
        await counter.settle("s1/1/1", ACCOUNT, 100, 5, partition=0, offset=7)
    await counter.settle("s2/1/1", ACCOUNT, 100, 5, partition=1, offset=3)
    await counter.settle("s1/1/2", ACCOUNT, 100, 5, partition=0, offset=9)
    assert (await reserve(counter, "s3/1/1")).stands[0].spent == (300, 15, 3)


async def test_the_dearest_call_of_its_kind_is_reserved(counter: Counted) -> None:
    """As soon as its worker knows what it took; other agents and models have their own; yesterday's counts today."""
    assert (await reserve(counter, "s1/1/1")).stands[0].wanted == (0, 0, 1)
    counter.correct("s1/1/1", "lead m", [ACCOUNT], 600, 50)
    answer = await reserve(counter, "s2/1/1")
    assert answer.stands[0].spent == (600, 50, 1), "before the projection knows"
    assert answer.stands[0].wanted == (600, 50, 1)
    assert answer.refused is not None
    assert not answer.refused.is_for_now
    assert (await reserve(counter, "s3/1/1", kind="lead cheap")).stands[0].wanted == (0, 0, 1)
    tomorrow = charge(day="2999-01-01", before=TODAY)
    assert (await reserve(counter, "s4/1/1", tomorrow)).stands[0].wanted == (600, 50, 1)


async def test_a_call_that_is_given_up_counts_as_what_was_reserved(counter: Counted) -> None:
    """And is no measure for others; where it is made again elsewhere, its outcome counts instead."""
    thrifty = charge(budget(reserve_micros=400))
    await reserve(counter, "s1/1/1", thrifty)
    counter.give_up("s1/1/1", [ACCOUNT])
    stand = (await reserve(counter, "s2/1/1")).stands[0]
    assert (stand.spent, stand.reserved, stand.wanted) == ((400, 0, 1), NOTHING, (0, 0, 1))
    assert (await reserve(counter, "s1/1/1", thrifty)).refused is None
    await counter.settle("s1/1/1", ACCOUNT, 30, 1, partition=0, offset=1)
    assert (await reserve(counter, "s3/1/1")).stands[0].spent == (30, 1, 1)


async def test_what_is_said_too_late_is_not_reserved_again(counter: Counted) -> None:
    """The projection was faster than the worker."""
    await reserve(counter, "s1/1/1")
    await counter.settle("s1/1/1", ACCOUNT, 100, 5, partition=0, offset=1)
    counter.correct("s1/1/1", "lead m", [ACCOUNT], 100, 5)
    await reserve(counter, "s3/1/1")
    counter.correct("s3/1/1", "lead m", [ACCOUNT], 200, 5)
    await counter.settle("s3/1/1", ACCOUNT, 200, 5, partition=0, offset=2)
    stand = (await reserve(counter, "s2/1/1")).stands[0]
    assert (stand.spent, stand.reserved) == ((300, 10, 2), NOTHING)


async def test_all_accounts_or_none(counter: Counted) -> None:
    """What one refuses is not reserved in the others; the first that refuses is named."""
    wide, narrow = charge(budget("wide", day_calls=10)), charge(budget("narrow", day_micros=None, day_calls=1))
    assert (await reserve(counter, "s1/1/1", wide, narrow)).refused is None
    refused = (await reserve(counter, "s2/1/1", wide, narrow)).refused
    assert refused is not None
    assert (refused.charge, refused.unit, refused.spent, refused.reserved) == (1, 2, 0, 2)
    assert (await reserve(counter, "s3/1/1", wide)).stands[0].reserved == (0, 0, 1)


@pytest.mark.parametrize(("unit", "limits"), [(1, {"day_tokens": 100}), (2, {"day_calls": 2})])
async def test_tokens_and_calls_have_limits(counter: Counted, unit: int, limits: dict[str, Any]) -> None:
    """As micro-dollars do."""
    limited = charge(budget(day_micros=None, **limits))
    await counter.settle("s1/1/1", ACCOUNT, 5, 90, partition=0, offset=1)
    counter.correct("s1/1/1", "lead m", [ACCOUNT], 5, 90)
    first = (await reserve(counter, "s2/1/1", limited)).refused
    second = (await reserve(counter, "s3/1/1", limited)).refused
    assert second is not None
    assert second.unit == unit
    assert (first is None) == (unit == 2)


async def test_a_raised_limit_counts_twice(counter: Counted) -> None:
    """For the calls that say so."""
    await counter.settle("s1/1/1", ACCOUNT, 1_000, 0, partition=0, offset=1)
    assert (await reserve(counter, "s2/1/1")).refused is not None
    raised = charge(raised=(True, False, False))
    assert (await reserve(counter, "s2/1/2", raised)).refused is None
    await counter.settle("s2/1/2", ACCOUNT, 1_000, 0, partition=0, offset=2)
    assert (await reserve(counter, "s2/1/3", raised)).refused is not None


async def test_what_the_caller_knows_counts_where_the_data_are_lost(counter: Counted) -> None:
    """Until the projection has counted again, what each worker knows is the least."""
    await counter.settle("s1/1/1", ACCOUNT, 990, 0, partition=0, offset=1)
    await counter.lose()
    assert (await reserve(counter, "s2/1/1", charge(budget(reserve_micros=20)), known=(990, 0, 1))).refused is not None
    assert (await reserve(counter, "s2/1/1", charge(budget(reserve_micros=20)))).refused is None


async def test_many_at_once_never_exceed_the_limit(counter: Counted) -> None:
    """A hundred calls at the same time, of which ten have room."""
    thrifty = charge(budget(reserve_micros=100))
    answers = await asyncio.gather(*(reserve(counter, f"s{number}/1/1", thrifty) for number in range(100)))
    assert sum(answer.refused is None for answer in answers) == 10


async def test_what_was_said_last_is_told_at_the_end(valkey_server: ValkeyServer) -> None:
    """A worker that stops has just heard what its last calls took."""
    prefix = f"test:{uuid4().hex}:"
    counter = InRedis(valkey_server.url, prefix)
    await reserve(counter, "s1/1/1")
    counter.correct("s1/1/1", "lead m", [ACCOUNT], 70, 7)
    await counter.close()
    other = InRedis(valkey_server.url, prefix)
    assert (await reserve(other, "s2/1/1")).stands[0].spent == (70, 7, 1)
    await other.close()


async def test_redis_that_is_away_is_not_asked_for_a_while(valkey_server: ValkeyServer) -> None:
    """The first call waits a moment at most, the next ones not at all; then it is asked again. No secret is told."""
    at = 0.0
    counter = RedisCounter("redis://:hunter2@127.0.0.1:1/0", "test:", lambda: at)
    with pytest.raises(CounterUnavailableError) as raised:
        await reserve(counter, "s1/1/1")  # type: ignore[arg-type]  # It is not settled here.
    assert "hunter2" not in str(raised.value)
    counter._redis = None
    with pytest.raises(CounterUnavailableError):
        await reserve(counter, "s1/1/1")  # type: ignore[arg-type]  # The same.
    at = 2.0
    counter._redis = Redis.from_url(valkey_server.url)
    assert (await reserve(counter, "s1/1/1")).refused is None  # type: ignore[arg-type]  # The same.
    await counter.close()
