"""The development stack: Kafka, topics, a model, workers; started in order, watched, stopped in order."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from headrace.development.children import SimulatedModel, Worker
from headrace.development.kafka import Kafka
from headrace.development.progress import Reporter, Steps
from headrace.stack.data_dir import DataDirLock
from headrace.stack.endpoints import Endpoints, remove_endpoints, write_endpoints
from headrace.stack.errors import StackError
from headrace.topics import apply_topics, check_topics
from runtime.settings import Security, Settings

# After its drain timeout a worker records, commits, leaves the group and closes its tables.
STOP_AFTER_DRAIN_S = 15.0
WATCH_INTERVAL_S = 0.1


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

    def worker_environment(self, settings: Settings) -> dict[str, str]:
        """What the workers are told: the settings of the stack that they cannot read from `config`."""
        environment = {
            "HEADRACE_BROKERS": settings.brokers,
            "HEADRACE_PARTITIONS": str(settings.partitions),
            "HEADRACE_REPLICATION": str(settings.replication),
            "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
        }
        if self.config is not None:
            environment["HEADRACE_CONFIG"] = str(self.config.absolute())
        return environment


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
        self._steps = Steps(reporter)
        self._lock = DataDirLock(self.data_dir)
        self._kafka: Kafka | None = None
        self._model: SimulatedModel | None = None
        self._model_ready: asyncio.Task[None] | None = None
        self._workers: list[Worker] = []

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
        forever: list[Coroutine[Any, Any, object]] = [worker.process.wait() for worker in self._workers]
        if self._model is not None:
            forever.append(self._model.process.wait())
        if self._kafka is not None:
            forever.append(self._kafka.keep())
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
            self._steps.begin("workers", "finishing their calls", state="stopping")
            await asyncio.gather(*(worker.process.stop(deadline_s) for worker in self._workers))
            self._steps.tell("workers", "stopped")
        if self._model_ready is not None:
            self._model_ready.cancel()
            await asyncio.gather(self._model_ready, return_exceptions=True)
        if self._model is not None:
            await self._model.process.stop()
        if self._kafka is not None:
            await self._kafka.stop()
        self._lock.release()

    def kill_workers(self) -> None:
        """Let `stop` wait for the workers no longer."""
        for worker in self._workers:
            worker.process.signal(signal.SIGKILL)

    async def _start_model(self) -> None:
        self._steps.begin("model")
        if not self.simulates_model:
            self._steps.tell("model", "ready", "the real one: calls may cost money")
            return
        model = SimulatedModel(self.data_dir, self._options.model_latency_s, self._steps.restarting)
        self._model = model
        await model.process.start()
        await model.wait_until_ready()
        self._steps.tell("model", "ready", f"simulated, because ANTHROPIC_API_KEY is not set: {model.url}")

    async def _start_kafka(self) -> None:
        self._kafka = Kafka(self.data_dir, self._steps)
        await self._kafka.start()
        self._settings = self._settings.model_copy(update={"brokers": self._kafka.bootstrap, "replication": 1})

    async def _apply_topics(self) -> None:
        self._steps.begin("topics", f"on {self._settings.brokers}")
        created = await apply_topics(self._settings)
        wrong = [finding for finding in await check_topics(self._settings) if finding.level == "fail"]
        if wrong:
            first = wrong[0]
            raise StackError(
                f"topic {first.topic}: expected {first.expected} {first.what}, found {first.found}. Start with the "
                "--partitions that these topics were created with, or with another --data-dir."
            )
        self._steps.tell("topics", "ready", f"{len(created)} created" if created else "all there")

    async def _start_workers(self) -> None:
        env = self._options.worker_environment(self._settings)
        if self._model is not None:
            env["ANTHROPIC_BASE_URL"] = self._model.url
        for number in range(1, self._options.workers + 1):
            worker = Worker(number, self.data_dir, env, self._steps.restarting)
            self._steps.begin(worker.name)
            await worker.process.start()
            self._workers.append(worker)
        for worker in self._workers:
            await worker.wait_until_ready()
            self._steps.tell(worker.name, "ready", f"process {worker.process.pid}, log {worker.process.log_path}")

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
                    self._steps.tell(worker.name, "ready", f"process {worker.process.pid}")
