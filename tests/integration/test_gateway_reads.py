"""What the gateway lets one read, on real stores that the real projections filled from histories of sessions."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gateway_fixture import Door
from gateway_reads_fixture import (
    DEADLINE_S,
    ask,
    every_page,
    filled,
    gateway,
    get,
    letter_of,
    publish,
    start,
    world,
)
from histories import History, use
from kafka_fixture import free_port
from projection_lag import caught_up
from projection_records import Topics, audited

from gateway.brokers import Brokers
from gateway.problems import Code, Problem
from headrace.records import read_topic
from runtime.kafka import topic_name
from schemas.audit import Act, Outcome
from schemas.topics import AUDIT_EVENTS, DEAD_LETTERS, SESSION_LOG, TOPICS, USER_MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")
__all__ = ["gateway"]


async def test_a_conversation_is_read(gateway: Door) -> None:
    """Its state, what was said, its turns, what it cost, its timeline."""
    async with filled(gateway, world()):
        key = await gateway.key("acme")
        session = await get(gateway, "/v1/sessions/acme:1", key)
        assert (session["status"], session["agent"], session["turn_id"]) == ("failed", "assistant", "acme:1/2")
        assert (session["title"], session["messages"], session["user_id"]) == ("what is 1 + 2?", 1, "ann")
        transcript = await get(gateway, "/v1/sessions/acme:1/transcript", key)
        assert [(item["type"], item.get("text") or item.get("content")) for item in transcript["items"]] == [
            ("user_message", "what is 1 + 2?"),
            ("assistant_message", "let me see"),
            ("tool_use", None),
            ("tool_result", "3"),
            ("assistant_message", "3"),
            ("user_message", "and now?"),
            ("turn_failed", None),
        ]
        assert (transcript["next_cursor"], transcript["last_seq"]) == (None, 6)
        first, second = (await get(gateway, "/v1/sessions/acme:1/turns", key))["items"]
        assert (first["status"], first["model_calls"], first["tool_calls"], first["output_tokens"]) == (
            "completed",
            2,
            1,
            12,
        )
        assert (first["cost_micros"], first["message_id"], first["number"]) == (4, "m1", 1)
        assert first["duration_ms"] == 1_000
        assert (second["status"], second["error"], second["model_calls"]) == ("failed", "overloaded", 1)
        usage = await get(gateway, "/v1/sessions/acme:1/usage", key)
        assert [(item["agent"], item["model"], item["calls"]) for item in usage["items"]] == [("assistant", "m", 3)]
        assert usage["cost_micros"] == 4
        log = await get(gateway, "/v1/sessions/acme:1/log", key)
        assert [item["type"] for item in log["items"]] == [
            "message_accepted",
            "turn_started",
            "model_completed",
            "tool_completed",
            "model_completed",
            "message_accepted",
            "model_failed",
            "tool_called",
            "tool_returned",
            "turn_completed",
            "turn_started",
            "turn_failed",
        ], "facts of one moment come before the events of it"
        by_type = {item["type"]: item for item in log["items"]}
        assert (by_type["turn_completed"]["duration_ms"], by_type["turn_completed"]["output_tokens"]) == (1_000, 12)
        assert by_type["message_accepted"]["body"]["message_id"] == "m2"
        # Redis lost all, and PostgreSQL still has it.
        await gateway.parts.redis.delete(*await gateway.parts.redis.keys(f"{gateway.parts.redis_prefix}s*:acme:1"))
        again = await get(gateway, "/v1/sessions/acme:1", key)
        assert again | {"last_message": None, "messages": 1, "step": None} == session | {
            "last_message": None,
            "step": None,
        }
        assert again["messages"] == 2, "all messages, also those that do not name their user"


async def test_messages_that_wait_and_turns_that_were_turned_away(gateway: Door) -> None:
    """What waits is at the end; what was cancelled in the queue has its message, and a turn without a beginning."""
    history = History(session_id="s")
    history.clock.at = start()
    history.say("m1", "one", user_id="ann")
    history.model_says("I ask for two", use("send", "u1"), use("add", "u2"))
    history.say("m2", "two")
    history.say("m3", "three")
    history.cancel("m2")
    topics = Topics()
    topics.tell(history)
    async with filled(gateway, topics):
        key = await gateway.key()
        session = await get(gateway, "/v1/sessions/s", key)
        assert (session["status"], session["tool"]) == ("running", "add")
        items = await every_page(gateway, "/v1/sessions/s/transcript", key, limit=1)
        assert items == (await get(gateway, "/v1/sessions/s/transcript", key))["items"]
        assert [(item["type"], item.get("text"), item["message_id"]) for item in items] == [
            ("user_message", "one", "m1"),
            ("assistant_message", "I ask for two", "m1"),
            ("tool_use", None, "m1"),
            ("tool_use", None, "m1"),
            ("user_message", "two", "m2"),
            ("turn_cancelled", None, "m2"),
            ("user_message", "three", "m3"),
        ]
        assert [item["needs_approval"] for item in items if item["type"] == "tool_use"] == [True, False]
        assert items[-1]["turn_id"] is None
        turns = await every_page(gateway, "/v1/sessions/s/turns", key, limit=1)
        assert [(turn["message_id"], turn["status"], turn["started_at"] is None) for turn in turns] == [
            ("m1", "running", False),
            ("m2", "cancelled", True),
        ]
        # Approved, the tool is called a second time; what the model said is not said again.
        topics = Topics()
        call_id = next(item["call_id"] for item in items if item["type"] == "tool_use")
        history.clock.forward(5)
        step = history.decide(call_id, "approve")
        assert step.events
        topics.tell(history)
        await publish(gateway.settings, only_new(topics, 6))
        await caught_up(gateway.settings)
        items = (await get(gateway, "/v1/sessions/s/transcript", key))["items"]
        assert [item["type"] for item in items].count("assistant_message") == 1
        assert [item["needs_approval"] for item in items if item["type"] == "tool_use"] == [True, False, False]


def only_new(topics: Topics, facts: int) -> Topics:
    """What a history told again has behind its first facts."""
    new = Topics()
    new.records = [record for record in topics.records if b'"decision"' in record.value or record is topics.records[-1]]
    assert len(new.records) == 3, facts
    return new


async def test_lists_of_sessions(gateway: Door) -> None:
    """A user's conversations, a tenant's, all; the newest first; a tenant's key sees its own, whoever is asked for."""
    async with filled(gateway, world()):
        operator, acme = await gateway.key(), await gateway.key("acme")

        async def ids(key: str, **query: Any) -> list[str]:
            return [item["session_id"] for item in await every_page(gateway, "/v1/sessions", key, limit=1, **query)]

        assert await ids(operator) == ["plain", "beta:1", "acme:1"]
        assert await ids(operator, tenant="beta") == ["beta:1"]
        assert await ids(operator, user_id="ann") == ["plain"]
        assert await ids(operator, user_id="ann", tenant="acme") == ["acme:1"]
        assert await ids(acme) == ["acme:1"]
        assert await ids(acme, user_id="ann") == ["acme:1"]
        assert await ids(acme, user_id="nobody") == []
        assert (await ask(gateway, "/v1/sessions", acme, tenant="beta")).status == 403


