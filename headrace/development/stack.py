"""The development stack: servers, topics, a model, and every role; started in order, watched, stopped in order."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from headrace.development.children import Role, SimulatedModel
from headrace.development.kafka import Kafka, prepare_topics
from headrace.development.options import StackOptions, development_gateway, gateway_url
from headrace.development.progress import Reporter, Steps
from headrace.development.stores import Stores
from headrace.development.together import together
from headrace.stack.child import Child
from headrace.stack.data_dir import DataDirLock
from headrace.stack.endpoints import Endpoints, remove_endpoints, write_endpoints
from headrace.stack.errors import StackError
from headrace.stack.ports import kept_port
from runtime.settings import Security, Settings

# After its drain timeout a worker records, commits, leaves the group and closes its tables.
STOP_AFTER_DRAIN_S = 15.0
WATCH_INTERVAL_S = 0.1
ROLES_OF_READERS = ("project", "gateway")


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
        self._kafka = Kafka(self.data_dir, self._steps) if options.own_broker else None
        self._stores = Stores(self._settings, self._steps)
        self._model: SimulatedModel | None = None
        self._workers: list[Role] = []
        self._readers: list[Role] = []

    @property
    def data_dir(self) -> Path:
        return self._options.settings.data_dir

    @property
    def settings(self) -> Settings:
        """Those of its processes and clients, with the servers' addresses, once these have started."""
        return self._settings

    @property
    def simulates_model(self) -> bool:
        """Whether the model is simulated: where there is neither a key nor an address of a real one."""
        return self._settings.anthropic_api_key is None and self._settings.anthropic_base_url is None

    @property
    def endpoints(self) -> Endpoints:
        """Where it can be reached now."""
        settings = self._settings
        assert settings.postgres is not None, "not started"
        assert settings.redis is not None, "not started"
        pids = {child.name: child.process.pid for child in self.children if child.process.running}
        if self._kafka is not None and self._kafka.pid is not None:
            pids["kafka"] = self._kafka.pid
        return Endpoints(
            kafka=settings.brokers,
            model=None if self._model is None else self._model.url,
            worker_pids=[worker.process.pid for worker in self._workers if worker.process.running],
            redis=settings.redis.get_secret_value(),
            postgres=settings.postgres.get_secret_value(),
            gateway=gateway_url(settings.gateway),
            pids=pids,
        )

    @property
    def children(self) -> list[Child]:
        """Its processes besides Kafka, as far as they were started."""
        return [*self._readers, *self._workers, *([] if self._model is None else [self._model]), *self._stores.children]

    async def start(self) -> None:
        """Start all, what does not depend on each other at once, and write the endpoints when all is ready.

        Raises:
            StackError: a component does not start, or another stack uses the directory.
            HeadraceError: brokers do not answer, or refuse the topics.
            ProjectionError: the database cannot be brought to what this version needs.
        """
        self._lock.acquire()
        # A stack that was killed has left its file behind.
        remove_endpoints(self.data_dir)
        await together(self._start_brokers(), self._start_model(), self._stores.start())
        known = {"redis": self._stores.redis, "postgres": self._stores.postgres}
        self._settings = self._settings.model_copy(update=known)
        await together(self._start_workers(), self._start_readers())
        write_endpoints(self.data_dir, self.endpoints)

    async def watch(self) -> None:
        """Keep Kafka alive and the endpoints true; raises `StackError` when a component is given up."""
        # Processes that are kept alive end only when they are given up, which raises.
        forever: list[Coroutine[Any, Any, object]] = [child.process.wait() for child in self.children]
        if self._kafka is not None:
            forever.append(self._kafka.keep())
        await together(*forever, keep_endpoints(self, self._steps))

    async def stop(self) -> None:
        """Who serves clients first, who finish their calls; then the servers. What was not started is passed over."""
        if not self._lock.held:
            return
        remove_endpoints(self.data_dir)
        deadline_s = self._settings.drain_timeout_s + STOP_AFTER_DRAIN_S
        if self._workers or self._readers:
            self._steps.begin("roles", "finishing their calls", state="stopping")
            await asyncio.gather(*(role.process.stop(deadline_s) for role in (*self._readers, *self._workers)))
            self._steps.tell("roles", "stopped")
        self._steps.begin("servers", state="stopping")
        servers = [*self._stores.children, *([] if self._model is None else [self._model])]
        stops = [server.process.stop() for server in servers]
        await asyncio.gather(*stops, *([] if self._kafka is None else [self._kafka.stop()]))
        self._steps.tell("servers", "stopped")
        self._lock.release()

    def kill_workers(self) -> None:
        for worker in self._workers:
            worker.process.signal(signal.SIGKILL)

    def kill_roles(self) -> None:
        """Let `stop` wait for nobody's calls any longer."""
        for role in (*self._readers, *self._workers):
            role.process.signal(signal.SIGKILL)

    async def _start_model(self) -> None:
        self._steps.begin("model")
        if not self.simulates_model:
            self._steps.tell("model", "ready", "the real one: calls may cost money")
            return
        model = self._model = SimulatedModel(self.data_dir, self._options.model_latency_s, self._steps.restarting)
        await model.start()
        self._steps.tell("model", "ready", f"simulated, because ANTHROPIC_API_KEY is not set: {model.url}")

    async def _start_brokers(self) -> None:
        if self._kafka is not None:
            await self._kafka.start()
            self._settings = self._settings.model_copy(update={"brokers": self._kafka.bootstrap, "replication": 1})
        await prepare_topics(self._settings, self._steps)

    async def _start_workers(self) -> None:
        env = self._options.worker_environment(self._settings)
        if self._model is not None:
            env["ANTHROPIC_BASE_URL"] = self._model.url
        for number in range(1, self._options.workers + 1):
            self._workers.append(Role("worker", f"worker-{number}", self.data_dir, env, self._steps.restarting))
        await together(*(start_role(worker, self._steps) for worker in self._workers))

    async def _start_readers(self) -> None:
        port = kept_port(self.data_dir / "gateway" / "port")
        gateway = development_gateway(self._settings.gateway, port)
        self._settings = self._settings.model_copy(update={"gateway": gateway})
        env = self._options.reader_environment(self._settings)
        for role in ROLES_OF_READERS:
            self._readers.append(Role(role, role, self.data_dir, env, self._steps.restarting))
        await together(*(start_role(reader, self._steps) for reader in self._readers))


async def start_role(role: Role, steps: Steps) -> None:
    """Start it, and tell when it serves."""
    steps.begin(role.name)
    await role.start()
    steps.tell(role.name, "ready", f"process {role.process.pid}, log {role.process.log_path}")


async def keep_endpoints(stack: DevelopmentStack, steps: Steps) -> None:
    """Write the endpoints when they change, and tell when a process that was started again serves; never returns."""
    written = stack.endpoints
    unready: set[str] = set()
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        now = stack.endpoints
        if now != written:
            write_endpoints(stack.data_dir, now)
            unready |= {name for name, pid in now.pids.items() if written.pids.get(name) != pid}
            written = now
        for child in stack.children:
            if child.name in unready and child.process.running and child.is_ready():
                unready.remove(child.name)
                steps.tell(child.name, "ready", f"process {child.process.pid}")
