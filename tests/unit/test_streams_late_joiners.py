"""What an agent missed: which broadcasts it gets when it is applied, in which form, and which it does not."""

import json
from dataclasses import replace as replaced
from datetime import timedelta
from typing import Any

import pytest
from shell_fixture import NOW, Bench

from agents.catalog import Catalog
from agents.spec import AgentSpec
from schemas.codec import decode_session_event
from schemas.log import BroadcastAccepted
from schemas.topics import SESSION_LOG, USER_MESSAGES
from streams.late_joiners import LateJoiners, joiner

HOUR = timedelta(hours=1)
LATE = AgentSpec(name="late", instructions="x", capabilities=("law",), broadcast_replay_seconds=3_600)
APPLIED_AT = NOW - timedelta(seconds=10)


class Stage:
    """One pass over the broadcasts, for an agent that was applied ten seconds ago."""

    def __init__(self, spec: AgentSpec = LATE, retention: timedelta = 720 * HOUR) -> None:
        self.bench = Bench()
        catalog = Catalog({"ada": AgentSpec(name="ada", instructions="x")}, "ada")
        catalog.apply(7, "late", spec)
        found = joiner(spec, APPLIED_AT, NOW, retention)
        self.late = LateJoiners(self.bench.shell, catalog, [found] if found else [])

    async def read(self, offset: int = 2, before: timedelta = timedelta(minutes=5), **fields: Any) -> int:
        """A broadcast that is so long before now; how many records came of it."""
        value = json.dumps({"text": "hi", **fields}).encode()
        delivery = replaced(self.bench.delivery(offset, value, topic="broadcasts"), at=NOW - before)
        return len(await self.late.give(delivery))

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(appended.value or b"") for appended in self.bench.outbox.to(USER_MESSAGES.name)]

    def facts(self) -> list[BroadcastAccepted]:
        found = [decode_session_event(appended.value or b"") for appended in self.bench.outbox.to(SESSION_LOG.name)]
        return [fact for fact in found if isinstance(fact, BroadcastAccepted)]


async def test_it_gets_the_message_that_it_would_have_got() -> None:
    """Under the same ids, so that it answers once; nobody else gets it again."""
    stage = Stage()
    assert await stage.read(sender="ann", budget_micros=100, hops=1) == 1
    (message,) = stage.messages()
    assert message["session_id"] == message["id"] == "broadcasts/0/2:late"
    assert (message["agent"], message["user_id"], message["hops"]) == ("late", "ann", 2)
    assert message["budget_micros"] == 50, "as if it had been there"


async def test_where_replies_are_gathered_the_gathering_is_told() -> None:
    """It knows whether it waits; the deadline is counted from when the broadcast was sent."""
    stage = Stage()
    assert await stage.read(id="b", gather="all", deadline=301) == 1
    (fact,) = stage.facts()
    assert (fact.session_id, fact.audience, fact.for_late_joiners, fact.specs_offset) == ("b:@", ("late",), True, 7)
    assert await stage.read(id="c", gather="all", deadline=299) == 0
    assert stage.messages() == []


@pytest.mark.parametrize(
    ("fields", "before", "given"),
    [
        ({"audience": ["late"]}, timedelta(minutes=5), 1),
        ({"audience": {"capability": "law"}}, timedelta(minutes=5), 1),
        ({"audience": ["ada"]}, timedelta(minutes=5), 0),
        ({"audience": {"capability": "singing"}}, timedelta(minutes=5), 0),
        ({}, timedelta(minutes=61), 0),
        ({}, timedelta(minutes=59), 1),
        ({}, timedelta(seconds=-49), 1),
        ({}, timedelta(seconds=-51), 0),
        ({"expires_at": "2026-05-01T11:59:59Z"}, timedelta(minutes=5), 0),
        ({"expires_at": "2026-05-01T12:00:01Z"}, timedelta(minutes=5), 1),
        ({"hops": 5}, timedelta(minutes=5), 0),
        ({"content": []}, timedelta(minutes=5), 0),
    ],
)
async def test_which_broadcasts_it_gets(fields: dict[str, Any], before: timedelta, given: int) -> None:
    """Those that are for it, that were valid and still are, and that were sent within its time."""
    assert await Stage().read(before=before, **fields) == given


async def test_agents_of_tenants_and_those_that_ask_for_nothing() -> None:
    """Another tenant's broadcasts stay theirs; without `broadcast_replay_seconds` nothing is given."""
    theirs = Stage(AgentSpec(name="late", instructions="x", tenant="acme", broadcast_replay_seconds=3_600))
    assert await theirs.read(2) == 0
    assert await theirs.read(3, tenant="globex") == 0
    assert await theirs.read(4, tenant="acme", id="b") == 1
    assert theirs.messages()[0]["session_id"] == "acme:b:late"
    assert joiner(AgentSpec(name="late", instructions="x"), APPLIED_AT, NOW, 720 * HOUR) is None


async def test_what_its_sessions_may_have_forgotten_is_not_given_again() -> None:
    """A session that was answered and has expired would answer again."""
    stage = Stage(retention=timedelta(minutes=15))
    assert await stage.read(before=timedelta(minutes=6)) == 0
    assert await stage.read(3, before=timedelta(minutes=4)) == 1
    assert joiner(LATE, NOW - HOUR, NOW, timedelta(minutes=15)) is None


async def test_a_storm_is_refused_again() -> None:
    """What was too much for its sender then is too much now."""
    stage = Stage()
    given = [await stage.read(offset, sender="ann") for offset in range(130)]
    assert sum(given) == 120
