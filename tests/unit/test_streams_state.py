"""The bookkeeping of the shell: acknowledgements in order, sessions in memory, recording."""

import asyncio
from collections.abc import Sequence

import pytest
from histories import History
from hypothesis import given
from hypothesis import strategies as st
from shell_fixture import Appended, Bench, settle, tickets

from agents.session import Session
from streams.acknowledge import Acknowledger
from streams.record import MAX_BATCH, Handled, Recorder
from streams.sessions import NotReachedError, Sessions
from streams.store import Write, entry_key, head_key, load, writes


class DictTable:
    """A table in memory."""

    changelog_topic = "changelog"

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.offsets: list[int] = []

    def get(self, partition: int, key: bytes) -> bytes | None:
        del partition
        return self.data.get(key)

    def put(self, partition: int, items: Sequence[Write], changelog_offset: int) -> None:
        del partition
        self.offsets.append(changelog_offset)
        for key, value in items:
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value

    def heads(self, partition: int) -> list[bytes]:
        raise AssertionError(f"nobody asks for the heads of {partition}")

    def waits(self, partition: int) -> list[bytes]:
        raise AssertionError(f"nobody asks for what waits in {partition}")


# Acknowledgements


@given(st.permutations(range(8)))
def test_acknowledgements_come_in_order_whatever_ends_first(order: list[int]) -> None:
    """An offset is acknowledged when it and all before it are done, and not earlier."""
    bench = Bench()
    taken = tickets(bench, 8)
    done: set[int] = set()
    for offset in order:
        taken[offset].done()
        done.add(offset)
        first_open = next((number for number in range(8) if number not in done), 8)
        assert bench.acknowledged == list(range(first_open))


def test_after_a_rebalance_nothing_old_is_acknowledged() -> None:
    """The same offsets are delivered again; the old tickets are void, and their end means nothing."""
    bench = Bench()
    acknowledger = Acknowledger()
    old = acknowledger.take(bench.delivery(5))
    acknowledger.reset()
    new = acknowledger.take(bench.delivery(5))
    old.done()
    assert (old.is_void, new.is_void, bench.acknowledged) == (True, False, [])
    new.done()
    assert bench.acknowledged == [5]
    assert acknowledger.open_count == 0


# Sessions


def a_session(name: str) -> Session:
    history = History(session_id=name)
    history.say("m1", "x" * 1_000)
    assert history.session is not None
    return history.session


def test_what_is_not_stored_is_never_evicted() -> None:
    """Else the next event would be decided from an old state."""
    sessions = Sessions(DictTable(), max_sessions=2, max_bytes=1 << 30)
    for name in ("a", "b", "c", "d"):
        sessions.change(0, name, a_session(name))
    assert all(sessions.load(0, name) is not None for name in ("a", "b", "c", "d"))
    for name in ("a", "b", "c", "d"):
        sessions.stored(0, name)
    sessions.load(0, "e")
    assert sessions.load(0, "a") is None, "evicted; the table of this test never got it"


def test_a_session_that_changed_twice_is_stored_twice() -> None:
    """After the first of them it still may not leave."""
    sessions = Sessions(DictTable(), max_sessions=1, max_bytes=1 << 30)
    for _ in range(2):
        sessions.change(0, "a", a_session("a"))
    sessions.stored(0, "a")
    sessions.load(0, "b")
    assert sessions.load(0, "a") is not None
    sessions.stored(0, "a")
    sessions.load(0, "b")
    sessions.load(0, "c")
    assert sessions.load(0, "a") is None


def test_the_cache_is_bounded_in_bytes() -> None:
    """A few long conversations take as much memory as many short ones."""
    sessions = Sessions(DictTable(), max_sessions=1_000, max_bytes=10_000)
    for number in range(10):
        sessions.change(0, f"s{number}", a_session(f"s{number}"))
        sessions.stored(0, f"s{number}")
    assert sum(sessions.load(0, f"s{number}") is not None for number in reversed(range(10))) <= 3


async def test_a_state_is_told_when_decide_has_come_there() -> None:
    """Also where that is the end that the log had at the start: what it reads again may have the outcome."""
    sessions = Sessions(DictTable(), max_sessions=10, max_bytes=1 << 30)
    sessions.restart({0: 4}, {0: 9})
    asked = asyncio.create_task(sessions.at(0, "a", 2))
    await settle()
    assert not asked.done()
    sessions.advance(0, 8)
    await settle()
    assert not asked.done()
    sessions.change(0, "a", a_session("a"))
    sessions.advance(0, 9)
    assert await asked is not None
    assert await sessions.at(0, "a", 9) is not None


