"""The gateway while brokers, PostgreSQL or Redis are away: what it refuses, what goes on, and what is not lost."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_fixture import Answer, Door, door, run, stores
from kafka_fixture import Broker, free_port
from postgres_fixture import PostgresServer
from valkey_fixture import ValkeyServer

from headrace.records import read_topic
from headrace.stack.kafka import EmbeddedKafka
from schemas.codec import decode_command
from schemas.topics import USER_MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")
TEXT = {"text": "hello"}
MESSAGES = "/v1/sessions/s/messages"


async def until(door: Door, method: str, path: str, status: int, **arguments: Any) -> Answer:
    """Ask until the answer has this status."""
    async with asyncio.timeout(90):
        while (answer := await door.ask(method, path, **arguments)).status != status:
            await asyncio.sleep(0.2)
    return answer


def unready(answer: Answer) -> list[str]:
    return [part["name"] for part in answer.body["components"] if not part["ready"]]


@asynccontextmanager
async def own_kafka(folder: Path) -> AsyncIterator[EmbeddedKafka]:
    async with EmbeddedKafka(folder, progress=print) as kafka:
        yield kafka


@pytest.mark.timeout(300)
async def test_brokers_that_die_and_come_back(
    postgres: str, valkey_server: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 that says to send again with the same id; sent again, it is on the topic, and no 202 was a lie."""
    async with (
        own_kafka(tmp_path) as kafka,
        stores(Broker(kafka.bootstrap), postgres, valkey_server) as settings,
        door(settings) as gateway,
    ):
        key = await gateway.key(None)
        accepted = [await gateway.post(MESSAGES, key, TEXT) for _ in range(3)]
        assert [answer.status for answer in accepted] == [202] * 3
        await kafka.kill()
        with monkeypatch.context() as patch:
            patch.setattr("runtime.sending.CONFIRM_TIMEOUT_S", 1.0)
            refused = await gateway.post(MESSAGES, key, TEXT, headers={"Idempotency-Key": "again"})
        assert (refused.status, refused.body["code"]) == (503, "unavailable"), refused.text
        assert int(refused.headers["Retry-After"]) >= 1
        assert "again" in refused.body["detail"]
        assert unready(await gateway.ask("GET", "/health/ready")) == ["brokers"]
        assert (await gateway.ask("GET", "/v1/me", key)).status == 200
        await kafka.start()
        again = await until(gateway, "POST", MESSAGES, 202, key=key, json=TEXT, headers={"Idempotency-Key": "again"})
        assert again.body["id"] == "again"
        await until(gateway, "GET", "/health/ready", 200)
        ids = [decode_command(r.value or b"").id async for r in read_topic(settings, USER_MESSAGES)]
        assert set(ids) == {*(answer.body["id"] for answer in accepted), "again"}


async def test_a_gateway_starts_before_the_brokers(
    embedded_kafka: Broker, postgres: str, valkey_server: ValkeyServer
) -> None:
    """It says that it is not ready, lets keys in, and refuses commands with 503."""
    async with stores(embedded_kafka, postgres, valkey_server) as settings:
        away = settings.model_copy(update={"brokers": f"127.0.0.1:{free_port()}"})
        async with door(away, wait=False) as gateway:
            key = await gateway.key(None)
            answer = await gateway.ask("GET", "/health/ready")
            assert (answer.status, unready(answer)) == (503, ["brokers"])
            assert (await gateway.post(MESSAGES, key, TEXT)).status == 503


async def test_a_database_that_dies_and_comes_back(
    embedded_kafka: Broker, postgres: str, postgres_server: PostgresServer, valkey_server: ValkeyServer
) -> None:
    """Keys cannot be looked up: 503, not 401, without a word of the database's; after it, all goes on."""
    async with stores(embedded_kafka, postgres, valkey_server) as settings, door(settings) as gateway:
        key = await gateway.key(None)
        await postgres_server.kill()
        try:
            answer = await gateway.ask("GET", "/v1/me", key)
            assert (answer.status, answer.body["code"]) == (503, "unavailable"), answer.text
            assert "127.0.0.1" not in answer.text
            assert unready(await gateway.ask("GET", "/health/ready")) == ["postgres"]
            assert (await gateway.ask("GET", "/health/live")).status == 200
        finally:
            await postgres_server.start()
        await until(gateway, "GET", "/v1/me", 200, key=key)


