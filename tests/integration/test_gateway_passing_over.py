"""Events that this gateway cannot read, as newer workers write them: every reader is told the rest."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from gateway_fixture import Door
from projection_records import conversation

from gateway import websocket
from gateway.feeds import Entry
from schemas.codec import encode

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEADLINE_S = 30
EVENTS = conversation("s1", start=datetime.now(UTC)).seen


async def fill(gateway: Door) -> None:
    """The feed of a session whose second event is of a type that comes with the next version."""
    for event in EVENTS:
        body = encode(event)
        if event.seq == 2:
            body = body.replace(b'"type":"tool_called"', b'"type":"of_tomorrow"')
            assert body != encode(event)
        fields: Any = {"event": body, "turn": 1, "end": 0, "at": int(event.at.timestamp() * 1000)}
        await gateway.parts.redis.xadd(f"{gateway.parts.redis_prefix}live:s1", fields, id=f"{event.seq}-0")


def passed_over(gateway: Door, kind: str) -> float:
    samples = gateway.parts.metrics.registry
    return samples.get_sample_value("headrace_gateway_entries_unreadable_total", {"kind": kind}) or 0


async def test_over_a_websocket(gateway: Door) -> None:
    """The session is followed on."""
    await fill(gateway)
    async with gateway.session.ws_connect(
        f"{gateway.url}/v1/ws", headers={"Authorization": f"Bearer {await gateway.key()}"}
    ) as ws:
        await ws.send_json({"type": "follow", "session_id": "s1", "from": "beginning"})
        states: list[str] = []
        while "failed" not in states:
            states.append((await ws.receive_json(timeout=DEADLINE_S)).get("state"))
    assert states == [None, None, "running", "returned", "final", "completed", "running", "failed"]
    assert passed_over(gateway, "websocket") == 1


async def test_as_ag_ui(gateway: Door) -> None:
    """The stream goes on, also where it is resumed before the event."""
    await fill(gateway)
    for query in ("from=beginning", "after=1-0"):
        async with gateway.session.get(
            f"{gateway.url}/v1/sessions/s1/events?format=ag-ui&{query}",
            headers={"Authorization": f"Bearer {await gateway.key()}"},
        ) as response:
            async with asyncio.timeout(DEADLINE_S):
                while b"RUN_FINISHED" not in await response.content.readline():
                    pass
    assert passed_over(gateway, "sse") == 2


async def test_while_an_answer_is_waited_for(gateway: Door) -> None:
    """The turn's end is answered."""
    await fill(gateway)
    key, message = await gateway.key(), {"id": EVENTS[1].message_id, "text": "hello"}
    assert (await gateway.post("/v1/sessions/s1/messages", key, message)).status == 202
    answer = await gateway.post(f"/v1/sessions/s1/messages?wait={DEADLINE_S}", key, message)
    assert answer.status == 200, answer.text
    assert answer.body["end"]["type"] == "turn_completed"
    assert passed_over(gateway, "wait") == 1


async def test_a_bug_ends_the_connection(gateway: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is never left behind with a session that is told no more: it is let go, and resumes."""

    def broken(entry: Entry) -> list[Any]:
        raise RuntimeError(f"a bug at {entry.position}")

    monkeypatch.setattr(websocket, "frames_of", broken)
    async with gateway.session.ws_connect(
        f"{gateway.url}/v1/ws", headers={"Authorization": f"Bearer {await gateway.key()}"}
    ) as ws:
        await ws.send_json({"type": "follow", "session_id": "s1"})
        frames = [await ws.receive_json(timeout=DEADLINE_S) for _ in range(2)]
        assert [frame["type"] for frame in frames] == ["ready", "followed"]
        await fill(gateway)
        await gateway.parts.redis.publish(f"{gateway.parts.redis_prefix}feed:s1", "anew")
        said = await ws.receive_json(timeout=DEADLINE_S)
        assert (said["type"], said["code"]) == ("error", "internal_error")
        await ws.receive(timeout=DEADLINE_S)
        assert ws.close_code == websocket.OTHER_CLOSE_CODE
