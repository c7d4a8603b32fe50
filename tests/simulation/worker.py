"""A worker in the simulation: the real pipeline over the broker in memory, killed and rebalanced by the scheduler."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

from msgspec.structs import replace
from simulation.broker import CHANGELOG, Broker, Outbox, Place
from simulation.cast import Applied, catalog_of
from simulation.invariants import Started
from simulation.loop import sleeper
from simulation.script import Calls
from simulation.tools import ScriptedTools

from schemas.topics import SESSION_LOG
from streams.pipeline import Capacity, Pipeline
from streams.ports import Delivery, FencedError, Shell
from streams.store import HEAD_PREFIX, WAIT_PREFIX

CAPACITY = Capacity(model_calls_in_flight=3, tool_calls_in_flight=2, cached_sessions=2, record_linger_s=0)
"""So small that calls wait for a place, and sessions leave the cache."""
STOP_S = 3.0
owner: ContextVar["Worker | None"] = ContextVar("owner", default=None)
"""Whose task creates tasks: they die with their worker."""


class Lease:
    """Lost while the worker is paused; held again when it is a member of the group again."""

    def __init__(self) -> None:
        self.is_held = True
        self._waiting: list[asyncio.Future[None]] = []

    async def held(self) -> None:
        while not self.is_held:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]

    def hold(self) -> None:
        self.is_held = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()


class Tables:
    """The sessions of the partitions held, read back from the changelog at each assignment.

    From its beginning, as into memory; or, where it `is_kept`, from the last offset that it reflects, as on a disk.
    """

    changelog_topic = CHANGELOG

    def __init__(self, *, is_kept: bool = False) -> None:
        self.data: dict[int, dict[bytes, bytes]] = {}
        self._is_kept = is_kept
        self._kept: dict[int, dict[bytes, bytes]] = {}
        self._reflected: dict[int, int] = {}
        self._is_full = False

    def recover(self, broker: Broker, partitions: Iterable[int]) -> None:
        if not self._is_kept:
            self._kept.clear()
            self._reflected.clear()
        self.data = {partition: self._kept.setdefault(partition, {}) for partition in partitions}
        self._is_full = False
        for partition in self.data:
            new = broker.logs[CHANGELOG, partition][self._reflected.get(partition, -1) + 1 :]
            if new:
                self.put(partition, [(record.key or b"", record.value) for record in new], new[-1].offset)

    def fill(self) -> None:
        """No more fits on the disk."""
        self._is_full = True

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.data[partition].get(key)

    def put(self, partition: int, items: Sequence[tuple[bytes, bytes | None]], changelog_offset: int) -> None:
        if self._is_full:
            raise OSError("no space left on the disk")
        self._reflected[partition] = changelog_offset
        for key, value in items:
            if value is None:
                self.data[partition].pop(key, None)
            else:
                self.data[partition][key] = value

    def heads(self, partition: int) -> Iterable[bytes]:
        return [value for key, value in self.data[partition].items() if key.startswith(HEAD_PREFIX)]

    def waits(self, partition: int) -> Iterable[bytes]:
        return [value for key, value in self.data[partition].items() if key.startswith(WAIT_PREFIX)]


class Roster:
    """What a worker has read of the agents that were applied: all at its start, then one after the other."""

    def __init__(self, applied: Sequence[Applied]) -> None:
        self._applied = applied
        self.catalog = catalog_of(applied)
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_behind(self) -> bool:
        return self.catalog.read_to + 1 < len(self._applied)

    def read(self) -> str:
        """The next one."""
        offset = self.catalog.read_to + 1
        self.catalog.apply(offset, *self._applied[offset])
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        return f"offset {offset}"

    async def reached(self, offset: int) -> None:
        while self.catalog.read_to < offset:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]


class Worker:
    """One life of a worker process; it may live through several assignments, and sleep through some.

    When it wakes up it `is_member` no more, and does not know it: it goes on with what it has until the group tells it.
    """

    def __init__(
        self,
        broker: Broker,
        calls: Calls,
        acknowledged: list[tuple[str, str, int, int]],
        applied: Sequence[Applied] = (),
        *,
        is_kept: bool = False,
        linger_s: float = 0,
    ) -> None:
        self.name = broker.next_worker()
        self.broker = broker
        self.calls = calls
        self.outbox = Outbox(broker)
        self.tables = Tables(is_kept=is_kept)
        self.lease = Lease()
        self.is_paused = False
        self.naps = 0
        self.missed: list[Callable[[], None]] = []
        self.is_member = True
        self.is_stopping = False
        self.steps: list[Callable[[], None]] = []
        """What it must do yet before it reads the partitions that it was given."""
        self.failure: BaseException | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        self.taking: asyncio.Task[None] | None = None
        self.positions: dict[Place, int] = {}
        self.begun: dict[Place, int] = {}
        """Where it began to read, in this assignment."""
        self.done: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}
        self.began_log: list[Started] = []
        self._assignment = 0
        self._acknowledged = acknowledged
        self.roster = Roster(applied)
        self.shell = Shell(
            self.outbox,
            lambda: broker.now,
            self.fail,
            lease=self.lease,
            log_end=partial(log_end, broker),
            specs=self.roster,
        )
        capacity = replace(CAPACITY, record_linger_s=linger_s)
        self.pipeline = Pipeline(
            self.shell, self.tables, self.roster.catalog, self.calls.model(self.began), ScriptedTools(self), capacity
        )
        self.processors = {node.reads.name: processor for node, processor in self.pipeline.processors().items()}

    def began(self, session_id: str, call_id: str, tool: str | None = None) -> str:
        """Note that a call begins; its id."""
        end = self.broker.end((SESSION_LOG.name, self.calls.partition_of(session_id)))
        self.calls.started.append(Started(call_id=call_id, log_end=end, tool=tool))
        return call_id

    def assign(self, partitions: set[int]) -> None:
        """It is given these; between the steps to them anything may happen, to it and to others."""
        self._assignment += 1
        self.done = {}
        claims = {(CHANGELOG, partition): self.broker.next_claim() for partition in sorted(partitions)}
        self.outbox.claims = {}
        self.steps = [
            partial(self._claim, claims),
            partial(self.tables.recover, self.broker, partitions),
            partial(self._begin, partitions),
        ]

    def _claim(self, claims: dict[Place, int]) -> None:
        try:
            for place, epoch in claims.items():
                self.broker.claim(place, epoch)
        except FencedError as error:
            self.fail(error)
        self.outbox.claims = claims
        self._committed = dict(self.broker.committed)

    def _begin(self, partitions: set[int]) -> None:
        committed = self._committed
        self.positions = {
            (topic, partition): committed.get((topic, partition), 0)
            for topic in self.processors
            for partition in sorted(partitions)
        }
        self.begun = dict(self.positions)
        log = SESSION_LOG.name
        if self.is_member:
            self.outbox.is_late = False
            self.lease.hold()
        self.outbox.is_between = False
        self.pipeline.resume(
            {partition: committed.get((log, partition), 0) - 1 for partition in partitions},
            {partition: self.broker.end((log, partition)) - 1 for partition in partitions},
        )

    def pause(self) -> None:
        """For longer than its session timeout: the group gives its partitions to others."""
        self.is_paused = True
        self.naps += 1
        self.is_member = False
        self.outbox.is_late = True
        self.lease.is_held = False

    def join(self) -> None:
        """The group has told it that it was taken for dead: it takes part in the next rebalance."""
        self.is_member = True
        # What it acknowledges from now on is of a generation that is over.
        self._assignment += 1
        self.done = {}

    def revoke(self) -> asyncio.Task[None]:
        """A rebalance begins: no record is taken until the next assignment."""
        self.positions = {}
        self.begun = {}
        self.steps = []
        return spawn(self, suspend(self))

    def readable(self) -> list[Place]:
        """Where it can take a record now; it takes one at a time."""
        if self.is_stopping or (self.taking is not None and not self.taking.done()):
            return []
        return [
            place
            for place, offset in self.positions.items()
            if offset < self.broker.end(place) and not self.processors[place[0]].is_full
        ]

    def take(self, place: Place) -> str:
        record = self.broker.logs[place][self.positions[place]]
        self.positions[place] += 1
        delivery = Delivery(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
            at=record.at,
            ack=partial(self._ack, self._assignment, place, record.offset),
        )
        self.taking = spawn(self, self._take(place, delivery))
        return f"offset {record.offset}: {(record.value or b'')[:100].decode(errors='replace')}"

    async def _take(self, place: Place, delivery: Delivery) -> None:
        try:
            await self.processors[place[0]].take(delivery)
        except Exception as error:  # noqa: BLE001  # The world says which of them a worker may stop for.
            self.fail(error)

    def commit(self) -> None:
        """Of one that is no member, the group takes no offsets."""
        if not self.is_member or self.broker.is_down:
            return
        self.broker.committed.update(self.done)

    def kill(self) -> None:
        """Everything in memory is gone; records that were sent may still arrive."""
        self.outbox.is_dead = True
        for task in self.tasks:
            task.cancel()

    def _ack(self, assignment: int, place: Place, offset: int) -> None:
        if self.outbox.is_dead or assignment != self._assignment or place not in self.positions:
            return
        self._acknowledged.append((f"{self.name}/{assignment}", *place, offset))
        self.done[place] = offset + 1

    def fail(self, error: BaseException) -> None:
        if not self.outbox.is_dead:
            self.failure = error


async def log_end(broker: Broker, partition: int) -> int:
    """How far the session log goes; it takes its time."""
    await asyncio.sleep(0)
    return broker.end((SESSION_LOG.name, partition))


def spawn(worker: Worker, work: Any) -> asyncio.Task[None]:
    """A task of the worker's."""
    tokens = owner.set(worker), sleeper.set(worker)
    try:
        return asyncio.get_running_loop().create_task(work)
    finally:
        owner.reset(tokens[0])
        sleeper.reset(tokens[1])


async def suspend(worker: Worker) -> None:
    """What a rebalance waits for. What is on its way after that, others have not waited for."""
    await worker.pipeline.suspend()
    worker.outbox.begin_generation()


async def stop(worker: Worker) -> None:
    """As by SIGTERM: what is under way may end, for a while; then the worker is gone."""
    worker.is_stopping = True
    await worker.pipeline.drain(STOP_S)
    worker.commit()
    worker.fail(InterruptedError("it was told to stop"))


def wake(worker: Worker) -> None:
    """It goes on where it was; the timers that rang meanwhile are due."""
    worker.is_paused = False
    missed, worker.missed = worker.missed, []
    for ring in missed:
        asyncio.get_running_loop().call_soon(ring)


def track_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Every task belongs to the worker whose task created it."""

    def create(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **options)
        worker = owner.get()
        if worker is not None:
            worker.tasks.add(task)
            task.add_done_callback(worker.tasks.discard)
            if worker.outbox.is_dead:
                task.cancel()
        return task

    loop.set_task_factory(create)
