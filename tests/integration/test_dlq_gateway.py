"""A dead letter at the door: where it came from, what became of it, and sent again with another value."""

import asyncio
from typing import Any

import orjson
import pytest
from gateway_fixture import Door
from gateway_reads_fixture import DEADLINE_S, filled, gateway, get, letter_of, publish
from projection_records import Topics

from headrace.records import read_topic
from runtime.kafka import topic_name
from schemas.dead_letter import Cause
from schemas.topics import DEAD_LETTERS, LLM_REQUESTS, SESSION_LOG, USER_MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")
__all__ = ["gateway"]


def letters(door: Door) -> tuple[Topics, str]:
    """Of a tenant's message with a typing error, of an order, and of a fact that broke the core."""
    name, orders, log = (topic_name(door.settings, topic) for topic in (USER_MESSAGES, LLM_REQUESTS, SESSION_LOG))
    topics = Topics()
    order = {"type": "call_model", "call_id": "acme:1/2/3", "turn_id": "acme:1/2", "log_offset": 7, "step": "x"}
    rows: tuple[tuple[str, int, bytes, dict[str, Any]], ...] = (
        (name, 0, b'{"session_id": "acme:1", "txet": "hi"}', {}),
        (orders, 1, orjson.dumps(order), {"headers": (("ce_source", b"/headrace/decide"), ("traceparent", b"00-1"))}),
        (log, 2, b"{}", {"cause": Cause.CORE_ERROR}),
    )
    for topic, offset, value, more in rows:
        place = {"id": f"{topic}/1/{offset}", "topic": topic, "partition": 1, "offset": offset}
        topics.put(DEAD_LETTERS.name, 0, letter_of(offset, "acme:1", value=value, **{"key": None, **place, **more}))
    return topics, name


async def test_a_dead_letter_is_edited_at_the_door(gateway: Door) -> None:
    """Only into what the caller could send anyway, and only what the pipeline would take; what came of it is told."""
    topics, name = letters(gateway)
    path = f"/v1/dead-letters/{name}/1/0"
    async with filled(gateway, topics):
        acme, operator = await gateway.key("acme"), await gateway.key()

        async def refused(body: dict[str, Any], key: str = acme) -> tuple[int, str]:
            answer = await gateway.ask("POST", f"{path}/replay", key, json={"value": orjson.dumps(body).decode()})
            return answer.status, answer.body["code"]

        own = {"session_id": "acme:1", "text": "hi", "tenant": "acme"}
        assert await refused(own | {"session_id": "beta:1"}) == (403, "wrong_tenant")
        assert await refused(own | {"tenant": "beta"}) == (403, "wrong_tenant")
        assert await refused({"session_id": "acme:1", "type": "release_session"}) == (403, "operators_only")
        assert await refused({"session_id": "acme:1", "txet": "hi"}) == (400, "not_valid")
        assert await refused({"session_id": "acme:1"}, operator) == (400, "not_valid")
        sent = await gateway.ask("POST", f"{path}/replay", acme, json={"value": orjson.dumps(own).decode()})
        assert sent.status == 202, sent.text
        (record,) = [record async for record in read_topic(gateway.settings, USER_MESSAGES)]
        assert (record.key, orjson.loads(record.value)) == (b"acme:1", own)
        assert dict(record.headers)["headrace-edited"] == b"true"
        assert dict(record.headers)["headrace-replay-of"] == f"{name}/1/0".encode()

        place = f"{name}/{record.partition}/{record.offset}"
        again = Topics()
        where = {"id": place, "topic": name, "partition": record.partition, "offset": record.offset}
        again.put(DEAD_LETTERS.name, 0, letter_of(9, "acme:1", value=record.value, key=record.key, **where))
        await publish(gateway.settings, again)
        async with asyncio.timeout(DEADLINE_S):
            while not (told := (await get(gateway, path, acme))["replays"]) or told[0]["dead_letter"] is None:
                await asyncio.sleep(0.1)
        assert [(one["record"], one["edited"], one["dead_letter"], one["event"]) for one in told] == [
            (place, True, place, None)
        ]
        assert told[0]["command_id"] == f"{name}/1/0"


async def test_where_a_record_came_from(gateway: Door) -> None:
    """The fact that gave an order, its call and turn, and its trace; a fact that broke the core is not sent again."""
    topics, name = letters(gateway)
    prefix = name.removesuffix(USER_MESSAGES.name)
    async with filled(gateway, topics):
        operator = await gateway.key()
        order = await get(gateway, f"/v1/dead-letters/{prefix}llm-requests/1/1", operator)
        assert order["causation"] == {
            "record_type": "call_model",
            "turn_id": "acme:1/2",
            "call_id": "acme:1/2/3",
            "led_by": f"{prefix}session-log/1/7",
            "event_source": "/headrace/decide",
            "traceparent": "00-1",
        }
        assert order["replays"] == []
        fact = f"/v1/dead-letters/{prefix}session-log/1/2"
        assert not (await get(gateway, fact, operator))["can_be_replayed"]
        answer = await gateway.ask("POST", f"{fact}/replay", operator)
        assert (answer.status, answer.body["code"]) == (409, "nothing_to_replay")
        assert "headrace quarantine release" in answer.body["detail"]
        edit = await gateway.ask("POST", f"{fact}/replay", operator, json={"value": "{}"})
        assert (edit.status, edit.body["code"]) == (409, "nothing_to_replay")
