"""The session log as this worker sees it: what it appends is decided as soon as it is durable, not when it is fetched.

An acknowledgement carries its record's offset, so a record that this worker wrote need not come back from the broker
before it is acted on. Whichever comes first, acknowledgement or fetch, is taken, in the order of the offsets.

Nothing is taken while the lease is not held: a worker that was stopped for long would publish again what the next owner
of its partitions has published. Readers drop that, but it is sent to them.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.codec import Headers, encode
from schemas.log import SessionEvent
from schemas.topics import SESSION_LOG
from streams.ports import Delivery, Processor, Shell

MAX_STASHED = 1_000
"""Records of a partition that were acknowledged before others that precede them, or that wait for the lease; further
ones come with the fetch."""


class Early:
    """The acknowledgement of a record that was taken before it was fetched: both must have happened."""

    def __init__(self) -> None:
        self._is_done = False
        self._fetched: Delivery | None = None

    def done(self) -> None:
        self._is_done = True
        if self._fetched is not None:
            self._fetched.ack()

    def fetched(self, delivery: Delivery) -> None:
        if self._is_done:
            delivery.ack()
        else:
            self._fetched = delivery


@dataclass(slots=True)
class Line:
    """One partition of the log: `next` is the offset that is to be taken."""

    next: int
    inbox: deque[tuple[Delivery, bool]] = field(default_factory=deque)
    early: dict[int, Early] = field(default_factory=dict)
    stash: dict[int, Delivery] = field(default_factory=dict)
    is_busy: bool = False


class SessionLog:
    """Appends to the log, and gives its records to `decide`, each once and in order."""

    def __init__(self, shell: Shell, decide: Processor) -> None:
        self._shell = shell
        self._decide = decide
        self._lines: dict[int, Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._topic = shell.topic_prefix + SESSION_LOG.name

    @property
    def is_full(self) -> bool:
        return self._decide.is_full or not self._shell.lease.is_held

    def restart(self, positions: dict[int, int]) -> None:
        """Begin after `positions`, the last offset of each partition that is committed."""
        for line in self._lines.values():
            line.inbox.clear()
            line.stash.clear()
        self._lines = {partition: Line(position + 1) for partition, position in positions.items()}

    async def append(self, event: SessionEvent, headers: Headers, partition: int) -> asyncio.Future[int]:
        """Append an event to its session's partition; see `Outbox.append`."""
        key, value = event.session_id.encode(), encode(event)
        durable = await self._shell.outbox.append(
            self._topic, key=key, value=value, headers=headers, partition=partition
        )

        def offer(future: asyncio.Future[int]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._offer(
                    Delivery(self._topic, partition, future.result(), key, value, headers, event.at, ack=_nothing)
                )

        durable.add_done_callback(offer)
        return durable

    async def take(self, delivery: Delivery) -> None:
        """A record came with the fetch."""
        line = self._lines.setdefault(delivery.partition, Line(delivery.offset))
        line.inbox.append((delivery, True))
        if not line.is_busy:
            await self._drain(line)

    def _offer(self, delivery: Delivery) -> None:
        """A record was acknowledged."""
        line = self._lines.get(delivery.partition)
        if line is None:
            return  # Another worker has the partition.
        if len(line.inbox) >= MAX_STASHED and not self._shell.lease.is_held:
            return
        line.inbox.append((delivery, False))
        if not line.is_busy:
            self._begin(line, self._drain(line))

    def _begin(self, line: Line, work: Coroutine[Any, Any, None]) -> None:
        line.is_busy = True
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._drained)

    def _drained(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._shell.fail(error)

    async def _drain(self, line: Line) -> None:
        line.is_busy = True
        while line.inbox:
            if not self._shell.lease.is_held:
                # In a task of its own: whoever gives out the records must not wait, as a rebalance waits for them.
                self._begin(line, self._drain_when_held(line))
                return
            delivery, is_fetched = line.inbox.popleft()
            if is_fetched:
                await self._take_fetched(line, delivery)
            else:
                await self._take_offered(line, delivery)
            while (stashed := line.stash.pop(line.next, None)) is not None:
                await self._take_early(line, stashed)
        # Not where something failed: what follows must not be decided, and the worker stops.
        line.is_busy = False

    async def _drain_when_held(self, line: Line) -> None:
        await self._shell.lease.held()
        await self._drain(line)

    async def _take_fetched(self, line: Line, delivery: Delivery) -> None:
        early = line.early.pop(delivery.offset, None)
        if early is not None:
            early.fetched(delivery)
            return
        line.stash.pop(delivery.offset, None)
        # Offsets may jump: a log has gaps where a transaction ended or retention has deleted.
        line.next = delivery.offset + 1
        await self._decide.take(delivery)

    async def _take_offered(self, line: Line, delivery: Delivery) -> None:
        if delivery.offset == line.next:
            await self._take_early(line, delivery)
        elif delivery.offset > line.next and len(line.stash) < MAX_STASHED:
            line.stash[delivery.offset] = delivery

    async def _take_early(self, line: Line, delivery: Delivery) -> None:
        early = line.early[delivery.offset] = Early()
        line.next = delivery.offset + 1
        await self._decide.take(replace(delivery, ack=early.done))


def _nothing() -> None:
    """What a record that was not fetched has for an acknowledgement until it is taken."""