async def test_a_dead_letter_is_sent_again(gateway: Door) -> None:
    """The record is on its topic once more, byte for byte, and that is audited; a tenant may do it for its own."""
    name = topic_name(gateway.settings, USER_MESSAGES)
    internal = topic_name(gateway.settings, SESSION_LOG)
    topics = Topics()
    for number, (topic, session_id, value) in enumerate(
        ((name, "acme:1", b"\x00\xff"), (name, "acme:1", None), (internal, "acme:1", b"{}"), (name, None, b"text"))
    ):
        place = {"id": f"{topic}/1/{number}", "topic": topic, "partition": 1, "offset": number}
        topics.put(DEAD_LETTERS.name, 0, letter_of(number, session_id, value=value, key=b"k", **place))
    async with filled(gateway, topics):
        acme, operator = await gateway.key("acme"), await gateway.key()
        whole = await get(gateway, f"/v1/dead-letters/{name}/1/0", acme)
        assert (whole["value"], whole["value_base64"], whole["key"]) == (
            None,
            base64.b64encode(b"\x00\xff").decode(),
            "k",
        )
        assert (whole["headers"], whole["headers_base64"]) == (
            [["a", "b"], ["c", "\ufffd"]],
            [["a", "Yg=="], ["c", "/w=="]],
        )
        assert whole["can_be_replayed"]
        assert (await get(gateway, "/v1/dead-letters/user-messages/1/3", operator))["value"] == "text"
        sent = await gateway.ask("POST", f"/v1/dead-letters/{name}/1/0/replay", acme)
        assert sent.status == 202, sent.text
        (record,) = [record async for record in read_topic(gateway.settings, USER_MESSAGES)]
        assert (record.partition, record.offset) == (sent.body["partition"], sent.body["offset"])
        assert (record.key, record.value) == (b"k", b"\x00\xff")
        assert list(record.headers) == [("a", b"b"), ("c", b"\xff"), ("headrace-replay-of", f"{name}/1/0".encode())]
        nothing = await gateway.ask("POST", f"/v1/dead-letters/{name}/1/1/replay", acme)
        assert (nothing.status, nothing.body["code"]) == (409, "nothing_to_replay")
        inside = await gateway.ask("POST", f"/v1/dead-letters/{internal}/1/2/replay", acme)
        assert (inside.status, inside.body["code"]) == (403, "operators_only"), "others may not write that topic either"
        assert not (await get(gateway, f"/v1/dead-letters/{internal}/1/2", acme))["can_be_replayed"]
        assert (await gateway.ask("POST", f"/v1/dead-letters/{internal}/1/2/replay", operator)).status == 202
        async with asyncio.timeout(DEADLINE_S):
            while len(acts := await every_page(gateway, "/v1/audit", operator, type=Act.DEAD_LETTER_REPLAYED)) < 2:
                await asyncio.sleep(0.1)
        assert [(act["tenant"], act["outcome"]) for act in acts] == [(None, "success"), ("acme", "success")]
        assert acts[1]["details"]["dead_letter"] == f"{name}/1/0"
        assert acts[1]["ip_address"] == "127.0.0.1"


