"""route_broadcast: what gathers replies becomes a fact; who may not reach whom, and what storms come to."""

import json
from dataclasses import replace as replaced
from datetime import timedelta
from typing import Any

import pytest
from shell_fixture import NOW, Bench

from agents.catalog import Catalog
from agents.spec import AgentSpec
from schemas.codec import decode_session_event
from schemas.dead_letter import Cause
from schemas.gather import MAX_GATHERED_AGENTS, Quorum
from schemas.log import BroadcastAccepted
from schemas.topics import SESSION_LOG, USER_MESSAGES
from streams.dead_letter import DeadLetters
from streams.ports import Delivery
from streams.route_broadcast import RouteBroadcasts
from streams.session_log import SessionLog


def spec(name: str, tenant: str | None = None) -> AgentSpec:
    return AgentSpec(name=name, instructions="x", tenant=tenant)


CATALOG = Catalog({one.name: one for one in (spec("ada"), spec("own", "acme"), spec("foreign", "globex"))}, "ada")


class Decided:
    """What reads the session log here: nothing is expected of it."""

    is_full = False

    async def take(self, delivery: Delivery) -> None:
        del delivery


class Stage:
    """A router, and what came of what it was given."""

    def __init__(self, catalog: Catalog = CATALOG, per_minute: int = 120) -> None:
        self.bench = Bench()
        shell = self.bench.shell
        log = SessionLog(shell, Decided())
        self.router = RouteBroadcasts(shell, DeadLetters(shell), catalog, log, per_minute)

    async def take(self, offset: int = 2, at: timedelta = timedelta(0), **fields: Any) -> None:
        value = json.dumps({"text": "hi", **fields}).encode()
        await self.router.take(replaced(self.bench.delivery(offset, value, topic="broadcasts"), at=NOW + at))

    def facts(self) -> list[BroadcastAccepted]:
        found = [decode_session_event(appended.value or b"") for appended in self.bench.outbox.to(SESSION_LOG.name)]
        return [fact for fact in found if isinstance(fact, BroadcastAccepted)]

    def asked(self) -> list[bytes | None]:
        return [appended.key for appended in self.bench.outbox.to(USER_MESSAGES.name)]

    def causes(self) -> list[Cause]:
        return [letter.cause for letter in self.bench.outbox.letters()]


async def test_a_broadcast_that_gathers_is_one_fact() -> None:
    """The agents are asked by the session that gathers, not here; the deadline is a time from here on."""
    stage = Stage()
    await stage.take(id="acme:b1", gather={"quorum": 2}, deadline=30, tenant="acme", reply_to="acme:s1", hops=4)
    (fact,) = stage.facts()
    assert (fact.session_id, fact.broadcast_id, fact.gather) == ("acme:b1:@", "acme:b1", Quorum(quorum=2))
    assert (fact.deadline, fact.specs_offset, fact.reply_to, fact.hops) == (
        NOW + timedelta(seconds=30),
        -1,
        "acme:s1",
        4,
    )
    assert (stage.asked(), stage.causes()) == ([], [])


async def test_a_budget_is_shared_equally() -> None:
    """Each message has its share, and says how many broadcasts led to it; where replies are gathered, that is known."""
    stage = Stage()
    await stage.take(id="acme:b1", tenant="acme", audience=["ada", "own"], budget_micros=101, hops=1)
    messages = [json.loads(appended.value or b"") for appended in stage.bench.outbox.to(USER_MESSAGES.name)]
    assert [(message["budget_micros"], message["hops"]) for message in messages] == [(50, 2)] * 2
    await stage.take(3, gather="all", budget_micros=101)
    assert stage.facts()[-1].budget_micros == 101


