"""The gateway before real brokers, PostgreSQL and Valkey: who gets in, what is accepted, and what nobody learns."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from client_fixture import stand_in
from gateway_fixture import Door
from msgspec.structs import replace

from agents.applied import spec_version
from agents.spec import AgentSpec
from gateway import access, keys, rate_limit
from gateway.key_making import revoke_key
from gateway.scopes import Scope
from headrace.connect import producer
from headrace.directory import carry_out, plan_apply, read_known
from headrace.records import read_topic
from runtime.kafka import topic_name
from schemas.codec import decode_audit_event, encode
from schemas.commands import UserMessage
from schemas.directory import AgentAnnounced, announcement_key
from schemas.topics import AGENT_DIRECTORY, AUDIT_EVENTS, USER_MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")
TEXT = {"text": "hello"}


async def audited(door: Door, count: int) -> list[dict[str, Any]]:
    """The audit events so far, once there are as many."""
    async with asyncio.timeout(60):
        while True:
            records = [record async for record in read_topic(door.settings, AUDIT_EVENTS)]
            if len(records) >= count:
                events = [decode_audit_event(record.value or b"") for record in records]
                return [
                    {name: getattr(event, name) for name in event.__struct_fields__}
                    for event in sorted(events, key=lambda event: event.at)
                ]
            await asyncio.sleep(0.05)


async def test_a_message_is_accepted_once_the_brokers_have_it(gateway: Door) -> None:
    """202 has its place on the topic; the record there is what was sent, with the tenant of the key and its trace."""
    key = await gateway.key("acme")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await gateway.post(
        "/v1/sessions/acme:1/messages",
        key,
        {"text": "hello", "user_id": "ann", "metadata": {"a": "b"}},
        headers={"Idempotency-Key": "m1", "traceparent": trace, "X-Request-Id": "request-1"},
    )
    assert answer.status == 202, answer.text
    assert answer.headers["X-Request-Id"] == "request-1"
    assert answer.body["id"] == "m1"
    (record,) = [record async for record in read_topic(gateway.settings, USER_MESSAGES)]
    assert (record.partition, record.offset) == (answer.body["partition"], answer.body["offset"])
    assert record.key == b"acme:1"
    headers = dict(record.headers)
    assert headers["traceparent"] == trace.encode()
    assert headers["ce_source"] == b"/headrace/gateway"
    async with stand_in(gateway.settings) as stand:
        assert await stand.next_command() == UserMessage(
            session_id="acme:1", id="m1", text="hello", user_id="ann", tenant="acme", metadata={"a": "b"}
        )
    (event,) = await audited(gateway, 1)
    assert (event["event_type"], event["outcome"], event["tenant"]) == ("command_sent", "success", "acme")
    assert (event["session_id"], event["user_id"]) == ("acme:1", "ann")
    assert event["ip_address"] == "127.0.0.1"
    assert event["key_id"] == key.split("_")[1]
    assert event["details"]["command_id"] == "m1"


async def test_a_session_id_may_hold_any_printable_character(gateway: Door) -> None:
    """Slashes, quotes and the like come percent-encoded; what is no session id is refused."""
    key = await gateway.key(None)
    answer = await gateway.post("/v1/sessions/a%2Fb%22%25%7B%7D%3Fc/messages", key, TEXT)
    assert answer.body["session_id"] == 'a/b"%{}?c', answer.text
    for bad in ("a%20b", "%C3%A4", "a%0A", "x" * 201):
        answer = await gateway.post(f"/v1/sessions/{bad}/messages", key, TEXT)
        assert (answer.status, answer.body["code"]) == (400, "not_valid"), bad


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "either `text` or `content`"),
        ({"text": "a", "content": [{"type": "text", "text": "b"}]}, "either `text` or `content`"),
        ({"text": 1}, "Expected `str | null`, got `int` - at `$.text`"),
        ({"text": "a", "txet": 1}, "unknown field `txet`"),
        ({"text": "a", "id": "two words"}, "$.id"),
        ({"text": "a", "agent": "No!"}, "$.agent"),
        ({"text": "a", "metadata": {"a": 1}}, "$.metadata"),
        ({"content": []}, "$.content"),
        ({"content": [{"type": "video"}]}, "video"),
        ([], "Expected `object`"),
        (None, "Expected `object`"),
        ({"text": "a", "session_id": "other"}, "unknown field `session_id`"),
    ],
)
async def test_a_body_that_is_not_valid(gateway: Door, body: Any, says: str) -> None:
    """The problem names the field; nothing was sent."""
    key = await gateway.key(None)
    answer = await gateway.ask(
        "POST", "/v1/sessions/s/messages", key, data=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert (answer.status, answer.body["code"]) == (400, "not_valid"), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert any(says in error for error in answer.body["errors"]), answer.body
    assert answer.body["instance"] == answer.headers["X-Request-Id"]
    assert [record async for record in read_topic(gateway.settings, USER_MESSAGES)] == []


async def test_what_is_not_json_or_too_large(gateway: Door) -> None:
    """Each has its own code; a body is refused by its declared length, by its real one, and as a message."""
    key = await gateway.key(None)
    path = "/v1/sessions/s/messages"
    json_type = {"Content-Type": "application/json"}
    for data in (b"{", b"", b'{"text": "\xff"}', b"[" * 100_000, b"\x1f\x8b\x08"):
        answer = await gateway.ask("POST", path, key, data=data, headers=json_type)
        assert (answer.status, answer.body["code"]) in ((400, "not_json"), (400, "not_valid")), data[:10]
    answer = await gateway.ask("POST", path, key, data=b'{"text": "a"}', headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.body["code"]) == (415, "not_json_type")

    most = gateway.settings.gateway.max_request_bytes
    large = json.dumps({"text": "x" * (most + 1)}).encode()
    answer = await gateway.ask("POST", path, key, data=BytesIO(large), headers=json_type)
    assert (answer.status, answer.body["code"]) == (413, "too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(large), 65_536):
            yield large[begin : begin + 65_536]

    answer = await gateway.ask("POST", path, key, data=chunks(), headers=json_type)
    assert (answer.status, answer.body["code"]) == (413, "too_large")
    answer = await gateway.post(path, key, {"text": "x" * 600_000})
    assert (answer.status, answer.body["code"]) == (413, "too_large")
    assert "524,288" in answer.body["detail"]


async def test_who_gets_in(gateway: Door) -> None:
    """Without a key, with a wrong, expired or revoked one: 401, the same words, and it is audited."""
    right = await gateway.key(None)
    expired = await gateway.key(None, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked = await gateway.key(None)
    await revoke_key(gateway.parts.database, revoked.split("_")[1])
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
    details = set()
    for key in (expired, revoked, wrong, right + "0", "hr_0123456789abcdef_" + "0" * 64, "nonsense"):
        answer = await gateway.ask("GET", "/v1/me", None, headers={"Authorization": f"Bearer {key}"})
        assert (answer.status, answer.body["code"]) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        details.add(answer.body["detail"])
    assert len(details) == 1
    for headers in ({}, {"Authorization": f"Basic {right}"}, {"Authorization": ""}):
        assert (await gateway.ask("GET", "/v1/me", None, headers=headers)).status == 401
    events = await audited(gateway, 6)
    assert {(event["event_type"], event["outcome"]) for event in events} == {("authentication_failed", "denied")}
    assert (await gateway.ask("GET", "/v1/me", right)).status == 200


async def test_who_tries_keys_is_held_back(gateway: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond some wrong keys a second from one address: 429, and the audit log is not filled; right ones are let in."""
    monkeypatch.setattr(access, "FAILED_PER_SECOND", 0.1)
    monkeypatch.setattr(rate_limit, "BURST_S", 200)
    answers = [await gateway.ask("GET", "/v1/me", f"hr_{n:016x}_{'0' * 64}") for n in range(60)]
    refused = [answer.status for answer in answers].count(401)
    assert 20 <= refused < 60
    assert {answer.status for answer in answers} == {401, 429}
    assert len(await audited(gateway, refused)) == refused
    assert (await gateway.ask("GET", "/v1/me", await gateway.key(None))).status == 200