async def test_filters(gateway: Door) -> None:
    """Each leaves what fits it, and all together what fits all."""
    topics = world()
    denied = audited(
        9, start() + timedelta(hours=1), event_type=Act.FORBIDDEN, outcome=Outcome.DENIED, ip_address="2001:db8::1"
    )
    topics.put(AUDIT_EVENTS.name, 0, denied)
    async with filled(gateway, topics):
        key = await gateway.key()

        async def ids(**query: Any) -> list[str]:
            return [item["id"] for item in await every_page(gateway, "/v1/audit", key, limit=2, **query)]

        everything = await ids()
        assert everything[0] == "a9"
        assert len(everything) == len(set(everything)) == 3 * 4 + 3 + 3 + 1
        assert await ids(type="forbidden") == ["a9"] == await ids(outcome="denied") == await ids(ip="2001:DB8:0::1")
        assert await ids(ip="192.0.2.7") == ["a2", "a1", "a0"]
        assert await ids(session_id="beta:1", type="command_sent") == ["a1"]
        assert len(await ids(user_id="ann", session_id="beta:1")) == 2
        since = start() + timedelta(seconds=1)
        assert await ids(type="command_sent", **{"from": since.isoformat()}) == ["a2", "a1"]
        assert await ids(type="command_sent", to=since.isoformat().replace("+00:00", "Z")) == ["a0"]
        letters = await every_page(gateway, "/v1/dead-letters", key, limit=2)
        assert [one["session_id"] for one in letters] == ["plain", "beta:1", "acme:1"]
        assert await every_page(gateway, "/v1/dead-letters", key, cause="not_valid") == []
        assert len(await every_page(gateway, "/v1/dead-letters", key, cause="not_json", session_id="plain")) == 1
        usage = await every_page(gateway, "/v1/usage", key, limit=1)
        assert [(one["tenant"], one["calls"], one["cost_micros"]) for one in usage] == [
            (None, 3, 4),
            ("acme", 3, 4),
            ("beta", 3, 4),
        ]
        today = start().date()
        assert (
            await every_page(gateway, "/v1/usage", key, **{"from": today - timedelta(5), "to": today - timedelta(2)})
            == []
        )


async def test_an_act_cannot_hide_behind_long_names(gateway: Door) -> None:
    """A user or a tenant whose name is longer than an entry of an index can be is in the log all the same."""
    user = "".join(chr(0x10000 + number) for number in range(1_000))
    history = History(session_id="s")
    history.clock.at = start()
    history.say("m1", user_id=user, tenant=user[::-1])
    topics = Topics()
    topics.tell(history)
    topics.put(AUDIT_EVENTS.name, 0, audited(1, start(), session_id="s" * 8_000, ip_address="not an address"))
    async with filled(gateway, topics):
        key = await gateway.key()
        (act,) = await every_page(gateway, "/v1/audit", key, session_id="s")
        assert (act["event_type"], act["user_id"], act["tenant"]) == ("message_accepted", user, user[::-1])
        assert await every_page(gateway, "/v1/audit", key, user_id=user[:200]) == []
        (act,) = await every_page(gateway, "/v1/audit", key, type="command_sent")
        assert (act["ip_address"], act["details"]["ip_address"]) == (None, "not an address")


