"""Streams over HTTP, on real servers: followed, resumed on another gateway, ended for a reason that is said."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from ag_ui.core import Event as AgUiEvent
from aiohttp import ClientResponse, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from client_fixture import Stand, stand_in
from client_fixture import completed as completed_long_ago
from client_fixture import started as started_long_ago
from gateway_fixture import Door, door, projecting, stores
from kafka_fixture import Broker
from msgspec import structs
from pydantic import TypeAdapter
from valkey_fixture import ValkeyServer

from gateway import keys, sse, ticking, websocket
from gateway.feeds import follower as follower_module
from gateway.scopes import Scope
from gateway.websocket import Allowance
from runtime.settings import Settings
from schemas.codec import encode
from schemas.commands import ApprovalDecision, CancelTurn, EndSession
from schemas.events import AgentDelta, AgentEvent, DeltaReset, TextDelta

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEADLINE_S = 30
NOW = datetime.now(UTC)


class World:
    """A gateway, and who writes what it shows."""

    def __init__(self, settings: Settings, stand: Stand) -> None:
        self.settings = settings
        self.stand = stand


@pytest_asyncio.fixture(loop_scope="session")
async def world(embedded_kafka: Broker, postgres: str, valkey_server: ValkeyServer) -> AsyncIterator[World]:
    async with (
        stores(embedded_kafka, postgres, valkey_server) as settings,
        stand_in(settings) as stand,
        projecting(settings, "live", "events"),
    ):
        yield World(settings, stand)


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are asked again in tenths of a second."""
    monkeypatch.setattr(keys, "CACHED_S", 0.1)
    monkeypatch.setattr(ticking, "CHECK_S", 0.2)
    monkeypatch.setattr(ticking, "TICK_S", 0.1)


def started(session_id: str, message_id: str, seq: int) -> AgentEvent:
    # Redis forgets a session a day after its last event.
    return structs.replace(started_long_ago(session_id, message_id, seq), at=NOW)


def completed(session_id: str, message_id: str, seq: int, text: str) -> AgentEvent:
    return structs.replace(completed_long_ago(session_id, message_id, seq, text), at=NOW)


def piece(session_id: str, seq: int, text: str, *, attempt: int = 1, turn: int = 1) -> TextDelta:
    return TextDelta(session_id, f"{session_id}/{turn}", 1, attempt, seq, text)


class Sse:
    """An event stream as a browser reads it."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def next(self) -> dict[str, str]:
        """The next event with data."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                event: dict[str, str] = {}
                async for line in self.response.content:
                    if line == b"\n":
                        break
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    event[name] = value
                else:
                    raise EOFError
                self.last_id = event.get("id", self.last_id)
                if "data" in event:
                    return event

    async def records(self, count: int) -> list[str]:
        return [(await self.next())["data"] for _ in range(count)]


