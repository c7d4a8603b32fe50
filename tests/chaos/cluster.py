"""A whole Headrace of real processes, to be killed: Kafka, the simulated model, workers; and what its topics hold."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import aiokafka
import orjson

from headrace.stack.kafka import Credentials, EmbeddedKafka
from headrace.stack.ports import free_port
from headrace.stack.process import ManagedProcess
from headrace.topics import apply_topics
from runtime.settings import Settings
from schemas.topics import TOPICS

READY_S = 90.0
QUIET_S = 180.0


class Worker:
    """One worker process with its data directory; `environment` is what its settings differ in."""

    def __init__(self, cluster: "Cluster", number: int, environment: Mapping[str, str] | None = None) -> None:
        self.data_dir = cluster.home / f"worker-{number}"
        """Where it keeps its tables; another one may be set before it starts."""
        self._cluster = cluster
        self._number = number
        self._environment = dict(environment or {})
        self._process: ManagedProcess | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        await self.begin()
        await self.ready()

    async def begin(self) -> None:
        """Start it."""
        self._process = ManagedProcess(
            f"worker-{self._number}",
            [sys.executable, "-m", "headrace", "worker"],
            log_path=self._cluster.home / f"worker-{self._number}.log",
            env={
                "HEADRACE_BROKERS": self._cluster.kafka.bootstrap,
                "HEADRACE_DATA_DIR": str(self.data_dir),
                "HEADRACE_NAME": f"worker-{self._number}",
                "ANTHROPIC_BASE_URL": self._cluster.model_url,
                "ANTHROPIC_API_KEY": "simulated",
                **self._cluster.environment,
                **self._environment,
            },
        )
        await self._process.start()

    async def ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not self._is_marked_ready():
            assert self.process.running, self.process.log_tail()
            assert time.monotonic() < deadline, self.process.log_tail()
            await asyncio.sleep(0.05)

    def _is_marked_ready(self) -> bool:
        try:
            return (self.data_dir / "worker.ready").read_text() == str(self.pid)
        except FileNotFoundError:
            return False

    @property
    def process(self) -> ManagedProcess:
        assert self._process is not None, "the worker was not started"
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> list[dict[str, Any]]:
        """What it has logged since its last start."""
        lines = self.process.log_path.read_text().splitlines()
        return [orjson.loads(line) for line in lines if line.startswith("{")]

    @contextlib.asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Whenever it stops meanwhile, it is started again."""

        async def keep() -> None:
            while True:
                await self.process.wait()
                await self.begin()

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def kill(self) -> None:
        """Send SIGKILL, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM, and wait until it has drained."""
        await self.process.stop(deadline_s=60)


class Cluster:
    """Kafka, a simulated model, and any number of workers, in `home`; `environment` is what all workers are told."""

    def __init__(
        self,
        home: Path,
        *,
        latency_s: float = 0.0,
        secure: Credentials | None = None,
        kafka: EmbeddedKafka | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.secure = secure
        self.kafka = kafka or EmbeddedKafka(home, port=free_port(), secure=secure)
        self.environment = dict(environment or {})
        self.workers: list[Worker] = []
        self._model_port = free_port()
        self._latency_s = latency_s
        self._model: ManagedProcess | None = None

    @property
    def model_url(self) -> str:
        return f"http://127.0.0.1:{self._model_port}"

    @property
    def topic_prefix(self) -> str:
        """Of the topics that are published to and read here."""
        return self.environment.get("HEADRACE_TOPIC_PREFIX", "")

    async def start(self, workers: int = 1) -> None:
        await asyncio.gather(self.kafka.start(), self.start_model())
        await apply_topics(Settings(brokers=self.kafka.bootstrap, topic_prefix=self.topic_prefix))
        self.workers = [Worker(self, number) for number in range(1, workers + 1)]
        await asyncio.gather(*(worker.start() for worker in self.workers))

    async def add_worker(self, topic_prefix: str = "", **environment: str) -> Worker:
        """Start one more worker, with other settings; those with a topic prefix of their own never meet."""
        await apply_topics(Settings(brokers=self.kafka.bootstrap, topic_prefix=topic_prefix))
        worker = Worker(self, len(self.workers) + 1, {"HEADRACE_TOPIC_PREFIX": topic_prefix, **environment})
        self.workers.append(worker)
        await worker.start()
        return worker

    async def start_model(self) -> None:
        arguments = ["--port", str(self._model_port), "--latency", str(self._latency_s)]
        self._model = ManagedProcess(
            "model",
            [sys.executable, "-m", "headrace.simulated_model", *arguments],
            log_path=self.home / "model.log",
        )
        await self._model.start()

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers if worker.is_running))
        if self._model is not None:
            await self._model.stop()
        await self.kafka.stop()

    async def model_totals(self) -> dict[str, int]:
        """How many model calls were started, completed, failed, abandoned, and are in flight."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.model_url}/control/calls", params={"brief": "1"}) as response,
        ):
            totals: dict[str, int] = orjson.loads(await response.read())["totals"]
            return totals

    async def model_calls(self) -> dict[str, dict[str, int]]:
        """For each call id, how often the model was called, and how often it answered in full."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.model_url}/control/calls") as response,
        ):
            calls: dict[str, dict[str, int]] = orjson.loads(await response.read())["calls"]
            return calls

    async def publish(self, bodies: Sequence[dict[str, Any]]) -> None:
        """Publish commands to `user-messages`, each acknowledged."""
        topic = f"{self.topic_prefix}user-messages"
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap, acks="all")
        await producer.start()
        try:
            sent = [await producer.send(topic, orjson.dumps(body), key=body["session_id"].encode()) for body in bodies]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    async def ended(self, count: int) -> list[dict[str, Any]]:
        """All agent events, in the order of each partition, once `count` messages have their end."""
        ends: set[tuple[str, str]] = set()
        events: list[dict[str, Any]] = []
        async with self._reader("agent-events") as consumer:
            deadline = time.monotonic() + QUIET_S
            while len(ends) < count:
                assert time.monotonic() < deadline, f"{len(ends)} of {count} messages have their end"
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        event = orjson.loads(record.value)
                        events.append(event)
                        if event["type"] in {"turn_completed", "turn_failed", "turn_cancelled"}:
                            ends.add((event["session_id"], event["message_id"]))
        return events

    async def events(self) -> list[dict[str, Any]]:
        """All agent events that are there, in the order of each partition."""
        return [orjson.loads(record.value) for record in await self.read("agent-events")]

    async def topics(self) -> dict[str, list[aiokafka.ConsumerRecord]]:
        """All records of all topics, in the order of each partition."""
        return {topic.name: await self.read(topic.name) for topic in TOPICS}

    async def read(self, topic: str) -> list[aiokafka.ConsumerRecord]:
        """All records of a topic, in the order of each partition."""
        async with self._reader(topic) as consumer:
            partitions = list(consumer.assignment())
            ends = await consumer.end_offsets(partitions)
            records: list[aiokafka.ConsumerRecord] = []
            while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    records += batch
            return records

    @contextlib.asynccontextmanager
    async def _reader(self, topic: str) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
        consumer = aiokafka.AIOKafkaConsumer(
            self.topic_prefix + topic, bootstrap_servers=self.kafka.bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()


async def release(cluster: Cluster, name: str) -> None:
    """Let answers go on that stopped at `[[hold:NAME]]`."""
    url = f"{cluster.model_url}/control/released/{name}"
    async with aiohttp.ClientSession(raise_for_status=True) as http, http.put(url):
        pass
