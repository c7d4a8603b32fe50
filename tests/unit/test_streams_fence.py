"""A worker that may have been taken for dead: it begins nothing, appends no outcome, and records nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from histories import History
from shell_fixture import NOW, Bench, settle
from simulation.worker import Lease, Tables

import streams.lease
import streams.record
from schemas.log import ToolStarted
from streams.acknowledge import Acknowledger
from streams.consumer import Heartbeat
from streams.lease import LEASE_S, HeartbeatLease
from streams.outcomes import Outcomes
from streams.ports import FencedError
from streams.record import Handled, Recorder
from streams.session_log import SessionLog
from streams.sessions import Sessions


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of leases, to be set."""
    clock = [1_000.0]
    monkeypatch.setattr(streams.lease, "seconds", lambda: clock[0])
    monkeypatch.setattr(streams.consumer, "seconds", lambda: clock[0])
    return clock


def answering(now: list[float], *, takes_s: float, is_member: bool) -> Callable[[], Awaitable[bool]]:
    async def beat() -> bool:
        now[0] += takes_s
        return is_member

    return beat


async def test_a_lease_counts_from_when_the_heartbeat_was_sent(now: list[float]) -> None:
    """The group counts from when it came, which was after that; the answer may have taken any time."""
    lease = HeartbeatLease()
    assert not lease.is_held
    assert await Heartbeat(answering(now, takes_s=3.0, is_member=True), lease)()
    now[0] += LEASE_S - 3.1
    assert lease.is_held
    now[0] += 0.2
    assert not lease.is_held


async def test_an_answer_that_took_too_long_is_no_lease(now: list[float]) -> None:
    """The worker was stopped between asking and reading the answer."""
    lease = HeartbeatLease()
    await Heartbeat(answering(now, takes_s=LEASE_S, is_member=True), lease)()
    assert not lease.is_held


async def test_who_is_refused_gets_no_lease(now: list[float]) -> None:
    """The group does not count it in."""
    lease = HeartbeatLease()
    assert not await Heartbeat(answering(now, takes_s=0.0, is_member=False), lease)()
    assert not lease.is_held


async def test_who_waits_goes_on_with_the_next_heartbeat(now: list[float]) -> None:
    """Not with one that was sent long ago, and not while the lease has ended meanwhile."""
    lease = HeartbeatLease()
    waiting = asyncio.create_task(lease.held())
    await settle()
    lease.extend(now[0] - LEASE_S)
    await settle()
    assert not waiting.done()
    lease.extend(now[0])
    lease.end()
    await settle()
    assert not waiting.done()
    lease.extend(now[0])
    await settle()
    assert waiting.done()


async def test_no_state_is_told_without_the_lease() -> None:
    """What it would be told for, a call, may have been made by another worker; a rebalance meanwhile counts."""
    lease = Lease()
    lease.is_held = False
    tables = Tables()
    tables.data = {0: {}}
    sessions = Sessions(tables, max_sessions=10, max_bytes=1 << 30, lease=lease)
    sessions.restart({0: 5}, {})
    history = History()
    history.say("m1")
    sessions.change(0, "s1", history.session)
    asking = asyncio.create_task(sessions.at(0, "s1", 3))
    await settle()
    assert not asking.done()
    sessions.restart({0: 5}, {0: 6})
    lease.hold()
    await settle()
    assert not asking.done(), "the log is to be read up to its end first"
    sessions.advance(0, 6)
    await settle()
    assert await asking is None, "what was not recorded is forgotten"


async def test_no_outcome_is_appended_without_the_lease() -> None:
    """Nor in a rebalance: both must be over."""
    bench, lease = Bench(), Lease()
    outcomes = Outcomes(SessionLog(bench.shell, Nobody()), lease)
    lease.is_held = False
    event = ToolStarted(session_id="s1", call_id="s1/1/1", at=NOW)
    appending = asyncio.create_task(outcomes.append(event, [], 0))
    await settle()
    assert bench.outbox.appended == []
    assert await outcomes.hold(0)
    lease.hold()
    await settle()
    assert bench.outbox.appended == []
    outcomes.release()
    await settle()
    (appended,) = bench.outbox.appended
    appended.durable.set_result(7)
    assert await appending == 7


class Nobody:
    """Decides nothing: no partition is held."""

    is_full = False

    async def take(self, delivery: Any) -> None:
        raise AssertionError(delivery)


def handled(bench: Bench, offset: int) -> Handled:
    ticket = Acknowledger().take(bench.delivery(offset))
    return Handled(ticket, None, [], [(b"h\x00s1", b"state %d" % offset)])


async def test_what_is_refused_is_neither_stored_nor_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what follows it, until the partition is given anew; the worker stops only if that does not happen."""
    monkeypatch.setattr(streams.record, "FENCED_S", 0.0)
    bench = Bench()
    tables = Tables()
    tables.data = {0: {}}
    recorder = Recorder(bench.shell, tables, Sessions(tables, max_sessions=10, max_bytes=1 << 30))
    for offset in (0, 1):
        recorder.submit(handled(bench, offset))
        await settle()
    refused = bench.outbox.appended[0].durable
    refused.set_exception(FencedError("sessions-changelog", 0))
    await settle()
    assert recorder.is_fenced
    recorder.submit(handled(bench, 2))
    await settle()
    assert (len(bench.outbox.appended), tables.data, bench.acknowledged) == (1, {0: {}}, [])
    assert [type(failure) for failure in bench.failures] == [FencedError]
    await recorder.stop()
    assert not recorder.is_fenced
    recorder.submit(handled(bench, 0))
    await settle()
    bench.outbox.appended[1].durable.set_result(9)
    await settle()
    assert bench.acknowledged == [0]
