"""`headrace dev` as a person runs it: a process that is started, used, disturbed and stopped."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis
from valkey_fixture import ValkeyServer

from headrace.stack.endpoints import FILE_NAME, Endpoints, read_endpoints
from headrace.stack.process import log_tail

ROOT = Path(__file__).parents[2]
READY_S = 100.0
ANSWER_S = 150.0
STOP_S = 60.0

pytestmark = [pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]


class Dev:
    """A running `headrace dev`."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir

    @property
    def endpoints(self) -> Endpoints:
        return read_endpoints(self.data_dir)

    @property
    def endpoints_path(self) -> Path:
        return self.data_dir / FILE_NAME

    def children(self) -> list[int]:
        """The process ids of all that it started and that live."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    async def healed(self, name: str, dead: int) -> None:
        """Wait until the process of this name is another one, and the gateway finds all that it needs."""
        await until(lambda: self.endpoints.pids.get(name) not in (None, dead), READY_S)
        async with aiohttp.ClientSession() as http, asyncio.timeout(READY_S):
            while await status_of(http, f"{self.endpoints.gateway}/health/ready") != 200:
                await asyncio.sleep(0.1)

    async def ready(self) -> Endpoints:
        """Wait for the endpoints file."""
        await until(lambda: self.endpoints_path.exists() or self.process.returncode is not None, READY_S)
        assert self.process.returncode is None, self.output()
        return self.endpoints

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), STOP_S)

    def output(self) -> str:
        return log_tail(self.data_dir.with_suffix(".out"), 60)


async def start(data_dir: Path, *options: str, **variables: str) -> Dev:
    """Start `headrace dev`; its output goes to a file beside its data directory."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")} | variables
    with data_dir.with_suffix(".out").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", "dev", "--data-dir", str(data_dir), *options),
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    return Dev(process, data_dir)


@asynccontextmanager
async def running(data_dir: Path, *options: str, **variables: str) -> AsyncIterator[Dev]:
    """`headrace dev`, ready; killed if the test has not stopped it."""
    dev = await start(data_dir, *options, **variables)
    try:
        await dev.ready()
        yield dev
    finally:
        if dev.process.returncode is None:
            dev.process.kill()
            await dev.process.wait()


async def until(condition: object, timeout_s: float) -> None:
    """Wait until `condition()` holds."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not so after {timeout_s} s"
        await asyncio.sleep(0.05)


async def send(kafka: str, session_id: str, text: str) -> None:
    """What any Kafka client can do: JSON, without key or headers."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    try:
        await producer.start()
        await producer.send_and_wait("user-messages", json.dumps({"session_id": session_id, "text": text}).encode())
    finally:
        await producer.stop()


