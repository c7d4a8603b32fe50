"""What nobody reads at the gateway: what is another tenant's, and what is asked for in a way that is not valid."""

import base64
from datetime import timedelta
from urllib.parse import quote

import pytest
from gateway_fixture import Door
from gateway_reads_fixture import (
    ask,
    every_page,
    filled,
    gateway,
    get,
    start,
    world,
)
from histories import History
from projection_records import Topics

from gateway.scopes import Scope
from headrace.records import read_topic
from schemas.failure import FailureCode
from schemas.topics import USER_MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")
__all__ = ["gateway"]

STRANGE = (
    "%",
    "_",
    "/",
    "?",
    "'",
    '"',
    "\\",
    ";--",
    "' OR 1=1 --",
    "*",
    "[a-z]",
    "..",
    "\u00e9\U0001f600",
    "${x}",
    "\n",
    "a:b",
)


async def test_nobody_reads_what_is_another_tenants(gateway: Door) -> None:
    """On every endpoint: refused by the id alone, or not among the rows; a session that is none is refused the same."""
    async with filled(gateway, world()):
        acme = await gateway.key("acme")
        for session_id in ("beta:1", "plain", "beta:none", "acme", "acmeX:1", "ACME:1", "%61cme2:1"):
            for part in ("", "/transcript", "/turns", "/usage", "/log"):
                answer = await gateway.ask("GET", f"/v1/sessions/{session_id}{part}", acme)
                assert (answer.status, answer.body["code"]) == (403, "wrong_tenant"), (session_id, part)
        operator = await gateway.key()
        for path, own in (("/v1/audit", 5), ("/v1/dead-letters", 1), ("/v1/usage", 1), ("/v1/sessions", 1)):
            text = (await ask(gateway, path, acme)).text
            assert "beta" not in text, path
            assert "plain" not in text, path
            everything = await every_page(gateway, path, operator)
            assert "beta" in str(everything), "the operator sees it"
            mine = await every_page(gateway, path, acme)
            assert len(mine) >= own
        for filters in ({"session_id": "beta:1"}, {"user_id": "ann", "session_id": "plain"}):
            assert await every_page(gateway, "/v1/audit", acme, **filters) == []
        assert await every_page(gateway, "/v1/dead-letters", acme, session_id="beta:1") == []
        for path in ("/v1/stats", "/v1/pipeline"):
            assert (await ask(gateway, path, acme)).body["code"] == "operators_only"
        (foreign,) = await every_page(gateway, "/v1/dead-letters", operator, session_id="beta:1")
        for method, rest in (("GET", ""), ("POST", "/replay")):
            answer = await gateway.ask(method, f"/v1/dead-letters/{foreign['id']}{rest}", acme)
            assert (answer.status, answer.body["code"]) == (404, "not_found")
        assert [record async for record in read_topic(gateway.settings, USER_MESSAGES)] == []


