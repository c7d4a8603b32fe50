"""The worker process: wires the pipeline to the world, runs it, and stops it without repeating anything."""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fcntl import LOCK_EX, LOCK_NB, flock

import structlog
import uvloop
from faust.types import AppT

from agents.directory import Directory
from agents.models.anthropic_client import AnthropicClient
from agents.models.backoff import RetryPolicy
from agents.models.prices import load_prices
from runtime.ending import end_process_within
from runtime.following import NotReadError
from runtime.kafka import changelog_topic_name, client_arguments
from runtime.log import setup_logging
from runtime.settings import Settings
from streams.agent_files import read_budgets, read_catalog, read_toolbox
from streams.announce import Announce
from streams.app import attach, create_app, create_table, log_end, until_it_ends
from streams.expire import expire_idle
from streams.fence import Fence
from streams.lease import HeartbeatLease
from streams.pipeline import Capacity, Pipeline
from streams.ports import NOTHING_SHARED, Shell, Table
from streams.publisher import Publisher
from streams.replay_broadcasts import ReplayBroadcasts
from streams.roster import Roster
from streams.spending import Spending

log = structlog.get_logger(__name__)
GC_ALLOCATIONS = 20_000
"""Between collections of the youngest generation: some milliseconds of full load."""
STOP_REST_S = 25.0
"""For what comes after its drain timeout: a worker records, commits, leaves the group and closes its tables."""
EXPIRE_INTERVAL_S = 3_600.0
RENEW_INTERVAL_S = 6 * 3_600.0
"""Kafka forgets the epoch of who writes nothing for a day, and who claimed what after seven days."""
SIMULATED_KEY = "simulated"
"""What a model server that is not Anthropic's gets as a key, where none is set."""


class WorkerError(Exception):
    """The worker cannot start or go on; the message says why and what to do."""


