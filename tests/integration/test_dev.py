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

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from headrace.stack.endpoints import FILE_NAME, Endpoints, read_endpoints
from headrace.stack.process import log_tail

ROOT = Path(__file__).parents[2]
READY_S = 100.0
ANSWER_S = 60.0
STOP_S = 60.0

pytestmark = pytest.mark.timeout(400)


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


async def start(data_dir: Path, *options: str) -> Dev:
    """Start `headrace dev`; its output goes to a file beside its data directory."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
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
async def running(data_dir: Path, *options: str) -> AsyncIterator[Dev]:
    """`headrace dev`, ready; killed if the test has not stopped it."""
    dev = await start(data_dir, *options)
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
    await producer.start()
    try:
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


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_stack_answers_heals_and_keeps_its_data(tmp_path: Path) -> None:
    """A message is answered, also one that was sent while the worker was dead; the next stack knows the session."""
    data_dir = tmp_path / "stack"
    async with running(data_dir) as dev:
        kafka = dev.endpoints.kafka
        assert dev.endpoints.model is not None
        await send(kafka, "s1", "What is 17 * 23?")
        (first,) = await ends(kafka, "s1", 1)
        assert first["type"] == "turn_completed"
        assert "391" in first["text"]

        (victim,) = dev.endpoints.worker_pids
        os.kill(victim, signal.SIGKILL)
        await send(kafka, "s1", "What is 6 * 7?")
        _, second = await ends(kafka, "s1", 2)
        assert "42" in second["text"]
        await until(lambda: dev.endpoints.worker_pids not in ([], [victim]), READY_S)

        assert "391" in await run_readme_example(kafka)

        refused = await start(data_dir)
        assert await asyncio.wait_for(refused.process.wait(), READY_S) == 1
        assert f"in use by the stack with process id {dev.process.pid}" in refused.output()
        assert dev.endpoints_path.exists()

        children = dev.children()
        assert len(children) == 3
        assert await dev.stop() == 0
        assert not any(alive(pid) for pid in children)
        assert not dev.endpoints_path.exists()
    async with running(data_dir, "--workers", "2") as dev:
        assert len(dev.endpoints.worker_pids) == 2
        assert [end["text"] for end in await ends(dev.endpoints.kafka, "s1", 2)] == [first["text"], second["text"]]
        await send(dev.endpoints.kafka, "s1", "What is 10 + 1?")
        assert "11" in (await ends(dev.endpoints.kafka, "s1", 3))[2]["text"]
        assert await dev.stop() == 0


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
