"""A worker in the simulation: the real pipeline over the broker in memory, killed and rebalanced by the scheduler."""

import asyncio
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import Any

from simulation.broker import Broker, Outbox, Place
from simulation.invariants import Started
from simulation.script import CATALOG, IDEMPOTENT, Calls

from agents.tools import Toolbox
from agents.tools.port import ToolContext, ToolDefinition, ToolOutcome
from schemas.topics import SESSION_LOG
from streams.pipeline import Capacity, Pipeline
from streams.ports import Delivery, Shell
from streams.store import HEAD_PREFIX

CHANGELOG = "sessions-changelog"
CAPACITY = Capacity(model_calls_in_flight=3, tool_calls_in_flight=2, cached_sessions=2, record_linger_s=0)
"""So small that calls wait for a place, and sessions leave the cache."""
_numbers = count(1)
owner: ContextVar["Worker | None"] = ContextVar("owner", default=None)
"""Whose task creates tasks: they die with their worker."""


class Tables:
    """The sessions of the partitions held, read back from the changelog at each assignment."""

    changelog_topic = CHANGELOG

    def __init__(self) -> None:
        self.data: dict[int, dict[bytes, bytes]] = {}

    def recover(self, broker: Broker, partitions: Iterable[int]) -> None:
        self.data = {partition: {} for partition in partitions}
        for partition in self.data:
            self.put(partition, [(r.key or b"", r.value) for r in broker.logs[CHANGELOG, partition]], 0)

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.data[partition].get(key)

    def put(self, partition: int, items: Sequence[tuple[bytes, bytes | None]], changelog_offset: int) -> None:
        del changelog_offset
        for key, value in items:
            if value is None:
                self.data[partition].pop(key, None)
            else:
                self.data[partition][key] = value

    def heads(self, partition: int) -> Iterable[bytes]:
        return [value for key, value in self.data[partition].items() if key.startswith(HEAD_PREFIX)]


class ScriptedTools(Toolbox):
    """Tools whose outcomes the scheduler gives."""

    def __init__(self, worker: "Worker") -> None:
        super().__init__([])
        self._worker = worker

    def definitions(self, names: Sequence[str]) -> list[ToolDefinition]:
        return [ToolDefinition(name=name, description="d", input_schema={"type": "object"}) for name in names]

    def is_idempotent(self, name: str) -> bool:
        return IDEMPOTENT[name]

    async def run(self, name: str, input: dict[str, Any], *, context: ToolContext, timeout_s: float) -> ToolOutcome:
        del input, timeout_s
        return await self._worker.calls.tool(self._worker.began(context.session_id, context.call_id, name))


class Worker:
    """One life of a worker process; it may live through several assignments."""

    def __init__(self, broker: Broker, calls: Calls, acknowledged: list[tuple[str, str, int, int]]) -> None:
        self.name = f"worker-{next(_numbers)}"
        self.broker = broker
        self.calls = calls
        self.outbox = Outbox(broker)
        self.tables = Tables()
        self.failure: BaseException | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        self.taking: asyncio.Task[None] | None = None
        self.positions: dict[Place, int] = {}
        self.done: dict[Place, int] = {}
        self.began_log: list[Started] = []
        self._assignment = 0
        self._acknowledged = acknowledged
        shell = Shell(self.outbox, lambda: broker.now, self._fail)
        self.pipeline = Pipeline(
            shell, self.tables, CATALOG, self.calls.model(self.began), ScriptedTools(self), CAPACITY
        )
        self.processors = {node.reads.name: processor for node, processor in self.pipeline.processors().items()}

    def began(self, session_id: str, call_id: str, tool: str | None = None) -> str:
        """Note that a call begins; its id."""
        end = self.broker.end((SESSION_LOG.name, self.calls.partition_of(session_id)))
        self.calls.started.append(Started(call_id=call_id, log_end=end, tool=tool))
        return call_id

    def assign(self, partitions: set[int]) -> None:
        self._assignment += 1
        self.tables.recover(self.broker, partitions)
        committed = self.broker.committed
        self.positions = {
            (topic, partition): committed.get((topic, partition), 0)
            for topic in self.processors
            for partition in sorted(partitions)
        }
        self.done = {}
        log = SESSION_LOG.name
        self.pipeline.resume(
            {partition: committed.get((log, partition), 0) - 1 for partition in partitions},
            {partition: self.broker.end((log, partition)) - 1 for partition in partitions},
        )

    def revoke(self) -> asyncio.Task[None]:
        """A rebalance begins: no record is taken until the next assignment."""
        self.positions = {}
        return self.spawn(self.pipeline.suspend())

    def readable(self) -> list[Place]:
        """Where it can take a record now; it takes one at a time."""
        if self.taking is not None and not self.taking.done():
            return []
        return [
            place
            for place, offset in self.positions.items()
            if offset < self.broker.end(place) and not self.processors[place[0]].is_full
        ]

    def take(self, place: Place) -> None:
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
        self.taking = self.spawn(self._take(place, delivery))

    async def _take(self, place: Place, delivery: Delivery) -> None:
        try:
            await self.processors[place[0]].take(delivery)
        except OSError as error:
            self._fail(error)

    def commit(self) -> None:
        self.broker.committed.update(self.done)

    def kill(self) -> None:
        """Everything in memory is gone; records that were sent may still arrive."""
        self.outbox.is_dead = True
        for task in self.tasks:
            task.cancel()

    def spawn(self, work: Any) -> asyncio.Task[None]:
        token = owner.set(self)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            owner.reset(token)

    def _ack(self, assignment: int, place: Place, offset: int) -> None:
        if self.outbox.is_dead or assignment != self._assignment or place not in self.positions:
            return
        self._acknowledged.append((f"{self.name}/{assignment}", *place, offset))
        self.done[place] = offset + 1

    def _fail(self, error: BaseException) -> None:
        if not self.outbox.is_dead:
            self.failure = error


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