async def test_who_asked_before_a_rebalance_waits_for_its_end_too() -> None:
    """The state that was there is gone, and the new one is not there yet."""
    sessions = Sessions(DictTable(), max_sessions=10, max_bytes=1 << 30)
    sessions.restart({0: 4}, {})
    asked = asyncio.create_task(sessions.at(0, "a", 5))
    await settle()
    sessions.restart({}, {})
    sessions.restart({0: 6}, {0: 8})
    await settle()
    assert not asked.done()
    sessions.advance(0, 8)
    assert await asked is None


async def test_nobody_waits_for_a_decide_that_gets_no_more_records() -> None:
    """At the end of a worker the order is left for the next one."""
    sessions = Sessions(DictTable(), max_sessions=10, max_bytes=1 << 30)
    asked = asyncio.create_task(sessions.at(0, "a", 5))
    await settle()
    sessions.give_up()
    with pytest.raises(NotReachedError):
        await asked
    with pytest.raises(NotReachedError):
        await sessions.at(0, "a", 5)


# Recording


class Recording:
    """A recorder, and the history of a session that it records."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.table = DictTable()
        self.sessions = Sessions(self.table, max_sessions=10, max_bytes=1 << 30)
        self.recorder = Recorder(self.bench.shell, self.table, self.sessions)
        self.acknowledger = Acknowledger()
        self.history = History()
        self.count = 0

    def submit(self, message_id: str) -> asyncio.Future[int]:
        """The session gets a message, and one effect is emitted for it."""
        before = self.history.session
        items = writes("s1", before, self.history.say(message_id))
        self.sessions.change(0, "s1", self.history.session)
        emitted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        ticket = self.acknowledger.take(self.bench.delivery(self.count))
        self.count += 1
        self.recorder.submit(Handled(ticket, "s1", [emitted], items))
        return emitted

    def changelog(self) -> list[Appended]:
        return self.bench.outbox.appended


async def test_emit_then_record_then_acknowledge() -> None:
    """Each step only after the broker has acknowledged the one before."""
    run = Recording()
    emitted = run.submit("m1")
    await settle()
    assert run.changelog() == [], "nothing is recorded before the effects are durable"
    emitted.set_result(0)
    await settle()
    assert [appended.key for appended in run.changelog()] == [entry_key("s1", 0), head_key("s1")]
    assert run.table.data == {}
    run.changelog()[0].durable.set_result(40)
    await settle()
    assert (run.table.data, run.bench.acknowledged) == ({}, []), "the head is not durable yet"
    run.changelog()[1].durable.set_result(41)
    await settle()
    assert run.table.offsets == [41]
    assert load(run.table.data.get, "s1") == run.history.session
    assert run.bench.acknowledged == [0]
    assert await run.recorder.idle(1)


@pytest.mark.parametrize("what", ["effect", "entry", "head"])
async def test_a_produce_that_fails_stops_the_worker(what: str) -> None:
    """Nothing is acknowledged, neither this event nor those after it."""
    run = Recording()
    emitted = run.submit("m1")
    run.submit("m2").set_result(0)
    if what == "effect":
        emitted.set_exception(OSError("gone"))
    else:
        emitted.set_result(0)
    await settle()
    if what != "effect":
        entry, head = run.changelog()
        (entry if what == "entry" else head).durable.set_exception(OSError("gone"))
        (head if what == "entry" else entry).durable.set_result(1)
    await settle()
    assert [str(error) for error in run.bench.failures] == ["gone"]
    assert run.bench.acknowledged == []
    assert run.table.data == {}


async def test_events_that_wait_together_are_recorded_together() -> None:
    """Of a session that changed several times only the last head is written; every prefix can be read."""
    run = Recording()
    for effect in [run.submit(f"m{number}") for number in range(5)]:
        effect.set_result(0)
    await settle()
    keys = [appended.key for appended in run.changelog()]
    assert keys.count(head_key("s1")) == 1
    assert keys[-1] == head_key("s1")
    assert len(run.changelog()) < MAX_BATCH
    for number, appended in enumerate(run.changelog()):
        appended.durable.set_result(number)
    await settle()
    assert run.bench.acknowledged == [0, 1, 2, 3, 4]
    assert load(run.table.data.get, "s1") == run.history.session


async def test_what_is_dropped_is_not_acknowledged() -> None:
    """A rebalance did not wait for it."""
    run = Recording()
    run.submit("m1")
    assert not await run.recorder.idle(0)
    await run.recorder.stop()
    await settle()
    assert (run.bench.acknowledged, run.bench.failures) == ([], [])
