"""The development stack: Kafka, topics, a model, workers; started in order, watched, stopped in order."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from headrace.development.children import Child, SimulatedModel, Worker
from headrace.development.progress import Reporter, State, Step
from headrace.stack.data_dir import DataDirLock
from headrace.stack.endpoints import Endpoints, remove_endpoints, write_endpoints
from headrace.stack.errors import KafkaStartError, StackError
from headrace.stack.kafka import EmbeddedKafka
from headrace.stack.process import Exit
from headrace.topics import apply_topics, check_topics
from runtime.settings import Security, Settings

# After its drain timeout a worker records, commits, leaves the group and closes its tables.
STOP_AFTER_DRAIN_S = 15.0
WATCH_INTERVAL_S = 0.1
# A broker that dies so soon after its start would do so again.
KAFKA_QUICK_DEATH_S = 10.0


class StackOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a stack.

    `settings` are those of the workers; with `own_broker`, the stack's own Kafka takes the place of their brokers.
    `config` is the TOML file that the settings are from, where one was named.
    """

    settings: Settings
    own_broker: bool = True
    workers: int = 1
    model_latency_s: float = 0.0
    config: Path | None = None


class DevelopmentStack:
    """One stack on `settings.data_dir`: `start`, `watch` until something fails for good, and `stop` in any case."""

    def __init__(self, options: StackOptions, reporter: Reporter) -> None:
        if options.own_broker and options.settings.security != Security():
            raise StackError(
                "expected no `security` settings, got some: the stack's own Kafka has neither TLS nor passwords. "
                "Remove them, or name the brokers that they are for with --brokers HOST:PORT."
            )
        self._options = options
        self._settings = options.settings
        self._reporter = reporter
        self._lock = DataDirLock(self.data_dir)
        self._kafka: EmbeddedKafka | None = None
        self._model: SimulatedModel | None = None
        self._model_ready: asyncio.Task[None] | None = None
        self._workers: list[Worker] = []
        self._began: dict[str, float] = {}

    @property
    def data_dir(self) -> Path:
        return self._options.settings.data_dir

    @property
    def settings(self) -> Settings:
        """Those of its workers and clients, with the brokers, once Kafka has started."""
        return self._settings

    @property
    def simulates_model(self) -> bool:
        """Whether the model is simulated: where there is neither a key nor an address of a real one."""
        return self._settings.anthropic_api_key is None and self._settings.anthropic_base_url is None

    @property
    def endpoints(self) -> Endpoints:
        """Where it can be reached now."""
        return Endpoints(
            kafka=self._settings.brokers,
            model=None if self._model is None else self._model.url,
            worker_pids=[worker.process.pid for worker in self._workers if worker.process.running],
        )

    async def start(self) -> None:
        """Start all, and write the endpoints when all is ready.

        Raises:
            StackError: a component does not start, or another stack uses the directory.
            HeadraceError: brokers do not answer, or refuse the topics.
        """
        self._lock.acquire()
        # A stack that was killed has left its file behind.
        remove_endpoints(self.data_dir)
        self._model_ready = asyncio.create_task(self._start_model())
        if self._options.own_broker:
            await self._start_kafka()
        await self._apply_topics()
        await self._model_ready
        await self._start_workers()
        write_endpoints(self.data_dir, self.endpoints)

    async def watch(self) -> None:
        """Keep Kafka alive and the endpoints true; raises `StackError` when a component is given up."""
        # Processes that are kept alive end only when they are given up, which raises.
        forever: list[Coroutine[Any, Any, object]] = [child.process.wait() for child in self._children()]
        if self._kafka is not None:
            forever.append(self._keep_kafka(self._kafka))
        tasks = [asyncio.ensure_future(work) for work in (*forever, self._keep_endpoints())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def stop(self) -> None:
        """Workers first, which finish their calls; then the model and Kafka. What was not started is passed over."""
        if not self._lock.held:
            return
        remove_endpoints(self.data_dir)
        deadline_s = self._settings.drain_timeout_s + STOP_AFTER_DRAIN_S
        if self._workers:
            self._begin("workers", "finishing their calls", state="stopping")
            await asyncio.gather(*(worker.process.stop(deadline_s) for worker in self._workers))
            self._tell("workers", "stopped")
        if self._model_ready is not None:
            self._model_ready.cancel()
            await asyncio.gather(self._model_ready, return_exceptions=True)
        if self._model is not None:
            await self._model.process.stop()
        if self._kafka is not None:
            self._begin("kafka", state="stopping")
            await self._kafka.stop()
            self._tell("kafka", "stopped")
        self._lock.release()

    def kill_workers(self) -> None:
        """Let `stop` wait for the workers no longer."""
        for worker in self._workers:
            worker.process.signal(signal.SIGKILL)

    async def _start_model(self) -> None:
        self._begin("model")
        if not self.simulates_model:
            self._tell("model", "ready", "the real one: calls may cost money")
            return
        model = SimulatedModel(self.data_dir, self._options.model_latency_s, self._restarting)
        self._model = model
        await model.process.start()
        await model.wait_until_ready()
        self._tell("model", "ready", f"simulated, because ANTHROPIC_API_KEY is not set: {model.url}")

    async def _start_kafka(self) -> None:
        self._begin("kafka")
        kafka = EmbeddedKafka(self.data_dir, progress=lambda message: self._tell("kafka", "starting", message))
        self._kafka = kafka
        await kafka.start()
        self._settings = self._settings.model_copy(update={"brokers": kafka.bootstrap, "replication": 1})
        self._tell("kafka", "ready", kafka.bootstrap)

    async def _apply_topics(self) -> None:
        self._begin("topics", f"on {self._settings.brokers}")
        created = await apply_topics(self._settings)
        wrong = [finding for finding in await check_topics(self._settings) if finding.level == "fail"]
        if wrong:
            first = wrong[0]
            raise StackError(
                f"topic {first.topic}: expected {first.expected} {first.what}, found {first.found}. Start with the "
                "--partitions that these topics were created with, or with another --data-dir."
            )
        self._tell("topics", "ready", f"{len(created)} created" if created else "all there")

    async def _start_workers(self) -> None:
        env = self._worker_environment()
        for number in range(1, self._options.workers + 1):
            worker = Worker(number, self.data_dir, env, self._restarting)
            self._begin(worker.name)
            await worker.process.start()
            self._workers.append(worker)
        for worker in self._workers:
            await worker.wait_until_ready()
            self._tell(worker.name, "ready", f"process {worker.process.pid}, log {worker.process.log_path}")

    def _worker_environment(self) -> dict[str, str]:
        settings = self._settings
        environment = {
            "HEADRACE_BROKERS": settings.brokers,
            "HEADRACE_PARTITIONS": str(settings.partitions),
            "HEADRACE_REPLICATION": str(settings.replication),
            "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
        }
        if self._options.config is not None:
            environment["HEADRACE_CONFIG"] = str(self._options.config.absolute())
        if self._model is not None:
            environment["ANTHROPIC_BASE_URL"] = self._model.url
        return environment

    def _children(self) -> list[Child]:
        return [*self._workers, *([] if self._model is None else [self._model])]

    async def _keep_kafka(self, kafka: EmbeddedKafka) -> None:
        while True:
            end = await kafka.process.wait()
            if end.lived_s < KAFKA_QUICK_DEATH_S:
                log = kafka.process
                raise KafkaStartError(f"Kafka died: {end}. Its log, {log.log_path}, ends with:\n{log.log_tail()}")
            self._restarting("kafka", end)
            await kafka.start()
            self._tell("kafka", "ready", kafka.bootstrap)

    async def _keep_endpoints(self) -> None:
        written = self.endpoints
        unready: set[str] = set()
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if self.endpoints != written:
                written = self.endpoints
                write_endpoints(self.data_dir, written)
                unready = {worker.name for worker in self._workers if not worker.is_ready()}
            for worker in self._workers:
                if worker.name in unready and worker.is_ready():
                    unready.remove(worker.name)
                    self._tell(worker.name, "ready", f"process {worker.process.pid}")

    def _restarting(self, name: str, end: Exit) -> None:
        self._begin(name, f"{end}; starting it again", state="restarting")

    def _begin(self, component: str, detail: str = "", state: State = "starting") -> None:
        self._began[component] = time.monotonic()
        self._tell(component, state, detail)

    def _tell(self, component: str, state: State, detail: str = "") -> None:
        seconds = round(time.monotonic() - self._began[component], 2)
        self._reporter.step(Step(component=component, state=state, detail=detail, seconds=seconds))