async def test_each_needs_its_scope(gateway: Door) -> None:
    """A key with all scopes but the one is refused."""
    for path, scope in (
        ("/v1/sessions", Scope.SESSIONS_READ),
        ("/v1/sessions/s/log", Scope.SESSIONS_READ),
        ("/v1/audit", Scope.AUDIT_READ),
        ("/v1/usage", Scope.STATS_READ),
        ("/v1/stats", Scope.STATS_READ),
        ("/v1/pipeline", Scope.STATS_READ),
        ("/v1/dead-letters", Scope.DEAD_LETTERS_READ),
        ("/v1/dead-letters/t/0/0", Scope.DEAD_LETTERS_READ),
    ):
        key = await gateway.key(None, [one for one in Scope if one != scope])
        answer = await gateway.ask("GET", path, key)
        assert (answer.status, answer.body["code"]) == (403, "wrong_scope"), path
    key = await gateway.key(None, [one for one in Scope if one != Scope.DEAD_LETTERS_WRITE])
    assert (await gateway.ask("POST", "/v1/dead-letters/t/0/0/replay", key)).status == 403


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        ("/v1/audit", "limit=0", "limit"),
        ("/v1/audit", "limit=201", "limit"),
        ("/v1/audit", "limit=x", "limit"),
        ("/v1/audit", "ip=1.2.3", "ip"),
        ("/v1/audit", "ip=10.0.0.0/8", "ip"),
        ("/v1/audit", "ip=fe80::1%25eth0", "ip"),
        ("/v1/audit", "from=yesterday", "from"),
        ("/v1/audit", "from=0001-01-01T00:00:00%2B14:00", "from"),
        ("/v1/audit", "to=9999-12-31T23:59:59-14:00", "to"),
        ("/v1/audit", "outcome=maybe", "outcome"),
        ("/v1/audit", "cursor=x", "cursor"),
        ("/v1/audit", "cursor=W10", "cursor"),
        ("/v1/audit", "cursor=" + base64.urlsafe_b64encode(b'["2026-01-01T00:00:00Z","a\\u0000"]').decode(), "cursor"),
        ("/v1/audit", "cursor=" + base64.urlsafe_b64encode(b"[" * 1_000).decode(), "cursor"),
        ("/v1/audit", "user_id=a%00b", "user_id"),
        ("/v1/audit", "user=ann", "user"),
        ("/v1/audit", "type=a&type=b", "type"),
        ("/v1/dead-letters", "cause=bad", "cause"),
        ("/v1/dead-letters", "topic=%00", "topic"),
        ("/v1/usage", "from=2026-13-01", "from"),
        ("/v1/usage", "from=2026-02-01&to=2026-01-01", "from"),
        ("/v1/usage", "from=2024-01-01&to=2026-01-01", "400 days"),
        ("/v1/usage", "to=9999-12-31", "days"),
        ("/v1/usage", "from=0001-01-01&to=0001-01-01", None),
        ("/v1/stats", "minutes=0", "minutes"),
        ("/v1/stats", "minutes=100000", "minutes"),
        ("/v1/sessions", "user_id=%00", "user_id"),
        ("/v1/sessions", "cursor=" + base64.urlsafe_b64encode(b'["x",1]').decode(), "cursor"),
        (
            "/v1/sessions/s/log",
            "cursor=" + base64.urlsafe_b64encode(b'["0001-01-01T00:00:00+14:00",0,0]').decode(),
            "cursor",
        ),
        ("/v1/sessions/s/turns", "cursor=" + base64.urlsafe_b64encode(b"[9223372036854775808]").decode(), "cursor"),
        ("/v1/sessions/s%20t/turns", "", "session_id"),
        ("/v1/dead-letters/t/-1/0", "", "partition"),
        ("/v1/dead-letters/t/0/9223372036854775808", "", "offset"),
    ],
)
async def test_what_is_not_valid_is_named(gateway: Door, path: str, query: str, named: str | None) -> None:
    """400, with what was expected; nothing that one can ask for ends in a bug or at the database."""
    answer = await gateway.ask("GET", f"{path}?{query}", await gateway.key())
    if named is None:
        assert answer.status == 200, answer.text
        return
    assert (answer.status, answer.body["code"]) == (400, "not_valid"), answer.text
    assert named in answer.text


async def test_strange_values_are_values(gateway: Door) -> None:
    """In filters and ids: they are found where they are the value, and fit nothing else."""
    topics = Topics()
    history_of = {}
    for number, text in enumerate(STRANGE):
        session_id = f"s{number}" + "".join(one if "!" <= one <= "~" else "" for one in text)
        history = History(session_id=session_id)
        history.clock.at = start() + timedelta(seconds=number)
        history.say("m1", f"{text}.", user_id=text)
        history.model_fails(FailureCode.OVERLOADED)
        topics.tell(history)
        history_of[text] = session_id
    async with filled(gateway, topics):
        key = await gateway.key()
        for text, session_id in history_of.items():
            found = await get(gateway, "/v1/sessions", key, user_id=text)
            assert [item["session_id"] for item in found["items"]] == [session_id], text
            assert found["items"][0]["title"] == f"{text}."
            path = f"/v1/sessions/{quote(session_id, safe='')}"
            assert (await get(gateway, path, key))["session_id"] == session_id
            assert (await get(gateway, f"{path}/transcript", key))["items"][0]["text"] == f"{text}."
            assert len((await get(gateway, f"{path}/log", key))["items"]) == 4
            acts = (await get(gateway, "/v1/audit", key, user_id=text))["items"]
            assert {act["session_id"] for act in acts} == {session_id}
            assert (await get(gateway, "/v1/audit", key, type=text))["items"] == []
            assert (await get(gateway, "/v1/dead-letters", key, topic=text))["items"] == []
            assert (await ask(gateway, f"/v1/dead-letters/{quote(text, safe='')}/0/0", key)).status in {400, 404}