@asynccontextmanager
async def events(at: Door, session_id: str, key: str, query: str = "", **headers: str) -> AsyncIterator[Sse]:
    headers["Authorization"] = f"Bearer {key}"
    async with at.session.get(f"{at.url}/v1/sessions/{session_id}/events{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield Sse(response)


def told(records: Sequence[AgentEvent | AgentDelta]) -> list[str]:
    return [encode(record).decode() for record in records]


async def test_an_answer_goes_on_at_another_gateway(world: World) -> None:
    """The first one stops in the middle, and says so; the reader goes on where it was, and has each record once."""
    answer = [started("s1", "m1", 1), piece("s1", 0, "Hel"), piece("s1", 1, "lo"), completed("s1", "m1", 2, "Hello")]
    async with door(world.settings) as first:
        key = await first.key()
        async with events(first, "s1", key) as stream:
            await world.stand.publish(*answer[:2])
            seen = await stream.records(2)
            closing = asyncio.create_task(stop(first))
            end = await stream.next()
            assert (end["event"], json.loads(end["data"])["code"]) == ("error", "stopping")
            with pytest.raises(EOFError):
                await stream.next()
            await closing
    async with door(world.settings) as second:
        async with events(second, "s1", key, **{"Last-Event-ID": stream.last_id}) as again:
            # The end takes the pieces with it that nobody has read.
            for record in answer[2:]:
                await world.stand.publish(record)
                seen += await again.records(1)
            assert again.last_id.startswith("2-")
        assert seen == told(answer)
        async with events(second, "s1", key, "?from=beginning") as all_of_it:
            assert await all_of_it.records(2) == told([answer[0], answer[3]])
        async with events(second, "s1", key, "?after=1-0") as rest:
            event = await rest.next()
            assert (event["event"], event["id"].split("-")[0]) == ("turn_completed", "2")


async def stop(at: Door) -> None:
    at.parts.streams.closing.set()
    await asyncio.sleep(0)


async def test_what_is_asked_for_wrongly(world: World) -> None:
    """Each refusal is a problem, before the stream begins."""
    async with door(world.settings) as at:
        key = await at.key()
        ours = await at.key("acme", (Scope.SESSIONS_WRITE,))
        path = "/v1/sessions/s1/events"
        assert (await at.ask("GET", path)).status == 401
        assert (await at.ask("GET", path, ours)).body["code"] == "wrong_scope"
        assert (await at.ask("GET", path, await at.key("acme"))).body["code"] == "wrong_tenant"
        for query in ("?after=x", "?after=1", "?after=1-2-3", "?from=2", "?format=xml", "?what=1", "?after=1.5-2"):
            answer = await at.ask("GET", path + query, key)
            assert (answer.status, answer.body["code"]) == (400, "not_valid"), query
        answer = await at.ask("GET", path, key, headers={"Last-Event-ID": "x"})
        assert "expected a position" in answer.body["detail"]


@pytest.mark.usefixtures("_hasty")
async def test_a_revoked_key_ends_its_streams(world: World) -> None:
    """Within seconds; the reason is said, and another key's stream goes on."""
    async with door(world.settings) as at:
        key, other = await at.key(), await at.key()
        async with events(at, "s1", key) as stream, events(at, "s1", other) as going_on, socket(at, key) as ws:
            await at.parts.database.execute("revoke_key", key.split("_")[1])
            # Both at once: a client that does not read the goodbye is cut off.
            end, code = await asyncio.gather(stream.next(), closed(ws))
            assert json.loads(end["data"])["code"] == "unauthenticated"
            assert code == 4001
            await world.stand.publish(started("s1", "m1", 1))
            assert (await going_on.next())["event"] == "turn_started"


@pytest.mark.usefixtures("_hasty")
async def test_a_reader_who_takes_nothing_is_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection ends while another reader of the session misses nothing."""
    monkeypatch.setattr(follower_module, "MAX_WAITING", 20)
    monkeypatch.setattr(sse, "GOODBYE_S", 0.5)
    async with door(world.settings) as at:
        key = await at.key()
        host, port = at.url.removeprefix("http://").split(":")
        reading, writing = await asyncio.open_connection(host, int(port), limit=1_024)
        writing.write(
            f"GET /v1/sessions/s1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        async with asyncio.timeout(DEADLINE_S):
            while at.parts.streams.count < 1:
                await asyncio.sleep(0.01)
        async with events(at, "s1", key) as stream:
            await world.stand.publish(started("s1", "m1", 1))
            assert await stream.records(1) == told([started("s1", "m1", 1)])
            # As many as the buffers of the connection hold; the other reader takes each before there is a next one.
            for number in range(200):
                one = piece("s1", number, str(number) + "x" * 200_000)
                await world.stand.publish(one)
                assert await stream.records(1) == told([one])
                if at.parts.streams.count == 1:
                    break
            async with asyncio.timeout(DEADLINE_S):
                while at.parts.streams.count > 1:
                    await asyncio.sleep(0.05)
        assert (
            'headrace_gateway_streams_ended_total{code="too_slow",kind="sse"} 1.0' in at.parts.metrics.text().decode()
        )
        writing.close()
        del reading


async def test_ag_ui(world: World) -> None:
    """The same feed in the words of AG-UI, resumed in the middle; its own package takes each event."""
    check = TypeAdapter(AgUiEvent)
    async with door(world.settings) as at:
        key = await at.key()
        async with events(at, "s1", key, "?format=ag-ui") as stream:
            await world.stand.publish(started("s1", "m1", 1), piece("s1", 0, "Hel"))
            begun = [check.validate_json(data).type.value for data in await stream.records(3)]
        assert begun == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
        token = stream.last_id
        async with events(at, "s1", key, Accept="application/vnd.ag-ui+json", **{"Last-Event-ID": token}) as stream:
            # The two topics have no order between them: what is shown first is waited for.
            await world.stand.publish(piece("s1", 1, "lo"))
            begun = await stream.records(3)
            await world.stand.publish(completed("s1", "m1", 2, "Hello!"))
            rest = [json.loads(data) for data in (*begun, *await stream.records(3))]
            for event in rest:
                check.validate_python(event)
        assert [event["type"] for event in rest] == [
            "RUN_STARTED",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "RUN_FINISHED",
        ]
        assert "".join(event["delta"] for event in rest if "delta" in event) == "lo!"


# The WebSocket.


@asynccontextmanager
async def socket(at: Door, key: str | None) -> AsyncIterator[ClientWebSocketResponse]:
    """A WebSocket that is in."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with at.session.ws_connect(f"{at.url}/v1/ws", headers=headers) as ws:
        if key:
            assert (await ws.receive_json(timeout=DEADLINE_S))["type"] == "ready"
        yield ws


async def closed(ws: ClientWebSocketResponse) -> int | None:
    """The code it is closed with."""
    while (await ws.receive(timeout=DEADLINE_S)).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
        pass
    return ws.close_code


async def said(ws: ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    return [await ws.receive_json(timeout=DEADLINE_S) for _ in range(count)]


async def test_a_conversation_over_a_websocket(world: World) -> None:
    """The key in the first frame, a message, its answer as it is written, and the rest after a reconnect."""
    async with door(world.settings) as at:
        key = await at.key("acme")
        async with socket(at, None) as ws:
            await ws.send_json({"type": "authenticate", "key": key})
            (ready,) = await said(ws, 1)
            assert (ready["type"], ready["tenant"], ready["session_prefix"]) == ("ready", "acme", "acme:")
            await ws.send_json({"type": "follow", "session_id": "acme:1"})
            (followed,) = await said(ws, 1)
            assert followed == {"type": "followed", "session_id": "acme:1", "resume": "0-0"}
            await ws.send_json({"type": "send", "ref": "a", "session_id": "acme:1", "text": "hi", "id": "m1"})
            (accepted,) = await said(ws, 1)
            assert accepted == {"type": "accepted", "ref": "a", "session_id": "acme:1", "message_id": "m1"}
            command = await world.stand.next_command()
            assert (command.id, command.session_id, getattr(command, "tenant", None)) == ("m1", "acme:1", "acme")
            await world.stand.publish(
                started("acme:1", "m1", 1), piece("acme:1", 0, "Hal"), DeltaReset("acme:1", "acme:1/1", 1, 2, 0)
            )
            frames = await said(ws, 3)
            assert [(frame["type"], frame["state"]) for frame in frames] == [
                ("status", "running"),
                ("chat", "delta"),
                ("chat", "reset"),
            ]
        await world.stand.publish(piece("acme:1", 1, "Hello", attempt=2), completed("acme:1", "m1", 2, "Hello"))
        async with socket(at, key) as ws:
            await ws.send_json({"type": "follow", "session_id": "acme:1", "after": frames[0]["resume"]})
            frames = await said(ws, 3)
            while frames[-1]["type"] != "status":
                frames += await said(ws, 1)
            assert frames[-2]["text"] == "Hello"
            assert (frames[-1]["state"], frames[-1]["cost_micros"]) == ("completed", 46)
            for frame in (
                {"type": "cancel", "reason": "r"},
                {"type": "approve", "call_id": "c1"},
                {"type": "deny", "call_id": "c1"},
                {"type": "end"},
            ):
                await ws.send_json({"ref": "b", "session_id": "acme:1", **frame})
                assert (await said(ws, 1))[0]["type"] == "accepted"
            commands = [await world.stand.next_command() for _ in range(4)]
            assert [type(command) for command in commands] == [
                CancelTurn,
                ApprovalDecision,
                ApprovalDecision,
                EndSession,
            ]
            assert [getattr(command, "decision", None) for command in commands] == [None, "approve", "deny", None]


BAD_FRAMES: list[tuple[str | bytes, str, str]] = [
    ("{", "not_json", "JSON object"),
    ("[]", "not_valid", "object"),
    ("{}", "not_valid", "type"),
    ('{"type": "dance", "ref": "r"}', "not_valid", "dance"),
    ('{"type": "ping", "more": 1}', "not_valid", "more"),
    ('{"type": "follow"}', "not_valid", "session_id"),
    ('{"type": "follow", "session_id": "acme:1", "after": "x"}', "not_valid", "expected a position"),
    ('{"type": "follow", "session_id": "other:1"}', "wrong_tenant", "acme:"),
    ('{"type": "follow", "session_id": "acme: 1"}', "not_valid", "session_id"),
    ('{"type": "send", "ref": "r", "session_id": "acme:1"}', "not_valid", "either `text` or `content`"),
    ('{"type": "send", "session_id": "acme:1", "text": "x"}', "not_valid", "ref"),
    ('{"type": "send", "ref": "r", "session_id": "other:1", "text": "x"}', "wrong_tenant", "acme:"),
    ('{"type": "send", "ref": "r", "session_id": "acme:1", "text": ""}', "not_valid", "text"),
    ('{"type": "authenticate", "key": "k"}', "not_valid", "in already"),
    (b"\x00\x01", "not_valid", "text frame"),
    ("[" * 50_000, "not_valid", "object"),
]


async def test_frames_that_are_not_as_they_must_be(world: World) -> None:
    """Each is answered with an error that says what was expected; the connection goes on."""
    async with door(world.settings) as at, socket(at, await at.key("acme")) as ws:
        for frame, code, hint in BAD_FRAMES:
            await (ws.send_str(frame) if isinstance(frame, str) else ws.send_bytes(frame))
            (error,) = await said(ws, 1)
            assert (error["type"], error["code"]) == ("error", code), frame[:60]
            assert hint in error["detail"], error
            assert error.get("ref") == ("r" if isinstance(frame, str) and '"ref": "r"' in frame else None)
        await ws.send_json({"type": "ping", "ref": "p"})
        assert await said(ws, 1) == [{"type": "pong", "ref": "p"}]
        await ws.send_json({"type": "follow", "session_id": "acme:1"})
        await ws.send_json({"type": "follow", "session_id": "acme:1"})
        assert {frame["type"] for frame in await said(ws, 2)} == {"followed", "error"}
        await ws.send_json({"type": "unfollow", "session_id": "acme:1"})
        assert (await said(ws, 1))[0]["type"] == "unfollowed"
        await ws.send_json({"type": "follow", "session_id": "acme:1"})
        assert (await said(ws, 1))[0]["type"] == "followed"


async def test_limits_of_a_websocket(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Followed sessions, frames a second, and the size of a frame."""
    monkeypatch.setattr(websocket, "MAX_FOLLOWED", 2)
    monkeypatch.setattr(websocket, "Allowance", lambda per_s, _: Allowance(per_s, lambda: 0.0))
    async with door(world.settings) as at, socket(at, await at.key()) as ws:
        for number in range(3):
            await ws.send_json({"type": "follow", "session_id": f"s{number}"})
        frames = await said(ws, 3)
        assert sorted(frame.get("code", "") for frame in frames) == ["", "", "too_many_requests"]
        for _ in range(150):
            await ws.send_json({"type": "ping"})
        kinds = [frame["type"] for frame in await said(ws, 150)]
        assert kinds == ["pong"] * 97 + ["error"] * 53
        await ws.send_str('{"type": "ping", "ref": "%s"}' % ("x" * (1 << 20)))
        assert await closed(ws) == 1009


@pytest.mark.usefixtures("_hasty")
async def test_how_a_websocket_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reason has its code."""
    async with door(world.settings) as at:
        with monkeypatch.context() as patch:
            patch.setattr(websocket, "AUTHENTICATE_S", 0.3)
            async with socket(at, None) as ws:
                assert await closed(ws) == 4001
        for first in ("{}", '{"type": "ping"}', '{"type": "authenticate", "key": "hr_x"}'):
            async with socket(at, None) as ws:
                await ws.send_str(first)
                assert await closed(ws) == 4001
        key = await at.key(scopes=(Scope.STATS_READ,))
        async with socket(at, None) as ws:
            await ws.send_json({"type": "authenticate", "key": key})
            assert await closed(ws) == 4003
        with pytest.raises(WSServerHandshakeError):
            await at.session.ws_connect(f"{at.url}/v1/ws", headers={"Authorization": "Bearer hr_x"})
        assert (await at.ask("GET", "/v1/ws", await at.key())).status == 400
        async with socket(at, await at.key()) as ws:
            await stop(at)
            assert await closed(ws) == 1001
