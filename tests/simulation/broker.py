"""A broker in memory: partitions are lists; the scheduler says when a record arrives and is acknowledged."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from zlib import crc32

from simulation.invariants import Record

from schemas.codec import Headers

PARTITIONS = 2
Place = tuple[str, int]


@dataclass(slots=True, eq=False)
class Sent:
    """A record on its way: produced, then stored at `offset`, then acknowledged."""

    record: tuple[bytes | None, bytes | None, Headers]
    acknowledged: asyncio.Future[int]
    offset: int | None = None


@dataclass(slots=True, eq=False)
class Outbox:
    """A producer: what it sends to one partition arrives, and is acknowledged, in order."""

    broker: "Broker"
    is_dead: bool = False
    in_flight: defaultdict[Place, deque[Sent]] = field(default_factory=lambda: defaultdict(deque))
    error: OSError | None = None
    """Of the first record that may be lost: nothing more may be sent after it."""
    gate: asyncio.Future[None] | None = None

    def partition_of(self, key: bytes) -> int:
        return partition_of(key)

    async def append(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> asyncio.Future[int]:
        if self.gate is not None:
            await self.gate
        if self.is_dead:
            raise asyncio.CancelledError
        if self.error is not None:
            raise self.error
        if partition is None:
            partition = partition_of(key)
        assert key is None or topic.endswith("changelog") or partition == partition_of(key), (
            "a record in the wrong place"
        )
        sent = Sent((key, value, headers), asyncio.get_running_loop().create_future())
        self.in_flight[topic, partition].append(sent)
        return sent.acknowledged

    def hold(self) -> None:
        """From now on back-pressure holds whoever appends."""
        self.gate = asyncio.get_running_loop().create_future()

    def release(self) -> None:
        """There is room again."""
        gate, self.gate = self.gate, None
        assert gate is not None
        gate.set_result(None)

    def post(self, topic: str, *, key: bytes, value: bytes, headers: Headers) -> None:
        if not self.is_dead:
            self.broker.store((topic, partition_of(key)), key, value, headers)

    def places(self) -> list[Place]:
        return sorted(place for place, line in self.in_flight.items() if line)

    def arrive(self, place: Place, count: int) -> None:
        """The broker stores the next `count` records of the partition that it does not have yet."""
        for sent in [sent for sent in self.in_flight[place] if sent.offset is None][:count]:
            sent.offset = self.broker.store(place, *sent.record)

    def acknowledge(self, place: Place) -> None:
        """The next record of the partition, stored, is acknowledged."""
        line = self.in_flight[place]
        self.arrive(place, 0 if line[0].offset is not None else 1)
        sent = line.popleft()
        assert sent.offset is not None
        if not sent.acknowledged.done():
            sent.acknowledged.set_result(sent.offset)

    def break_off(self, place: Place, error: OSError) -> None:
        """The connection is lost: nobody knows whether the broker has what was in flight."""
        self.error = error
        while self.in_flight[place]:
            future = self.in_flight[place].popleft().acknowledged
            if not future.done():
                future.set_exception(error)
                future.exception()


class Broker:
    """All topics, and what the consumer group has committed."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.logs: defaultdict[Place, list[Record]] = defaultdict(list)
        self.committed: dict[Place, int] = {}

    def store(self, place: Place, key: bytes | None, value: bytes | None, headers: Headers) -> int:
        log = self.logs[place]
        record = Record(
            topic=place[0],
            partition=place[1],
            offset=len(log),
            key=key,
            value=value,
            headers=tuple(headers),
            at=self.now,
        )
        log.append(record)
        return record.offset

    def end(self, place: Place) -> int:
        return len(self.logs[place])

    def records(self) -> Iterator[Record]:
        for log in self.logs.values():
            yield from log


def partition_of(key: bytes | None) -> int:
    return crc32(key or b"") % PARTITIONS
