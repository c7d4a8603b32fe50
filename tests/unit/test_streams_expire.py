"""expire: idle sessions are found by their heads, and an event of their log says so; nothing else is touched."""

import asyncio
from datetime import datetime, timedelta

import pytest
from histories import NOW, History
from shell_fixture import ManualOutbox
from simulation.worker import Tables

from agents.session import Head
from schemas.codec import decode_session_event, encode
from schemas.log import SessionExpired
from schemas.topics import SESSION_LOG
from streams.expire import HEADS_PER_SLICE, expire_idle
from streams.ports import Shell
from streams.store import entry_key, head_key

RETENTION = timedelta(hours=1)
PREFIX = "own."


def head(session_id: str, idle: timedelta) -> Head:
    return Head(session_id=session_id, log_offset=7, updated_at=NOW - idle)


def tables(*partitions: list[Head]) -> Tables:
    """A table that has these heads, and an entry of each session."""
    stored = Tables()
    stored.data = {
        partition: {head_key(one.session_id): encode(one) for one in heads}
        | {entry_key(one.session_id, 0): b"no head" for one in heads}
        for partition, heads in enumerate(partitions)
    }
    return stored


class Expiry:
    """A shell at noon, and what it was told to append."""

    def __init__(self, *, is_quick: bool = True) -> None:
        self.outbox = ManualOutbox(is_quick=is_quick)
        self.shell = Shell(self.outbox, lambda: NOW, self.fail, PREFIX)

    def fail(self, error: BaseException) -> None:
        raise AssertionError("expire tells its caller") from error

    async def run(self, stored: Tables, *partitions: int) -> int:
        return await expire_idle(self.shell, stored, partitions, RETENTION)

    def events(self) -> list[SessionExpired]:
        events = [decode_session_event(one.value or b"") for one in self.outbox.to(PREFIX + SESSION_LOG.name)]
        assert len(events) == len(self.outbox.appended)
        return [event for event in events if isinstance(event, SessionExpired)]

    def expired(self) -> list[str]:
        return [event.session_id for event in self.events()]


async def test_what_is_idle_for_the_retention_time_expires() -> None:
    """To the second: what happened since is spared, and the table itself is left to the reducer."""
    stored = tables(
        [
            head("long-ago", timedelta(days=3)),
            head("just-so", RETENTION),
            head("not-yet", RETENTION - timedelta(seconds=1)),
            head("now", timedelta()),
        ]
    )
    before = {key: dict(items) for key, items in stored.data.items()}
    expiry = Expiry()
    assert await expiry.run(stored, 0) == 2
    assert expiry.expired() == ["long-ago", "just-so"]
    assert stored.data == before


async def test_the_event_says_what_the_reducer_needs() -> None:
    """The moment since which it must have been idle, under its session's key, with an id that a repetition shares."""
    expiry = Expiry()
    for _ in range(2):
        await expiry.run(tables([head("s1", RETENTION)]), 0)
    first, second = expiry.outbox.appended
    assert first.key == b"s1"
    assert expiry.events()[0] == SessionExpired(session_id="s1", idle_since=NOW - RETENTION, at=NOW)
    assert dict(first.headers)["ce_id"] == dict(second.headers)["ce_id"] == b"s1@7"


async def test_a_session_whose_turn_runs_is_spared() -> None:
    """However long it takes: a tool that waits for approval is not forgotten."""
    history = History(session_id="s1")
    history.say("m1")
    assert history.session is not None
    assert history.session.head.turn is not None
    waiting: datetime = history.session.head.updated_at
    stored = tables([])
    stored.data[0][head_key("s1")] = encode(history.session.head)
    expiry = Expiry()
    shell = Shell(expiry.outbox, lambda: waiting + 100 * RETENTION, expiry.fail, PREFIX)
    assert await expire_idle(shell, stored, [0], RETENTION) == 0


async def test_only_the_partitions_that_are_held_are_looked_at() -> None:
    """Another worker looks after the others."""
    stored = tables([head("a", RETENTION)], [head("b", RETENTION)], [head("c", RETENTION)])
    expiry = Expiry()
    assert await expiry.run(stored, 0, 2) == 2
    assert expiry.expired() == ["a", "c"]


async def test_the_next_one_waits_until_the_last_one_is_durable() -> None:
    """A table full of idle sessions is no flood; an event that is lost comes out as the error that it is."""
    expiry = Expiry(is_quick=False)
    running = asyncio.create_task(expiry.run(tables([head(name, RETENTION) for name in "abc"]), 0))
    for count in (1, 2):
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(expiry.outbox.appended) == count
        if count == 1:
            expiry.outbox.appended[0].durable.set_result(0)
    expiry.outbox.appended[1].durable.set_exception(OSError("the broker is gone"))
    with pytest.raises(OSError, match="gone"):
        await running
    assert expiry.expired() == ["a", "b"]


async def test_other_work_gets_its_turn() -> None:
    """Also where nothing is idle, so that nothing is waited for."""
    stored = tables([head(f"s{n}", timedelta()) for n in range(10 * HEADS_PER_SLICE)])
    running = asyncio.create_task(Expiry().run(stored, 0))
    turns = 0
    while not running.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 10
    assert running.result() == 0


async def test_the_reducer_has_the_last_word() -> None:
    """A session to which something happened after its head was read stays; one that is idle indeed goes."""
    history = History(session_id="s1")
    history.say("m1")
    history.model_says("hello")
    assert history.session is not None
    for idle_since, stays in ((RETENTION, True), (timedelta(), False)):
        at = history.session.head.updated_at if history.session else NOW
        expiry = Expiry()
        shell = Shell(expiry.outbox, lambda at=at, back=idle_since: at - back + RETENTION, expiry.fail, PREFIX)  # type: ignore[misc]
        stale = Head(session_id="s1", log_offset=0, updated_at=at - RETENTION)
        await expire_idle(shell, tables([stale]), [0], RETENTION)
        (event,) = expiry.events()
        history.feed(event)
        assert (history.session is not None) == stays
