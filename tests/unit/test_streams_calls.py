"""The calls of a worker: each once, bounded, through rebalances and to the end; and how their outcomes are written."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from histories import History
from shell_fixture import Bench, settle, tickets

from schemas.topics import SESSION_LOG
from streams.acknowledge import Acknowledger
from streams.outcomes import Outcomes
from streams.ports import Delivery
from streams.running import RunningCalls
from streams.session_log import SessionLog
from streams.sessions import NotReachedError


class Work:
    """A call whose end the test gives."""

    def __init__(self) -> None:
        self.starts = 0
        self.end: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def __call__(self) -> Coroutine[Any, Any, int | None]:
        return self._run()

    async def _run(self) -> int | None:
        self.starts += 1
        return await self.end


async def test_a_call_is_not_made_twice_until_decide_knows_its_outcome() -> None:
    """Neither while it runs, nor when it has returned; each delivery of its order is acknowledged at its end."""
    bench = Bench()
    first, second, third, fourth = tickets(bench, 4)
    calls = RunningCalls(10, bench.failures.append)
    work = Work()
    calls.start("c", first, work)
    calls.start("c", second, work)
    await settle()
    assert bench.acknowledged == []
    work.end.set_result(7)
    await settle()
    calls.start("c", third, work)
    await settle()
    assert (work.starts, bench.acknowledged) == (1, [0, 1, 2])
    calls.settle("c")
    assert calls.remembered == 0
    again = Work()
    again.end.set_result(None)
    calls.start("c", fourth, again)
    await settle()
    assert (calls.remembered, bench.acknowledged) == (0, [0, 1, 2, 3]), "a call that found nothing to do is forgotten"


async def test_calls_wait_for_a_place_in_their_order() -> None:
    """The topic is held back meanwhile; a call that is settled while it waits is never made."""
    bench = Bench()
    taken = tickets(bench, 4)
    calls = RunningCalls(1, bench.failures.append)
    works = [Work() for _ in taken]
    for number, (ticket, work) in enumerate(zip(taken, works, strict=True)):
        calls.start(f"c{number}", ticket, work)
    await settle()
    assert calls.is_full
    calls.settle("c1")
    works[0].end.set_result(7)
    await settle()
    assert [work.starts for work in works] == [1, 0, 1, 0]
    calls.settle("c2")
    await settle()
    assert (works[3].starts, calls.is_full, bench.acknowledged) == (1, False, [0, 1, 2])
    await calls.stop()
    assert bench.acknowledged == [0, 1, 2]


async def test_calls_of_lost_partitions_are_stopped_and_not_acknowledged() -> None:
    """If the partition comes back at once, its order starts anew: it must not join what is being stopped."""
    bench = Bench()
    first, second = tickets(bench, 2)
    calls = RunningCalls(10, bench.failures.append)
    old, new = Work(), Work()
    calls.start("c", first, old)
    await settle()
    calls.abandon(kept={})
    calls.start("c", second, new)
    await settle()
    assert (new.starts, bench.acknowledged, bench.failures) == (1, [], [])
    assert old.end.cancelled()
    await calls.stop()


async def test_a_call_goes_on_through_a_rebalance() -> None:
    """Its old order is forgotten; the one that is delivered again is acknowledged at its end."""
    bench = Bench()
    (first,) = tickets(bench, 1)
    calls = RunningCalls(10, bench.failures.append)
    work = Work()
    calls.start("c", first, work)
    await settle()
    calls.forget_tickets()
    calls.abandon(kept={0: -1})
    again = Acknowledger().take(bench.delivery(9))
    calls.start("c", again, work)
    work.end.set_result(7)
    await settle()
    assert (work.starts, bench.acknowledged) == (1, [9])


async def test_an_order_that_nobody_gave_does_not_stand_for_the_one_that_was() -> None:
    """It names the same call, and finds nothing to do: the other one, which came meanwhile, is performed after it."""
    bench = Bench()
    taken = tickets(bench, 3)
    calls = RunningCalls(10, bench.failures.append)
    forged, given, repeated = Work(), Work(), Work()
    for ticket, work in zip(taken, (forged, given, repeated), strict=True):
        calls.start("c", ticket, work)
    forged.end.set_result(None)
    await settle()
    assert (given.starts, repeated.starts, bench.acknowledged) == (1, 0, [0])
    given.end.set_result(5)
    await settle()
    assert (repeated.starts, bench.acknowledged) == (0, [0, 1, 2])


async def test_a_call_is_forgotten_whose_outcome_another_worker_has_decided() -> None:
    """This worker's `decide` never comes to it; where the name of the session is used again, so is the call's id.

    The worker was taken for dead while the outcome was on its way, and gets the partition back.
    """
    bench = Bench()
    known, late, waits, again = tickets(bench, 4)
    calls = RunningCalls(10, bench.failures.append)
    works = {name: Work() for name in ("known", "late", "waits")}
    for (name, work), ticket in zip(works.items(), (known, late, waits), strict=True):
        calls.start(name, ticket, work)
    works["known"].end.set_result(3)
    await settle()
    calls.forget_tickets()
    calls.abandon(kept={0: 10})
    assert calls.remembered == 2
    works["late"].end.set_result(4)
    works["waits"].end.set_result(11)
    await settle()
    assert calls.remembered == 1, "`decide` will come to the outcome at 11"
    anew = Work()
    calls.start("known", again, anew)
    await settle()
    assert anew.starts == 1
    await calls.stop()


async def test_a_call_that_raises_stops_the_worker() -> None:
    """What can go wrong in the world is data; an exception is a bug, or a log that cannot be written."""
    bench = Bench()
    (first,) = tickets(bench, 1)
    calls = RunningCalls(10, bench.failures.append)
    work = Work()
    calls.start("c", first, work)
    work.end.set_exception(OSError("gone"))
    await settle()
    assert [str(error) for error in bench.failures] == ["gone"]
    assert bench.acknowledged == []


async def test_the_end_waits_for_running_calls_only() -> None:
    """Those that had no place yet are left for the next worker, as are those that decide did not come to."""
    bench = Bench()
    taken = tickets(bench, 2)
    calls = RunningCalls(1, bench.failures.append)
    running, waiting = Work(), Work()
    calls.start("c0", taken[0], running)
    calls.start("c1", taken[1], waiting)
    ending = asyncio.create_task(calls.idle(10))
    await settle()
    running.end.set_exception(NotReachedError())
    assert await ending
    assert (waiting.starts, bench.acknowledged, bench.failures) == (0, [], [])


# Outcomes


class Silent:
    """What reads the session log here: nothing is expected of it."""

    is_full = False

    async def take(self, delivery: Delivery) -> None:
        del delivery


async def test_outcomes_wait_for_the_end_of_a_rebalance() -> None:
    """One that is under way lands first; one that comes meanwhile is appended by an owner, or not at all."""
    bench = Bench()
    outcomes = Outcomes(SessionLog(bench.shell, Silent()))
    history = History()
    history.say("m1")
    event = history.model_says("so") and history.log[-1][1]
    under_way = asyncio.create_task(outcomes.append(event, [], 0))  # type: ignore[arg-type]  # It is an outcome.
    await settle()
    holding = asyncio.create_task(outcomes.hold(10))
    late = asyncio.create_task(outcomes.append(event, [], 0))  # type: ignore[arg-type]  # The same.
    under_way.cancel()
    await settle()
    assert not holding.done(), "a call that was stopped does not take back what it sent"
    bench.outbox.to(SESSION_LOG.name)[0].durable.set_result(3)
    assert await holding
    assert len(bench.outbox.appended) == 1
    outcomes.release()
    await settle()
    bench.outbox.appended[1].durable.set_result(4)
    assert await late == 4
