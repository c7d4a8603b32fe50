"""One scenario, from an empty cluster to its findings."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from chaos import tools
from chaos.cluster import Cluster, Worker
from chaos.door import Door, HttpLoad
from chaos.findings import Evidence, Findings, Outage, judge
from chaos.kafka import ProxiedKafka
from chaos.load import Load, Watch, running
from chaos.proxy import Proxy
from chaos.small_disk import SmallDisk

from headrace.stack.ports import free_port
from runtime.agent_files import read_catalog
from runtime.kafka import changelog_topic_name, group_id
from runtime.settings import Settings
from schemas.topics import SESSION_LOG

HERE = Path(__file__).parent
LATENCY_S = 1.0
PER_S = 15.0
"""Two cores have room for as much again while they catch up."""
ANSWERED_S = 90.0
"""A worker that stopped is started again within this time, and the backlog of the longest outage is answered."""
SETTLED_S = 10.0
IN_TIME_S = 7.0
"""The session timeout of 10 s is counted from the last heartbeat, one every 2 s."""
POLL_S = 0.1


class Run:
    """What a scenario works with: the cluster, people who write all the time, and proxies before brokers and model."""

    def __init__(self, home: Path, scenario: "Scenario") -> None:
        self._scenario = scenario
        self.kafka = ProxiedKafka(home)
        self.model = Proxy(free_port(), 0)
        self.notes = home / "notes.txt"
        environment = {
            "HEADRACE_AGENTS": str(HERE / "agents.toml"),
            "HEADRACE_TOOLS": str(HERE / "tools.py"),
            "HEADRACE_BROKERS": self.kafka.proxy.address,
            "ANTHROPIC_BASE_URL": f"http://{self.model.address}",
            tools.FILE: str(self.notes),
        }
        if not scenario.are_named:
            environment["HEADRACE_NAME"] = ""
        self.cluster = Cluster(home, latency_s=LATENCY_S, kafka=self.kafka, environment=environment)
        self.model.target = int(self.cluster.model_url.rpartition(":")[2])
        self._proxies = (*self.kafka.proxies.values(), self.model)
        self.watch = Watch()
        self.outages: list[Outage] = []
        self.repaired_at: float | None = None
        self.restarts = 0
        self._door = Door(home) if scenario.has_door else None
        self.disk = SmallDisk(home)

    @property
    def networks(self) -> tuple[Proxy, ...]:
        """Between the workers and the brokers: that of the first worker, that of all others."""
        return (self.kafka.lonely, self.kafka.proxy)

    @property
    def door(self) -> Door:
        assert self._door is not None, "this scenario has none"
        return self._door

    @property
    def workers(self) -> list[Worker]:
        return self.cluster.workers

    async def start(self) -> None:
        scenario = self._scenario
        if scenario.has_small_disk:
            await self.disk.start()
        await asyncio.gather(*(proxy.start() for proxy in self._proxies))
        await self.cluster.start(workers=0)
        numbers = range(2, scenario.workers + 1)
        lonely = Worker(self.cluster, 1, {"HEADRACE_BROKERS": self.kafka.lonely.address})
        if scenario.has_small_disk:
            lonely.data_dir = self.disk.path / "worker-1"
        self.cluster.workers = [lonely, *(Worker(self.cluster, number) for number in numbers)]
        await asyncio.gather(*(worker.start() for worker in self.workers))
        brokers = self.kafka.bootstrap
        if self._door is None:
            self.load: Load = Load(brokers, scenario.per_s, padding=scenario.padding)
        else:
            await self._door.start({**self.cluster.environment, "HEADRACE_BROKERS": brokers})
            self.load = HttpLoad(brokers, scenario.per_s, self._door.url)

    async def stop(self) -> None:
        for worker in self.workers:
            if worker.is_running:
                worker.process.signal(signal.SIGCONT)
        for proxy in self._proxies:
            proxy.mend()
        if self._door is not None:
            await self._door.stop()
        await self.cluster.stop()
        await asyncio.gather(*(proxy.stop() for proxy in self._proxies))
        await self.disk.stop()

    @asynccontextmanager
    async def outage(self, moves: int = 1) -> AsyncIterator[None]:
        """Calls that run meanwhile, or whose outcome is not in the log yet, may be made again.

        `moves`: how often partitions may move meanwhile, each time with the calls that run there.
        """
        before, restarts = await self.log_ends(), self.restarts
        yield
        begun = frozenset(await self.cluster.model_calls())
        self.outages.append(Outage(before, begun, moves + self.restarts - restarts))
        self.repaired_at = time.monotonic()

    async def kill(self, *workers: Worker) -> None:
        """SIGKILL to all of them at once."""
        async with self.outage():
            await asyncio.gather(*(worker.kill() for worker in workers))

    @asynccontextmanager
    async def back_in_time(self) -> AsyncIterator[None]:
        """Workers are away meanwhile. For longer than their session timeout, their partitions move to others and back.

        What moves between workers that live is an outage too: calls that run there are made again.
        """
        before, began = await self.log_ends(), time.monotonic()
        yield
        if time.monotonic() - began > IN_TIME_S:
            await self.regrouped()
            begun = frozenset(await self.cluster.model_calls())
            self.outages.append(Outage(before, begun, 2))

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Somebody starts workers again that end by themselves, as a supervisor does."""

        async def keep(worker: Worker) -> None:
            while True:
                await worker.process.wait()
                self.restarts += 1
                await asyncio.sleep(POLL_S)
                await worker.begin()

        tasks = [asyncio.create_task(keep(worker)) for worker in self.workers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def regrouped(self) -> None:
        """Wait until every worker that runs is in the group, and partitions move no more."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await admin.start()
        try:
            async with asyncio.timeout(ANSWERED_S):
                while await _members(admin) != sum(worker.is_running for worker in self.workers):
                    await asyncio.sleep(POLL_S)
        finally:
            await admin.close()

    async def log_ends(self) -> Mapping[int, int]:
        """Where each partition of the session log ends now."""
        consumer = aiokafka.AIOKafkaConsumer(SESSION_LOG.name, bootstrap_servers=self.kafka.bootstrap)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
        finally:
            await consumer.stop()
        return {place.partition: end for place, end in ends.items()}

    async def all_answered(self) -> None:
        """Wait until every message that was acknowledged has its end, or for as long as that may take."""
        deadline = time.monotonic() + ANSWERED_S
        while self.load.sent.keys() - self.watch.ended.keys() and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)

    async def findings(self) -> Findings:
        """What is left, once the workers have recorded what they did."""
        deadline = time.monotonic() + SETTLED_S
        while (found := judge(await self._evidence())).problems and time.monotonic() < deadline:
            await asyncio.sleep(1.0)
        if self._door is not None:
            found.problems += await self._door.check(self.load.sent)
        return found

    async def _evidence(self) -> Evidence:
        settings = Settings(agents=HERE / "agents.toml")
        changelog = changelog_topic_name(settings)
        records = await self.cluster.topics()
        return Evidence(
            sent=list(self.load.sent),
            malformed=self.load.malformed,
            records={**records, changelog: await self.cluster.read(changelog)},
            changelog=changelog,
            calls=await self.cluster.model_calls(),
            outages=self.outages,
            model_fails=self._scenario.model_fails,
            notes=self.notes.read_text().splitlines() if self.notes.exists() else [],
            catalog=read_catalog(settings),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What happens while people write; `model_fails`: so that calls are tried again.

    `silence_s`: how long nobody can be answered at least, which shows that it happened.

    With a door, people write over HTTP and read the feeds, and everything can be read back afterwards. With a small
    disk, the first worker has its data there. Workers without names leave their group when they stop.
    """

    name: str
    happens: Callable[[Run], Awaitable[None]]
    workers: int = 3
    per_s: float = PER_S
    padding: int = 0
    model_fails: bool = False
    has_door: bool = False
    has_small_disk: bool = False
    are_named: bool = True
    silence_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table."""

    scenario: str
    findings: Findings
    silence_s: float
    longest_wait_s: float
    recovery_s: float | None
    restarts: int
    took_s: float


async def perform(scenario: Scenario, home: Path) -> Row:
    """Let it happen in `home`, an empty folder, and judge what is left."""
    began = time.monotonic()
    run = Run(home, scenario)
    try:
        await run.start()
        watching = asyncio.create_task(run.watch.run(run.kafka.bootstrap))
        try:
            async with running(run.load):
                await scenario.happens(run)
            await run.all_answered()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        findings = await run.findings()
    finally:
        await run.stop()
    if run.watch.silence_s() < scenario.silence_s:
        findings.problems.append(f"expected {scenario.silence_s} s of silence, got {run.watch.silence_s():.1f} s")
    return Row(
        scenario=scenario.name,
        findings=findings,
        silence_s=run.watch.silence_s(),
        longest_wait_s=run.watch.longest_wait_s(run.load.sent),
        recovery_s=_recovery_s(run),
        restarts=run.restarts + (len(run.door.restarts) if scenario.has_door else 0),
        took_s=time.monotonic() - began,
    )


async def _members(admin: AIOKafkaAdminClient) -> int:
    """Of the workers' group; 0 while it is not stable."""
    try:
        (response,) = await admin.describe_consumer_groups([group_id(Settings())])
    except KafkaError:
        return 0  # The broker was killed, and finds its groups again.
    ((_, _, state, _, _, members, *_),) = response.groups
    return len(members) if state == "Stable" else 0


def _recovery_s(run: Run) -> float | None:
    """From the end of the last outage until everything that was sent before it had its end."""
    if run.repaired_at is None:
        return None
    waiting = [
        run.watch.ended[key] for key, at in run.load.sent.items() if at <= run.repaired_at and key in run.watch.ended
    ]
    return max(0.0, max(waiting, default=0.0) - run.repaired_at)
