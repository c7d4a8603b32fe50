"""A process that was told to stop ends soon, whatever brokers, Redis, PostgreSQL or a client do."""

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import ClientError, ClientSession, web
from gateway_fixture import run, stores
from kafka_fixture import Broker, free_port
from postgres_fixture import PostgresServer
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from valkey_fixture import ValkeyServer

from gateway.feeds import Feeds
from gateway.protocol import Runner
from gateway.scopes import Scope
from headrace.stack.kafka import EmbeddedKafka

pytestmark = pytest.mark.asyncio(loop_scope="session")
DRAIN_TIMEOUT_S = 2.0


async def test_feeds_stop_at_whatever_step_of_their_connecting(valkey_server: ValkeyServer) -> None:
    """A client that just sent its greeting may take the stop for its success: it is told again."""
    for steps in range(24):
        redis = Redis.from_url(valkey_server.url, retry=Retry(NoBackoff(), 0), socket_timeout=2)
        async with asyncio.timeout(10):
            async with Feeds(redis, "stopping:", None):
                for _ in range(steps):
                    await asyncio.sleep(0)
            await redis.aclose()


@pytest.mark.parametrize("drain_timeout_s", [0.0, 2.0])
async def test_a_request_is_waited_for_once(drain_timeout_s: float, caplog: pytest.LogCaptureFixture) -> None:
    """For the drain timeout, and not as long again before it is cancelled; nothing of it is an error."""
    began = asyncio.Event()

    async def never(_: web.Request) -> web.Response:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_get("/", never)
    runner = Runner(app, drain_timeout_s)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as session:
        asking = asyncio.create_task(session.get("http://{}:{}".format(*runner.addresses[0])))
        await began.wait()
        told_at = monotonic()
        async with asyncio.timeout(2 * drain_timeout_s - 0.2 if drain_timeout_s else 20):
            await runner.cleanup()
        assert monotonic() - told_at + 0.2 >= drain_timeout_s
        with pytest.raises(ClientError):
            await asking
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_the_last_resort(tmp_path: Path) -> None:
    """A process whose task, thread and loop do not let go ends with status 1, and says where they are."""
    program = tmp_path / "deaf.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio, threading
            from runtime.ending import end_process_within

            def a_thread_that_waits():
                threading.Event().wait()

            async def deaf():
                while True:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        pass

            async def main():
                threading.Thread(target=a_thread_that_waits).start()
                task = asyncio.create_task(deaf())
                end_process_within(1.5)

            asyncio.run(main())
        """)
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 1
    assert b"deaf" in out
    assert b"a_thread_that_waits" in err


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@contextmanager
def frozen(*servers: int) -> Iterator[None]:
    """They keep their connections, and say nothing, as behind a cable that was pulled out."""
    pids = [pid for server in servers for pid in family(server)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(300)
async def test_processes_end_while_nobody_answers(
    postgres: str, postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests and records are under way, no server says anything any more: both end by themselves, in their time."""
    monkeypatch.setenv("HEADRACE_GATEWAY_DRAIN_TIMEOUT_S", str(DRAIN_TIMEOUT_S))
    valkey = ValkeyServer(tmp_path / "valkey")
    await valkey.start()
    async with (
        EmbeddedKafka(tmp_path / "kafka", progress=print) as kafka,
        stores(Broker(kafka.bootstrap), postgres, valkey) as settings,
        ClientSession() as session,
    ):
        scopes = [word for scope in Scope for word in ("--scope", scope)]
        making = await run(settings, "keys", "create", "web", *scopes, data_dir=tmp_path)
        key = json.loads((await making.communicate())[0])["key"]
        port = free_port()
        processes = {
            "gateway": await run(settings, "gateway", "--port", str(port), data_dir=tmp_path),
            "project": await run(settings, "project", data_dir=tmp_path),
        }
        try:
            async with asyncio.timeout(60):
                while not all((tmp_path / f"{name}.ready").exists() for name in processes):
                    for process in processes.values():
                        assert process.returncode is None, await process.communicate()
                    await asyncio.sleep(0.05)
            ask = partial(session.request, headers={"Authorization": f"Bearer {key}"})
            url = f"http://127.0.0.1:{port}/v1/sessions"
            async with asyncio.timeout(60):
                while (await ask("POST", f"{url}/s/messages", json={"text": "hello"})).status != 202:
                    await asyncio.sleep(0.1)
                # What was asked comes round: the gateway audits it, and it is projected.
                while not (await (await ask("GET", url.replace("sessions", "audit"))).json())["items"]:
                    await asyncio.sleep(0.1)
            await asyncio.gather(*(ask("POST", f"{url}/s/messages", json={"text": "hello"}) for _ in range(20)))
            with frozen(kafka.process.pid, valkey.process.pid, postgres_server.process.pid):
                asking = [
                    asyncio.create_task(ask("POST", f"{url}/s/messages", json={"text": "hello"})),
                    asyncio.create_task(ask("GET", url)),
                ]
                await asyncio.sleep(0.5)
                ends = await asyncio.gather(*(end(process) for process in processes.values()))
            await asyncio.gather(*asking, return_exceptions=True)
            assert ends == [0, 0]
        finally:
            for process in processes.values():
                if process.returncode is None:
                    process.kill()
            await valkey.kill()


async def end(process: asyncio.subprocess.Process) -> int | None:
    """Tell it to stop; its status, which is not 0 where it did not end in its time: see `end_process_within`."""
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()
    print(out.decode(), err.decode())
    return process.returncode