async def test_what_takes_the_database_too_long_is_given_up(gateway: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends the statement, and the problem says to ask for less."""
    monkeypatch.setattr("gateway.database.sql", lambda _: "SET LOCAL statement_timeout = 50; SELECT pg_sleep(60)")
    with pytest.raises(Problem, match="ask for less") as given_up:
        await gateway.parts.database.execute("anything")
    assert given_up.value.code == Code.UNAVAILABLE


@pytest.mark.timeout(300)
async def test_every_row_once_while_rows_are_added(gateway: Door) -> None:
    """What was there at the first page comes once, however many rows come meanwhile, before and behind it."""
    topics = Topics()
    for number in range(30):
        topics.put(AUDIT_EVENTS.name, 0, audited(number, start() + timedelta(seconds=number // 7)))
    async with filled(gateway, topics):
        key = await gateway.key()
        found: list[str] = []
        cursor = None
        for more in range(100, 200):
            page = await get(gateway, "/v1/audit", key, limit=7, **({"cursor": cursor} if cursor else {}))
            found += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            new = Topics()
            for at in (datetime.now(UTC), start() - timedelta(days=1), start() + timedelta(seconds=4)):
                new.put(AUDIT_EVENTS.name, 0, audited(more * 10 + at.minute % 10, at))
            await publish(gateway.settings, new)
            await caught_up(gateway.settings)
        assert len(found) == len(set(found))
        assert {f"a{number}" for number in range(30)} <= set(found)


async def test_the_pipeline_as_it_runs(gateway: Door) -> None:
    """Rates and lag from the brokers, counts from the stores; the picture has everybody who reads and writes."""
    async with filled(gateway, world()):
        key = await gateway.key()
        flow = await get(gateway, "/v1/pipeline", key)
        topics = {topic["name"]: topic for topic in flow["topics"]}
        assert set(topics) == {topic.name for topic in TOPICS}
        assert (topics["session-log"]["records"], topics["session-log"]["reader"]) == (18, "decide")
        assert topics["session-log"]["lag"] == 18, "no worker runs"
        assert (topics["agent-events"]["reader"], topics["agent-events"]["lag"]) == (None, None)
        assert {one["name"] for one in flow["projections"]} >= {"audit_log", "events", "live", "usage"}
        assert all(one["lag"] == 0 for one in flow["projections"])
        assert (flow["dead_letters_last_hour"], flow["open_model_calls"]) == (3, 0)
        named = {name for node in flow["nodes"] for name in (*node["reads"], *node["writes"])}
        assert named == set(topics)
        await publish(gateway.settings, world())
        await asyncio.sleep(1.1)
        later = await get(gateway, "/v1/pipeline", key)
        rates = {topic["name"]: topic["records_per_second"] for topic in later["topics"]}
        assert rates["session-log"] > 0
        assert rates["broadcasts"] == 0
        one, two = await asyncio.gather(*(get(gateway, "/v1/pipeline", key) for _ in range(2)))
        assert one["topics"] == two["topics"], "the brokers are asked once a second"


async def test_counters(gateway: Door) -> None:
    """Totals, and the last minutes with those in which nothing happened."""
    async with filled(gateway, world()):
        stats = await get(gateway, "/v1/stats", await gateway.key(), minutes=30)
        (agent,) = stats["total"]["agents"]
        assert (agent["agent"], agent["turns_completed"], agent["turns_failed"]) == ("assistant", 3, 3)
        assert stats["total"]["tools"] == [{"tool": "add", "calls": 3, "results": 3, "errors": 0}]
        assert len(stats["minutes"]) == 30
        assert sum(one["turns_started"] for minute in stats["minutes"] for one in minute["agents"]) == 6


async def test_brokers_that_are_away_are_said_to_be(gateway: Door) -> None:
    """The pipeline's picture is a problem that passes, each time it is asked for."""
    away = Brokers(gateway.settings.model_copy(update={"brokers": f"127.0.0.1:{free_port()}"}))
    for _ in range(2):
        with pytest.raises(Problem) as refused:
            await away.samples()
        assert refused.value.code == Code.UNAVAILABLE
    await away.stop()