async def test_a_revoked_key_is_taken_for_seconds_only(gateway: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cached of a key is asked again after a while; its streams are told the same."""
    monkeypatch.setattr(keys, "CACHED_S", 0.2)
    key = await gateway.key("acme")
    assert (await gateway.ask("GET", "/v1/me", key)).status == 200
    caller = (await gateway.parts.keys.authenticate(key)).caller
    await revoke_key(gateway.parts.database, key.split("_")[1])
    async with asyncio.timeout(60):
        while (await gateway.ask("GET", "/v1/me", key)).status == 200:
            await asyncio.sleep(0.1)
    assert not await gateway.parts.keys.is_valid(caller)


async def test_scopes_and_tenants(gateway: Door) -> None:
    """Without the scope, or of another tenant: 403, the same whether or not there is such a session."""
    reader = await gateway.key("acme", [Scope.SESSIONS_READ])
    answer = await gateway.post("/v1/sessions/acme:1/messages", reader, TEXT)
    assert (answer.status, answer.body["code"]) == (403, "wrong_scope")
    acme, other = await gateway.key("acme"), await gateway.key("other")
    assert (await gateway.post("/v1/sessions/other:1/messages", other, TEXT)).status == 202
    answers = [
        await gateway.post(f"/v1/sessions/{session}/messages", acme, TEXT)
        for session in ("other:1", "other:2", "acme", "acmeX:1", "s")
    ]
    for answer in answers:
        assert (answer.status, answer.body["code"]) == (403, "wrong_tenant")
    assert len({(a.text.replace(a.body["instance"], ""), frozenset(set(a.headers))) for a in answers}) == 1
    answer = await gateway.post("/v1/sessions/acme:1/messages", acme, {**TEXT, "tenant": "other"})
    assert (answer.status, answer.body["code"]) == (403, "wrong_tenant")
    assert (await gateway.post("/v1/sessions/acme:1/messages", acme, {**TEXT, "tenant": "acme"})).status == 202
    denied = [event for event in await audited(gateway, 9) if event["event_type"] == "forbidden"]
    assert [event["outcome_details"] for event in denied] == ["wrong_scope", *["wrong_tenant"] * 6]


async def test_no_key_is_in_what_others_see(gateway: Door, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in logs, metrics, answers or the audit log: neither a right key nor a wrong one; nor is what was said."""
    key = await gateway.key("acme")
    wrong = "hr_0123456789abcdef_" + "ab" * 32
    texts = [
        (await gateway.post("/v1/sessions/acme:1/messages", key, {"text": "a word in confidence"})).text,
        (await gateway.post("/v1/sessions/other:7/messages", key, {"text": "a word in confidence"})).text,
        (await gateway.ask("GET", "/v1/me", wrong)).text,
        (await gateway.ask("GET", f"/v1/nothing/{key}?key={key}", key)).text,
        (await gateway.ask("GET", f"/v1/agents?key={wrong}", wrong)).text,
    ]
    metrics = (await gateway.ask("GET", "/metrics")).text
    events = await audited(gateway, 4)
    out, err = capfd.readouterr()
    for text in (*texts, metrics, str(events), out, err):
        assert key.split("_")[2] not in text
        assert "ab" * 32 not in text
        assert "in confidence" not in text
    assert "acme" not in metrics
    assert "other:7" not in metrics


async def test_what_is_no_request(gateway: Door, capfd: pytest.CaptureFixture[str]) -> None:
    """Broken HTTP is answered with a problem, which does not repeat it; nor does a log: a key may be in it."""
    key = await gateway.key(None)
    port = int(gateway.url.rpartition(":")[2])
    heads = (f"GET /v1/me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\x00\r\n\r\n", "nonsense\r\n\r\n")
    for head in (*heads, f"GET /{key}{'x' * 9_000} HTTP/1.1\r\nHost: a\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.splitlines()[0].endswith("400 Bad Request"), answer or head[:20]
        assert "application/problem+json" in answer
        assert key.split("_")[2] not in answer
    out, err = capfd.readouterr()
    assert key.split("_")[2] not in out + err


async def test_a_key_has_a_rate(gateway: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, 429 with how long to wait; another key is not held back."""
    monkeypatch.setattr(rate_limit, "BURST_S", 400)
    slow, quick = await gateway.key(None, requests_per_second=0.01), await gateway.key(None)
    answers = [await gateway.ask("GET", "/v1/me", slow) for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 4 + [429]
    refused = answers[-1]
    assert refused.body["code"] == "too_many_requests"
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["RateLimit"] == '"key";r=0'
    assert answers[0].headers["RateLimit"] == '"key";r=3'
    assert answers[0].headers["RateLimit-Policy"] == '"key";q=4;w=400'
    assert (await gateway.ask("GET", "/v1/me", quick)).status == 200
    bucket = f"{gateway.parts.redis_prefix}rate:{slow.split('_')[1]}"
    await gateway.parts.redis.hincrbyfloat(bucket, "at", -100)
    assert (await gateway.ask("GET", "/v1/me", slow)).status == 200


async def test_every_answer_is_careful(gateway: Door) -> None:
    """Whatever was asked: a request id, and headers by which a browser keeps to itself what it got."""
    key = await gateway.key(None)
    asked = (("GET", "/v1/me", 200), ("GET", "/nothing", 404), ("PUT", "/v1/me", 405), ("GET", "/health/live", 200))
    for method, path, status in asked:
        answer = await gateway.ask(method, path, key, headers={"X-Request-Id": "<script>"})
        assert answer.status == status
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert len(answer.headers["X-Request-Id"]) == 32
        if status >= 400:
            assert answer.body["type"] == f"/problems/{answer.body['code']}"


async def test_me_and_the_agents(gateway: Door) -> None:
    """A key learns what it is for, and which agents answer; not what these are told."""
    answer = await gateway.ask("GET", "/v1/me", await gateway.key("acme", [Scope.SESSIONS_READ]))
    assert answer.body == {
        "name": "key of acme",
        "tenant": "acme",
        "scopes": ["sessions:read"],
        "session_prefix": "acme:",
        "is_open": False,
    }
    answer = await gateway.ask("GET", "/v1/agents", await gateway.key("acme", []))
    first = answer.body["items"][0]
    assert (first["name"], first["is_default"]) == ("assistant", True)
    assert "instructions" not in answer.text


async def test_agents_that_are_applied_and_announced(gateway: Door) -> None:
    """They are listed without a restart, with who serves them; a tenant sees its own and everybody's."""
    spec = AgentSpec(name="helper", instructions="Help.", capabilities=("help",), tenant="acme")
    known = await read_known(gateway.settings)
    await carry_out(gateway.settings, plan_apply(known, {"helper": spec}, prune=False, keep=timedelta(days=1)))
    now = datetime.now(UTC)
    said = AgentAnnounced(
        agent="helper",
        worker="w1",
        version=spec_version(spec),
        model=spec.model,
        since=now,
        at=now,
        expires_at=now + timedelta(minutes=1),
        calls_in_flight=3,
        tenant="acme",
    )
    async with producer(gateway.settings, 1 << 20) as client:
        for agent in ("helper", "other"):
            one = encode(replace(said, agent=agent, tenant=said.tenant if agent == "helper" else None))
            topic = topic_name(gateway.settings, AGENT_DIRECTORY)
            await client.send_and_wait(topic, one, key=announcement_key(agent, "w1"), partition=0)
    listed: dict[str, Any] = {}
    async with asyncio.timeout(60):
        while "other" not in listed or "helper" not in listed:
            answer = await gateway.ask("GET", "/v1/agents", await gateway.key("acme", []))
            listed = {one["name"]: one for one in answer.body["items"]}
    helper = listed["helper"]
    assert (helper["version"], helper["workers"], helper["calls_in_flight"]) == (spec_version(spec), 1, 3)
    assert helper["capabilities"] == ["help"]
    assert (listed["assistant"]["workers"], listed["assistant"]["since"]) == (0, None)
    answer = await gateway.ask("GET", "/v1/agents", await gateway.key("another", []))
    assert {one["name"] for one in answer.body["items"]} == set(listed) - {"helper"}


async def test_health(gateway: Door) -> None:
    """It says of each part how it is, without a key."""
    assert (await gateway.ask("GET", "/health/live")).body == {"live": True}
    answer = await gateway.ask("GET", "/health/ready")
    assert answer.status == 200, answer.text
    assert answer.body["ready"]
    assert [(part["name"], part["ready"]) for part in answer.body["components"]] == [
        ("brokers", True),
        ("postgres", True),
        ("redis", True),
    ]


async def test_uses_of_keys_are_written_later(gateway: Door) -> None:
    """The last use of a key is known to operators, though no request waits for it to be written."""
    key = await gateway.key(None)
    await gateway.ask("GET", "/v1/me", key)
    before = await gateway.parts.database.fetch("list_keys")
    assert [row["last_used_at"] for row in before] == [None]
    await gateway.parts.keys.write_uses()
    (after,) = await gateway.parts.database.fetch("list_keys")
    assert after["last_used_at"] is not None