@pytest.mark.parametrize(
    ("deadline", "seconds"),
    [
        (None, 600),
        ("2026-05-01T12:01:00Z", 60),
        ("2026-05-01T12:01:00", 60),
        ("2026-05-01T13:01:00+01:00", 60),
        ("2030-01-01T00:00:00Z", 7 * 24 * 3_600),
    ],
)
async def test_deadlines(deadline: str | None, seconds: int) -> None:
    """A time without a zone is UTC; there always is a deadline, and not too far away."""
    stage = Stage()
    await stage.take(gather="all", deadline=deadline)
    (fact,) = stage.facts()
    assert fact.deadline == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"hops": 5}, Cause.TOO_MANY_HOPS),
        ({"hops": -1}, Cause.NOT_VALID),
        ({"budget_micros": 0}, Cause.NOT_VALID),
        ({"id": "acme:b1"}, Cause.NOT_VALID),
        ({"deadline": 30}, Cause.NOT_VALID),
        ({"reply_to": "s1"}, Cause.NOT_VALID),
        ({"gather": "some"}, Cause.NOT_VALID),
        ({"gather": {"quorum": 0}}, Cause.NOT_VALID),
        ({"gather": "all", "deadline": 0}, Cause.NOT_VALID),
        ({"gather": "all", "deadline": "2026-05-01T12:00:00Z"}, Cause.EXPIRED),
        ({"gather": "all", "reply_to": "acme:s1"}, Cause.NOT_VALID),
        ({"gather": "all", "reply_to": "globex:s1", "tenant": "acme"}, Cause.NOT_VALID),
        ({"gather": "all", "reply_to": "s1", "tenant": "acme"}, Cause.NOT_VALID),
        ({"id": "x" * 116, "tenant": "acme"}, Cause.NOT_VALID),
        ({"audience": {}}, Cause.NOT_VALID),
        ({"audience": {"capability": "counting"}}, Cause.NO_SUCH_AGENT),
        ({"audience": {"tenant": "globex"}, "tenant": "acme"}, Cause.NO_SUCH_AGENT),
        ({"content": [{"type": "text", "text": "also"}]}, Cause.NOT_VALID),
    ],
)
async def test_broadcasts_that_are_refused(fields: dict[str, Any], cause: Cause) -> None:
    """Each is buried once, and nobody is asked."""
    stage = Stage()
    await stage.take(**fields)
    assert (stage.causes(), stage.asked(), stage.facts()) == ([cause], [], [])


async def test_no_broadcast_reaches_another_tenants_agents() -> None:
    """Nor does it learn of them: an agent that is foreign is told in the words of one that does not exist."""
    stage = Stage()
    await stage.take(audience="all", id="b", tenant="acme")
    assert stage.asked() == [b"acme:b:ada", b"acme:b:own"]
    errors = []
    for name in ("foreign", "unheard"):
        stage = Stage()
        await stage.take(audience=["ada", name], id="b", tenant="acme")
        assert stage.asked() == [b"acme:b:ada"]
        (letter,) = stage.bench.outbox.letters()
        errors.append(letter.error.replace(name, "NAME"))
    assert errors[0] == errors[1]
    assert "globex" not in errors[0]


async def test_too_many_agents_to_gather_from() -> None:
    """Without `gather` there is no such bound."""
    crowd = Catalog({f"a{n}": spec(f"a{n}") for n in range(MAX_GATHERED_AGENTS + 1)}, "a0")
    stage = Stage(crowd)
    await stage.take(gather="first")
    await stage.take(offset=3)
    assert stage.causes() == [Cause.NOT_VALID]
    assert len(stage.asked()) == MAX_GATHERED_AGENTS + 1


async def test_storms_are_refused_by_sender_and_minute() -> None:
    """Each sender has a window of their own; a record that is delivered again counts once, a refused one never."""
    stage = Stage(per_minute=2)
    for offset in (1, 2, 2, 1):
        await stage.take(offset, sender="ann")
    assert stage.causes() == []
    await stage.take(3, sender="ann", at=timedelta(seconds=59))
    assert stage.causes() == [Cause.TOO_MANY_BROADCASTS]
    assert "`ann`" in stage.bench.outbox.letters()[0].error
    await stage.take(4, sender="bob", at=timedelta(seconds=59))
    await stage.take(5, sender="ann", tenant="acme", at=timedelta(seconds=59))
    await stage.take(6, sender="ann", at=timedelta(seconds=60))
    assert len(stage.causes()) == 1


async def test_a_backlog_is_no_storm() -> None:
    """What was sent within an hour may be routed within a second."""
    stage = Stage(per_minute=2)
    for number in range(60):
        await stage.take(number, at=timedelta(minutes=number))
    assert stage.causes() == []