async def test_a_redis_that_dies_and_comes_back(
    embedded_kafka: Broker, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages are accepted all the same, also where their answer was to be waited for; the rate holds."""
    valkey = ValkeyServer(tmp_path)
    await valkey.start()
    async with stores(embedded_kafka, postgres, valkey) as settings, door(settings) as gateway:
        key, slow = await gateway.key(None), await gateway.key(None, requests_per_second=1)
        await valkey.kill()
        assert (await gateway.post(MESSAGES, key, TEXT)).status == 202
        monkeypatch.setattr("gateway.feeds.feeds.JOIN_TIMEOUT_S", 0.5)
        waited = await gateway.post(f"{MESSAGES}?wait=30", key, TEXT)
        assert waited.status == 202, waited.text
        assert unready(await gateway.ask("GET", "/health/ready")) == ["redis"]
        monkeypatch.setattr(gateway.parts.rate_limits, "_clock", lambda: 0.0)
        assert [(await gateway.ask("GET", "/v1/me", slow)).status for _ in range(3)] == [200, 200, 429]
        await valkey.start()
        try:
            await until(gateway, "GET", "/health/ready", 200)
        finally:
            await valkey.kill()


async def test_an_open_gateway(embedded_kafka: Broker, postgres: str, valkey_server: ValkeyServer) -> None:
    """No key is needed, and it says so; a key that is given counts; no other site gets in, and none gets a page."""
    async with stores(embedded_kafka, postgres, valkey_server, open=True) as settings, door(settings) as gateway:
        me = (await gateway.ask("GET", "/v1/me")).body
        assert (me["name"], me["tenant"], me["is_open"]) == ("anyone on this machine", None, True)
        assert (await gateway.post(MESSAGES, None, TEXT)).status == 202
        acme = await gateway.key("acme")
        assert (await gateway.ask("GET", "/v1/me", acme)).body["tenant"] == "acme"
        assert (await gateway.ask("GET", "/v1/me", "nonsense")).status == 401
        own = await gateway.ask("GET", "/v1/me", headers={"Origin": gateway.url})
        assert own.status == 200
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            for path in ("/v1/me", "/", "/metrics", "/nothing"):
                answer = await gateway.ask("GET", path, headers=headers)
                assert (answer.status, answer.body["code"]) == (403, "foreign_origin"), (path, headers)
                assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.timeout(300)
async def test_the_commands(embedded_kafka: Broker, postgres: str, valkey_server: ValkeyServer, tmp_path: Path) -> None:
    """A key from the command line gets in; SIGTERM ends a gateway once its requests have ended."""
    async with stores(embedded_kafka, postgres, valkey_server) as settings, ClientSession() as session:
        making = await run(settings, "keys", "create", "web", "--tenant", "acme", "--days", "1", data_dir=tmp_path)
        out, err = await making.communicate()
        assert making.returncode == 0, err
        made = json.loads(out)
        port = free_port()
        gateway = await run(settings, "gateway", "--port", str(port), data_dir=tmp_path)
        ready = tmp_path / "gateway.ready"
        async with asyncio.timeout(90):
            while not ready.exists():
                assert gateway.returncode is None
                await asyncio.sleep(0.05)
        assert int(ready.read_text()) == gateway.pid
        url, bearer = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {made['key']}"}
        async with asyncio.timeout(90):
            while (await session.get(f"{url}/health/ready")).status != 200:
                await asyncio.sleep(0.1)
        async with session.get(f"{url}/v1/me", headers=bearer) as response:
            assert (await response.json())["session_prefix"] == "acme:"
        waiting = asyncio.create_task(
            session.post(f"{url}/v1/sessions/acme:1/messages?wait=100", headers=bearer, json=TEXT)
        )
        async with asyncio.timeout(90):
            while not [record async for record in read_topic(settings, USER_MESSAGES)]:
                await asyncio.sleep(0.1)
        assert not waiting.done()
        gateway.send_signal(signal.SIGTERM)
        async with asyncio.timeout(90):
            # Who waited is told at once that the message is accepted: it is, and its end can be awaited elsewhere.
            assert (await waiting).status == 202
            _, logged = await gateway.communicate()
        assert gateway.returncode == 0, logged
        assert not ready.exists()
        assert made["key"].split("_")[2].encode() not in logged
        revoking = await run(settings, "keys", "revoke", made["id"], data_dir=tmp_path)
        await revoking.communicate()
        listing = await run(settings, "keys", "list", data_dir=tmp_path)
        unknown = await run(settings, "keys", "revoke", "0" * 16, data_dir=tmp_path)
        (out, _), (_, err) = await asyncio.gather(listing.communicate(), unknown.communicate())
        (listed,) = [json.loads(line) for line in out.splitlines()]
        assert (listed["id"], listed["tenant"], listed["revoked_at"] is not None) == (made["id"], "acme", True)
        assert made["key"].split("_")[2].encode() not in out
        assert (unknown.returncode, b"no key has the id" in err) == (1, True)
