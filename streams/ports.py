"""What the processors need of the world. Faust and Kafka are one implementation, the simulation's memory is another."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from schemas.codec import Headers, encode
from schemas.topics import Topic
from streams.spending import Spending


@dataclass(slots=True, frozen=True, eq=False)
class Delivery:
    """A record that a processor takes; `ack` lets its offset be committed, in the order of the partition only."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    at: datetime
    ack: Callable[[], object]


class FencedError(Exception):
    """Another worker has the partition: it reads the same records, and what it writes counts."""

    def __init__(self, topic: str, partition: int | None) -> None:
        super().__init__(
            f"expected to hold the claim on {topic}/{partition}, got refused: another worker has claimed it, so this "
            "one leaves it alone; start this worker again if it does not go on by itself"
        )


class Outbox(Protocol):
    """Where processors append records. Records of one caller to one partition keep their order."""

    async def append(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> asyncio.Future[int]:
        """Hand over a record; back-pressure may wait here.

        Returns:
            Resolves to the record's offset when the broker has it on all replicas in sync. An exception means that
            it may be lost: whoever ordered it must stop, and until then every further append must fail, or a later
            record would stand where readers expect the lost one. A changelog is fenced: FencedError means that the
            record is not there, and none of this worker will be, until it is given the partition again.
        """

    def partition_of(self, key: bytes) -> int:
        """The partition of the pipeline's topics that a key belongs to."""

    def post(
        self, topic: str, *, key: bytes, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> None:
        """Hand over an advisory record, in order, without waiting; dropped where too many wait already.

        To the key's partition among the pipeline's, unless another one is named.
        """


class Table(Protocol):
    """The sessions of the partitions that this worker holds, backed by a changelog topic."""

    changelog_topic: str

    def get(self, partition: int, key: bytes) -> bytes | None: ...

    def put(self, partition: int, items: Sequence[tuple[bytes, bytes | None]], changelog_offset: int) -> None:
        """Store what the changelog has up to `changelog_offset`; None deletes."""

    def heads(self, partition: int) -> Iterable[bytes]:
        """The stored heads of all sessions of a partition."""

    def waits(self, partition: int) -> Iterable[bytes]:
        """The stored `Wait`s of a partition: calls that wait until a certain time."""


class Lease(Protocol):
    """Whether this worker's partitions are its own for certain: no other can have been given them yet."""

    @property
    def is_held(self) -> bool: ...

    async def held(self) -> None:
        """Wait until it is."""


class Unlimited:
    """The lease of a worker that has no rivals."""

    is_held = True

    async def held(self) -> None:
        """At once."""


UNLIMITED = Unlimited()


class Specs(Protocol):
    """How far this worker has read the agents that were applied."""

    async def reached(self, offset: int) -> None:
        """Wait until it has read them up to `offset`."""


class NothingApplied:
    """The agents of a worker that has those of its files only."""

    async def reached(self, offset: int) -> None:
        """Nobody has read any."""
        del offset


NOTHING_APPLIED = NothingApplied()
NOTHING_SHARED = Spending()
"""No budget is declared: nobody is asked."""
LogEnd = Callable[[int], Awaitable[int]]
"""Asks the broker how far a partition of the session log goes now: the offset that the next record will have."""


async def endless(partition: int) -> int:
    """The end of a log of which nobody can say that it has no record at some offset."""
    del partition
    return sys.maxsize


Clock = Callable[[], datetime]
Fail = Callable[[BaseException], None]
"""Called with what makes the worker stop: it cannot go on without breaking the promise."""


class Processor(Protocol):
    """Takes the records of its topic, in the order of each partition.

    While it `is_full` it should be given no more; it takes what was fetched already.
    """

    @property
    def is_full(self) -> bool: ...

    async def take(self, delivery: Delivery) -> None:
        """Take one record. Waits only for the outbox, or the broker's answer. Never raises for what a record says."""


@dataclass(slots=True, frozen=True)
class Shell:
    """What every processor has."""

    outbox: Outbox
    clock: Clock
    fail: Fail
    topic_prefix: str = ""
    lease: Lease = UNLIMITED
    log_end: LogEnd = endless
    specs: Specs = NOTHING_APPLIED
    spending: Spending = NOTHING_SHARED

    async def append(
        self, topic: Topic, record: Struct, session_id: str, headers: Headers, partition: int | None = None
    ) -> asyncio.Future[int]:
        """Append a record under its session's key; see `Outbox.append`.

        `partition` spares the hash of the key where it is known: all topics of a session have the same.
        """
        name = self.topic_prefix + topic.name
        return await self.outbox.append(
            name, key=session_id.encode(), value=encode(record), headers=headers, partition=partition
        )