def run_worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT, or until it cannot go on.

    Returns:
        The exit status: 0 after a stop that was asked for, 1 after a failure (which was logged).
    """
    setup_logging(settings)
    # Faust tells each start and stop of its services under the name of the module that subclasses them.
    logging.getLogger("streams.consumer").setLevel(logging.WARNING)
    try:
        with _lock(settings):
            uvloop.run(_Worker(settings).run())
    except Exception as error:
        expected = isinstance(error, WorkerError | NotReadError | ValueError | OSError)
        log.error("worker_stopped", error=str(error), kind=type(error).__name__, exc_info=not expected)
        return 1
    return 0


@contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    """Hold the data directory: a second worker on it would wait for RocksDB's lock inside a rebalance, for ever."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = settings.data_dir / "worker.lock"
    with path.open("a+") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise WorkerError(
                f"expected a data directory of its own, got {settings.data_dir}, which worker process "
                f"{file.read().strip() or 'unknown'} uses: give this worker another --data-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class _Worker:
    """One run of a worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalog = read_catalog(settings)
        self._directory = Directory()
        self._toolbox = read_toolbox(settings, self._directory, os.environ)
        self._prices = load_prices(settings.prices)
        self._spending = _spending(settings)
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, self._stop.set)
        model = self._model_client()
        settings = self._settings
        publisher = Publisher(client_arguments(settings), settings.partitions, changelog_topic_name(settings))
        roster = Roster(settings, self._catalog, self._directory)
        await publisher.start()
        try:
            await self._toolbox.open()
            self._tell_missing_tools()
            # A turn that goes on here must find the agent that it began with.
            await roster.start()
            await self._run_pipeline(model, publisher, roster)
        finally:
            await roster.stop()
            await model.close()
            await self._spending.close()
            await self._toolbox.close()
            await publisher.stop()
        if self._failure is not None:
            raise self._failure

    async def _run_pipeline(self, model: AnthropicClient, publisher: Publisher, roster: Roster) -> None:
        settings = self._settings
        # After kill -9 it is still there, with a process id that another worker may have by now.
        (settings.data_dir / "worker.ready").unlink(missing_ok=True)
        app = create_app(settings)
        table = create_table(app, settings)
        lease = HeartbeatLease()
        end = log_end(app, settings)
        shell = Shell(
            publisher, lambda: datetime.now(UTC), self._fail, settings.topic_prefix, lease, end, roster, self._spending
        )
        capacity = Capacity(
            model_calls_in_flight=settings.model.in_flight,
            tool_calls_in_flight=settings.tool_calls_in_flight,
            remote_calls_in_flight=settings.remote_calls_in_flight,
            cached_sessions=settings.session_cache,
        )
        pipeline = Pipeline(shell, table, self._catalog, model, self._toolbox, capacity)
        attach(app, pipeline, settings, self._fail, fence=publisher.fence, lease=lease)
        starting = asyncio.create_task(app.start())
        starting.add_done_callback(self._started)
        announce = Announce(shell, self._catalog, _name(settings), self._offered_tools, pipeline.calls_in_flight)
        chores = [
            asyncio.create_task(self._expire(shell, table, pipeline)),
            asyncio.create_task(self._renew(publisher.fence, lease)),
            asyncio.create_task(roster.run()),
            asyncio.create_task(until_it_ends(app)),
            asyncio.create_task(self._announce(announce, roster, starting)),
            asyncio.create_task(self._replay(ReplayBroadcasts(settings, shell, self._catalog), starting)),
        ]
        for chore in chores:
            chore.add_done_callback(self._ended)
        try:
            await self._stop.wait()
        finally:
            end_process_within(self._settings.drain_timeout_s + STOP_REST_S)
            for chore in chores:
                chore.cancel()
            announce.retire()
            starting.cancel()
            await self._shut_down(app, pipeline)

    def _tell_missing_tools(self) -> None:
        """An agent answers without the tools of a server that cannot be reached; whoever runs it should know."""
        for name, spec in self._catalog.files.items():
            offered = {definition.name for definition in self._toolbox.definitions(spec.tools)}
            missing = [tool for tool in spec.tools if tool not in offered]
            if missing:
                hint = "their servers do not have them, or cannot be reached: the agent answers without them"
                log.error("tools_missing", agent=name, tools=missing, hint=hint)

    def _model_client(self) -> AnthropicClient:
        settings = self._settings
        key = settings.anthropic_api_key.get_secret_value() if settings.anthropic_api_key else None
        url = str(settings.anthropic_base_url) if settings.anthropic_base_url else None
        if key is None and url is None:
            raise WorkerError(
                "expected ANTHROPIC_API_KEY, got none: set it, or set ANTHROPIC_BASE_URL to the address that "
                "`headrace simulate-model` prints"
            )
        policy = RetryPolicy(max_attempts=settings.model.attempts)
        return AnthropicClient(key or SIMULATED_KEY, url, self._prices, policy)

    def _started(self, starting: "asyncio.Task[None]") -> None:
        if starting.cancelled():
            return
        error = starting.exception()
        if error is not None:
            self._fail(error)
        else:
            (self._settings.data_dir / "worker.ready").write_text(str(os.getpid()))
            _spare_the_collector()
            log.info("worker_ready", agents=sorted(self._catalog.agents), tools=[t.name for t in self._toolbox.tools])

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Stop the worker: a restart from the tables and the log repairs what went wrong, going on would not."""
        if self._failure is None:
            log.error("worker_failing", error=str(error), kind=type(error).__name__, exc_info=error)
            self._failure = error
            self._stop.set()

    async def _expire(self, shell: Shell, table: Table, pipeline: Pipeline) -> None:
        retention = timedelta(hours=self._settings.session_retention_hours)
        while True:
            await asyncio.sleep(min(EXPIRE_INTERVAL_S, retention.total_seconds()))
            ordered = await expire_idle(shell, table, pipeline.sessions.partitions(), retention)
            if ordered:
                log.info("sessions_expired", count=ordered)

    def _offered_tools(self) -> list[str]:
        """The tools that an applied agent may name: not those that lack a setting, or whose server is not reached."""
        lacking = {tool.name for tool in self._toolbox.tools if tool.missing is not None}
        return [known.name for known in self._toolbox.known_definitions() if known.name not in lacking]

    async def _announce(self, announce: Announce, roster: Roster, starting: "asyncio.Task[None]") -> None:
        """Tell of the agents as soon as they are served, not before."""
        await asyncio.wait([starting])
        if not starting.cancelled() and starting.exception() is None:
            await announce.run(roster.changed)

    async def _replay(self, replay: ReplayBroadcasts, starting: "asyncio.Task[None]") -> None:
        """Agents are given what they missed by a worker that works."""
        await asyncio.wait([starting])
        if not starting.cancelled() and starting.exception() is None:
            await replay.run()

    async def _renew(self, fence: Fence, lease: HeartbeatLease) -> None:
        while True:
            await asyncio.sleep(RENEW_INTERVAL_S)
            # One that was paused must not claim what is another's.
            await lease.held()
            await fence.renew()

    async def _shut_down(self, app: AppT, pipeline: Pipeline) -> None:
        """Take no more records, let calls finish, record, commit, leave the group."""
        (self._settings.data_dir / "worker.ready").unlink(missing_ok=True)
        log.info("worker_stopping", model_calls=len(pipeline.model_calls), tool_calls=len(pipeline.tool_calls))
        if app.consumer is not None:
            app.consumer.stop_flow()
        app.flow_control.suspend()
        if self._failure is None and not await pipeline.drain(self._settings.drain_timeout_s):
            log.warning("drain_timeout", seconds=self._settings.drain_timeout_s, hint="raise drain_timeout_s")
        await pipeline.suspend()
        await app.stop()


def _spending(settings: Settings) -> Spending:
    """The shared budgets; without any, the worker has nothing to do with Redis."""
    budgets = read_budgets(settings.budgets)
    if not budgets:
        return NOTHING_SHARED
    if settings.redis is None:
        raise WorkerError(
            f"expected Redis for the shared budgets of {settings.budgets}, got none: give its URL in HEADRACE_REDIS"
        )
    from runtime.stores import redis_prefix, redis_url
    from streams.redis_counter import RedisCounter

    return Spending(budgets, RedisCounter(redis_url(settings), redis_prefix(settings)), settings.partitions)


def _name(settings: Settings) -> str:
    """What the directory calls this worker: its own name, or that of its machine and process."""
    return settings.name or f"{socket.gethostname()}-{os.getpid()}"


def _spare_the_collector() -> None:
    """What lives now lives as long as the worker: the collector need not walk it again and again.

    With Python's own threshold of 700 allocations, collections took an eighth of a busy worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
