"""What a worker knows of the agents that were applied, and what it tells of those that it serves."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaConnectionError
from histories import NOW, agent, catalog
from shell_fixture import Bench, ManualOutbox, settle

from agents.applied import spec_fields, spec_version
from agents.directory import Directory
from agents.spec import AgentSpec
from runtime.following import Followed
from runtime.settings import Settings
from schemas.codec import Headers, encode
from schemas.directory import AgentAnnounced, AgentApplied, decode_announcement, spec_key
from schemas.topics import Topic
from streams import roster as roster_module
from streams.announce import EXPIRES_AFTER, HEARTBEAT_S, Announce
from streams.roster import Roster


@dataclass(eq=False)
class Topics:
    """Stands for the brokers: gives records when the test says so, and says where a topic ends."""

    ends_at: int | None = 0
    followed: tuple[Followed, ...] = ()
    asked: int = 0

    def follower(self, settings: Settings, followed: tuple[Followed, ...], client_id: str) -> "Topics":
        del settings, client_id
        self.followed = followed
        return self

    async def end(self, topic: Topic) -> int:
        del topic
        self.asked += 1
        if self.ends_at is None:
            raise KafkaConnectionError("nobody is there")
        return self.ends_at

    def give(self, offset: int, spec: AgentSpec | None, value: bytes | None = None) -> None:
        """`agent-specs` has this at `offset`."""
        (specs, _), key = self.followed, spec_key(spec.name if spec else "x", "v", str(offset))
        if spec is not None:
            fields = spec_fields(spec)
            value = encode(AgentApplied(agent=spec.name, version=spec_version(spec), spec=fields, at=NOW))
        nothing: Any = None
        specs.take(ConsumerRecord("agent-specs", 0, offset, 0, 0, key, value, nothing, len(key), len(value or b""), ()))
        assert specs.reached is not None
        specs.reached(offset)


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    found = Topics()
    monkeypatch.setattr(roster_module, "Follower", found.follower)
    monkeypatch.setattr(roster_module, "MISSED_S", 0)
    return found


async def waiting(work: Callable[[], Any]) -> "asyncio.Task[None]":
    """A task that has begun to wait."""
    task = asyncio.create_task(work())
    await settle()
    return task


async def test_who_needs_agents_waits_until_they_are_read(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is no agent is read too; what is there already is not waited for."""
    monkeypatch.setattr(roster_module, "MISSED_S", 60)
    agents = catalog()
    roster = Roster(Settings(), agents, Directory())
    await roster.reached(-1)
    first, second = await waiting(lambda: roster.reached(4)), await waiting(lambda: roster.reached(5))
    topics.give(3, agent("helper"))
    await settle()
    assert not first.done()
    topics.give(4, None, b"{}")
    await first
    assert not second.done()
    topics.give(6, None)
    await second
    assert agents.get("helper", 3) == agent("helper")
    assert (agents.get("helper", 2), agents.read_to, topics.asked) == (None, 6, 0)


async def test_an_offset_that_the_topic_does_not_have_holds_nobody_up(topics: Topics) -> None:
    """agent-specs was deleted and made again; while the brokers are away, or the reader is slow, it is waited for."""
    agents = catalog()
    roster = Roster(Settings(), agents, Directory())
    topics.ends_at = None
    task = asyncio.create_task(roster.reached(4))
    while topics.asked < 3:
        await asyncio.sleep(0)
    assert not task.done()
    topics.ends_at = 5
    while topics.asked < 6:
        await asyncio.sleep(0)
    assert not task.done()
    topics.ends_at = 4
    await task
    topics.give(0, agent("helper"))
    assert agents.get("helper") == agent("helper"), "what is applied from now on is read"


@dataclass(eq=False)
class Board(ManualOutbox):
    """Takes announcements."""

    posted: list[tuple[str, AgentAnnounced | None]] = field(default_factory=list)

    def post(
        self, topic: str, *, key: bytes, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> None:
        assert (topic, partition) == ("agent-directory", 0)
        assert bool(headers) == (value is not None)
        self.posted.append((key.decode(), None if value is None else decode_announcement(value)))

    def news(self) -> dict[str, AgentAnnounced | None]:
        """What was posted since the last time."""
        news = dict(self.posted)
        self.posted.clear()
        return news


async def test_a_worker_says_what_it_serves_again_and_again_until_it_leaves() -> None:
    """A change is told at once, what is not served any more is taken back, and at the end everything is."""
    board, load = Board(), {"assistant": 2, "writer": 0}
    agents = catalog(agent("assistant"), agent("writer"))
    announce = Announce(Bench(outbox=board).shell, agents, "w1", lambda: ["send", "add"], lambda name: load[name])
    announce.announce()
    news = board.news()
    assert list(news) == ["assistant@w1", "writer@w1"]
    said = news["assistant@w1"]
    assert said is not None
    assert (said.version, said.calls_in_flight, said.worker_tools) == (spec_version(agent()), 2, ("add", "send"))
    assert (said.since, said.expires_at - said.at) == (NOW, EXPIRES_AFTER)

    changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = await waiting(lambda: announce.run(lambda: changed))
    board.news()
    agents.apply(0, "writer", None)
    agents.apply(1, "assistant", agent(turn_seconds=7))
    done, changed = changed, asyncio.get_running_loop().create_future()
    done.set_result(None)
    await settle()
    news = board.news()
    assert news["writer@w1"] is None
    assert news["assistant@w1"] is not None
    assert news["assistant@w1"].version == spec_version(agent(turn_seconds=7))
    task.cancel()

    announce.retire()
    assert board.news() == {"assistant@w1": None}
    announce.retire()
    assert board.news() == {}


def test_one_heartbeat_may_be_lost_and_one_be_late() -> None:
    """Else an agent would disappear for a moment each time."""
    assert timedelta(seconds=2 * HEARTBEAT_S) < EXPIRES_AFTER