async def ends(kafka: str, session_id: str, count: int) -> list[dict[str, str]]:
    """The first `count` ends of turn of a session, from the oldest event on."""
    consumer = AIOKafkaConsumer("agent-events", bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    found: dict[int, dict[str, str]] = {}
    try:
        async with asyncio.timeout(ANSWER_S):
            while len(found) < count:
                record = await consumer.getone()
                event = json.loads(record.value)
                if event["session_id"] == session_id and event["type"] in ("turn_completed", "turn_failed"):
                    found[event["seq"]] = event
    finally:
        await consumer.stop()
    return list(found.values())


async def run_readme_example(kafka: str) -> str:
    """The README's first Python block, which a reader saves and runs; what it prints."""
    (block, *_) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", block, kafka, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), ANSWER_S)
    assert process.returncode == 0
    return output.decode()


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def status_of(http: aiohttp.ClientSession, url: str) -> int:
    """Of a GET; 0 where nobody answers."""
    try:
        async with http.get(url) as answer:
            return answer.status
    except aiohttp.ClientError:
        return 0


async def ask(dev: Dev, session_id: str, text: str) -> str:
    """Through the gateway, again and again under one key until it is answered; what the agent said."""
    url = f"{dev.endpoints.gateway}/v1/sessions/{session_id}/messages"
    headers = {"Idempotency-Key": f"{session_id}/{text}".replace(" ", "_")}
    async with aiohttp.ClientSession(headers=headers) as http, asyncio.timeout(ANSWER_S):
        while True:
            try:
                async with http.post(url, params={"wait": "10"}, json={"text": text}) as answer:
                    if answer.status == 200:
                        said: str = (await answer.json())["end"]["text"]
                        return said
                    assert answer.status in (202, 503), await answer.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


async def turns_in_postgres(url: str, session_id: str) -> int:
    """How many turns of the session ended, as far as the projections have come."""
    connection = await asyncpg.connect(url)
    try:
        statement = "SELECT count(*) FROM events WHERE session_id = $1 AND type = 'turn_completed' AND topic = $2"
        return int(await connection.fetchval(statement, session_id, "agent-events"))
    finally:
        await connection.close()


async def projected(dev: Dev, session_id: str, turns: int) -> None:
    """Wait until both stores have the session's turns."""
    assert isinstance(dev.endpoints.postgres, str)
    assert isinstance(dev.endpoints.redis, str)
    redis: Redis = Redis.from_url(dev.endpoints.redis)
    async with asyncio.timeout(ANSWER_S):
        while await turns_in_postgres(dev.endpoints.postgres, session_id) < turns:
            await asyncio.sleep(0.1)
        while not await redis.exists(f"headrace:live:{session_id}"):
            await asyncio.sleep(0.1)
    await redis.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dev(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dev]:
    """One stack for what does not disturb the next test, or heals."""
    async with running(tmp_path_factory.mktemp("dev") / "stack") as dev:
        yield dev


async def test_everything_that_the_endpoints_name_answers(dev: Dev) -> None:
    """Brokers, stores, gateway and page; the URL of the page comes last, and passwords are not on the screen."""
    endpoints = dev.endpoints
    assert set(endpoints.pids) == {"kafka", "valkey", "postgres", "model", "worker-1", "project", "gateway"}
    assert endpoints.worker_pids == [endpoints.pids["worker-1"]]
    await send(endpoints.kafka, "e1", "What is 17 * 23?")
    (end,) = await ends(endpoints.kafka, "e1", 1)
    assert "391" in end["text"]
    assert "391" in await run_readme_example(endpoints.kafka)
    assert "42" in await ask(dev, "e1", "What is 6 * 7?")
    await projected(dev, "e1", 2)
    async with aiohttp.ClientSession() as http, http.get(f"{endpoints.gateway}/") as page:
        assert (page.status, page.content_type) == (200, "text/html")
    await until(lambda: "The page" in dev.output(), READY_S)
    said = dev.output()
    assert said.rstrip().endswith(f"The page, open to everybody on this machine: {endpoints.gateway}/")
    for url in (endpoints.postgres, endpoints.redis):
        assert str(url).split("@")[0].rsplit(":", 1)[1] not in said
    assert oct(dev.endpoints_path.stat().st_mode)[-3:] == "600"


async def test_the_doctor_finds_nothing_wrong(dev: Dev) -> None:
    """It looks where the endpoints say, without being told anything but the data directory."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace", "doctor", "--data-dir", str(dev.data_dir)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    checks = [json.loads(line) for line in output.splitlines()]
    levels = {check["what"]: check["level"] for check in checks}
    # A machine that is busy may find its broker slow.
    assert levels.pop("brokers") in ("ok", "warn")
    expected = "versions settings model workers topics redis postgres projections gateway"
    assert levels == dict.fromkeys(expected.split(), "ok"), checks


@pytest.mark.parametrize("name", ["worker-1", "valkey", "postgres", "project", "gateway", "model", "kafka"])
async def test_whoever_is_killed_comes_back(dev: Dev, name: str) -> None:
    """A message through the gateway while it is dead is answered, and readers see all of it in the end."""
    dead = dev.endpoints.pids[name]
    os.kill(dead, signal.SIGKILL)
    assert "42" in await ask(dev, f"kill-{name}", "What is 6 * 7?")
    await dev.healed(name, dead)
    assert "11" in await ask(dev, f"kill-{name}", "What is 10 + 1?")
    await projected(dev, f"kill-{name}", 2)


async def test_a_second_stack_on_the_same_data_is_refused(dev: Dev) -> None:
    """It says who is there, and leaves that one alone."""
    refused = await start(dev.data_dir)
    assert await asyncio.wait_for(refused.process.wait(), READY_S) == 1
    assert f"in use by the stack with process id {dev.process.pid}" in refused.output()
    assert dev.endpoints_path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_stack_that_is_stopped_and_started_again_has_everything(dev: Dev) -> None:
    """Nothing stays behind but its data: the session goes on, the readers' stores and addresses are what they were."""
    await send(dev.endpoints.kafka, "again", "What is 17 * 23?")
    before = await ends(dev.endpoints.kafka, "again", 1)
    await projected(dev, "again", 1)
    endpoints, children = dev.endpoints, dev.children()
    assert len(children) == 7
    assert await dev.stop() == 0
    assert not any(alive(pid) for pid in children)
    assert not dev.endpoints_path.exists()
    async with running(dev.data_dir, "--workers", "2") as later:
        assert len(later.endpoints.worker_pids) == 2
        for name in ("kafka", "redis", "postgres", "gateway"):
            assert getattr(later.endpoints, name) == getattr(endpoints, name)
        assert await ends(later.endpoints.kafka, "again", 1) == before
        await projected(later, "again", 1)
        assert "11" in await ask(later, "again", "What is 10 + 1?")
        assert await later.stop() == 0


async def test_a_database_and_a_redis_of_the_users_are_used(
    tmp_path: Path, postgres: str, valkey_server: ValkeyServer
) -> None:
    """None is started, theirs gets the tables and the rows."""
    variables = {"HEADRACE_POSTGRES": postgres, "HEADRACE_REDIS": valkey_server.url}
    async with running(tmp_path / "stack", **variables) as dev:
        assert (dev.endpoints.postgres, dev.endpoints.redis) == (postgres, valkey_server.url)
        assert set(dev.endpoints.pids) == {"kafka", "model", "worker-1", "project", "gateway"}
        assert "42" in await ask(dev, "theirs", "What is 6 * 7?")
        await projected(dev, "theirs", 1)
        assert await dev.stop() == 0
    assert await turns_in_postgres(postgres, "theirs") == 1
    assert not (tmp_path / "stack" / "postgres").exists()
    assert not (tmp_path / "stack" / "valkey").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_stack_that_was_killed_leaves_nothing_that_misleads(tmp_path: Path) -> None:
    """Its children die with it, and the next start removes the endpoints that nobody serves any more."""
    data_dir = tmp_path / "stack"
    async with running(data_dir) as dev:
        children = dev.children()
        dev.process.kill()
        await dev.process.wait()
        await until(lambda: not any(alive(pid) for pid in children), STOP_S)
    assert dev.endpoints_path.exists()
    dev = await start(data_dir)
    try:
        await until(lambda: not dev.endpoints_path.exists(), READY_S)
        # It is told to stop while it starts.
        assert await dev.stop() == 0
    finally:
        if dev.process.returncode is None:
            dev.process.kill()
            await dev.process.wait()


async def test_a_worker_that_cannot_start_ends_the_stack_with_its_last_words(tmp_path: Path) -> None:
    """The reason is on the screen, not only in a file."""
    (tmp_path / "headrace.toml").write_text('tools = ["no_such_module"]\n')
    dev = await start(tmp_path / "stack", "--config", str(tmp_path / "headrace.toml"))
    assert await asyncio.wait_for(dev.process.wait(), READY_S) == 1
    assert "worker-1 did not start: process" in dev.output()
    assert "there is no module `no_such_module`" in dev.output()
    assert not dev.endpoints_path.exists()
