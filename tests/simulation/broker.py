"""A broker in memory: partitions are lists; the scheduler says when a record arrives and is acknowledged."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zlib import crc32

from simulation.invariants import Record, Topics

from schemas.codec import Headers
from schemas.topics import SESSION_LOG
from streams.ports import FencedError

PARTITIONS = 2
"""Where nobody says otherwise."""
CHANGELOG = "sessions-changelog"
OF_CALLS = frozenset({b"/headrace/call_model", b"/headrace/call_tool"})
"""Who writes outcomes of calls."""
CLAIM_KEY = b"claim"
Place = tuple[str, int]


@dataclass(slots=True, eq=False)
class Sent:
    """A record on its way: produced, then stored at `offset`, then acknowledged.

    `epoch`: of the claim that it was produced under; None where its topic is not claimed.
    """

    record: tuple[bytes | None, bytes | None, Headers]
    acknowledged: asyncio.Future[int]
    epoch: int | None = None
    offset: int | None = None
    is_refused: bool = False
    is_late: bool = False


@dataclass(slots=True, eq=False)
class Outbox:
    """A producer: what it sends to one partition arrives, and is acknowledged, in order."""

    broker: "Broker"
    is_dead: bool = False
    in_flight: defaultdict[Place, deque[Sent]] = field(default_factory=lambda: defaultdict(deque))
    error: OSError | None = None
    """Of the first record that may be lost: nothing more may be sent after it."""
    gate: asyncio.Future[None] | None = None
    room: int | None = None
    """How many more records it takes before back-pressure holds whoever appends."""
    claims: dict[Place, int] = field(default_factory=dict)
    is_late: bool = False
    """Whether its worker is taken for dead: its records arrive all the same."""
    generation: int = 0
    """Of the assignment. What was appended in an earlier one, and is on its way yet, is late too."""
    is_between: bool = False
    """Whether a rebalance has taken its partitions, and has not given it others yet."""
    stalled: dict[Place, datetime] = field(default_factory=dict)
    """Until when the sends to a partition fail, and are sent again by the producer."""

    def partition_of(self, key: bytes) -> int:
        return self.broker.partition_of(key)

    async def append(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> asyncio.Future[int]:
        generation = self.generation
        if self.is_between and topic == SESSION_LOG.name and dict(headers).get("ce_source") in OF_CALLS:
            self.broker.strays.append(f"{topic}: {(value or b'')[:200].decode()}")
        if self.room is not None:
            self.room -= 1
            if self.room < 0:
                self.hold()
        if self.gate is not None:
            # Shielded: one who is cancelled while waiting does not take the others along.
            await asyncio.shield(self.gate)
        if self.is_dead:
            raise asyncio.CancelledError
        if self.error is not None:
            raise self.error
        if partition is None:
            partition = self.broker.partition_of(key)
        assert key is None or topic.endswith("changelog") or partition == self.broker.partition_of(key), (
            "a record in the wrong place"
        )
        epoch = self.claims.get((topic, partition))
        if topic == CHANGELOG and epoch is None:
            raise FencedError(topic, partition)
        sent = Sent((key, value, headers), asyncio.get_running_loop().create_future(), epoch)
        sent.is_late = generation != self.generation
        self.in_flight[topic, partition].append(sent)
        return sent.acknowledged

    def hold(self) -> None:
        """From now on back-pressure holds whoever appends."""
        self.room = None
        self.gate = asyncio.get_running_loop().create_future()

    def release(self) -> None:
        """There is room again."""
        gate, self.gate = self.gate, None
        assert gate is not None
        gate.set_result(None)

    def post(
        self, topic: str, *, key: bytes, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> None:
        if not self.is_dead:
            place = (topic, self.broker.partition_of(key) if partition is None else partition)
            self.broker.store(place, key, value, headers)

    def places(self) -> list[Place]:
        """Where a record is on its way, and the broker takes it now."""
        now = self.broker.now
        if self.broker.is_down:
            return []
        return sorted(
            place
            for place, line in self.in_flight.items()
            if line and not (self.stalled and self.stalled.get(place, now) > now)
        )

    def begin_generation(self) -> None:
        """The wait of a rebalance is over: what has not arrived comes when others may have looked already."""
        self.generation += 1
        self.is_between = True
        for line in self.in_flight.values():
            for sent in line:
                sent.is_late = True

    def arrive(self, place: Place, count: int) -> None:
        """The broker stores the next `count` records of the partition that it does not have yet."""
        waiting = [sent for sent in self.in_flight[place] if sent.offset is None and not sent.is_refused]
        for sent in waiting[:count]:
            if self.broker.refuses(place, sent.epoch):
                sent.is_refused = True
                continue
            sent.offset = self.broker.store(place, *sent.record)
            if self.is_late or sent.is_late:
                self.broker.late.add((*place, sent.offset))

    def acknowledge(self, place: Place) -> None:
        """The next record of the partition, stored, is acknowledged."""
        line = self.in_flight[place]
        self.arrive(place, 0 if line[0].offset is not None or line[0].is_refused else 1)
        sent = line.popleft()
        if sent.acknowledged.done():
            return
        if sent.is_refused:
            sent.acknowledged.set_exception(FencedError(*place))
            sent.acknowledged.exception()
        else:
            assert sent.offset is not None
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
    """All topics, what the consumer group has committed, and who may write to the changelog."""

    def __init__(self, now: datetime, *, is_fenced: bool = True, partitions: int = PARTITIONS) -> None:
        self.now = now
        self.is_fenced = is_fenced
        self.partitions = partitions
        self.down_until = now
        """Until then nothing can be written, read or committed."""
        self.late: set[tuple[str, int, int]] = set()
        """Topic, partition and offset of what workers wrote that were taken for dead."""
        self._last_claim = 0
        self._last_worker = 0
        self._claimed: dict[Place, int] = {}
        self.logs: defaultdict[Place, list[Record]] = defaultdict(list)
        self.committed: dict[Place, int] = {}
        self.strays: list[str] = []
        """Outcomes of calls that were sent while nobody knew whose their sessions are."""
        self._topics = Topics(())

    @property
    def is_down(self) -> bool:
        return self.now < self.down_until

    def partition_of(self, key: bytes | None) -> int:
        return crc32(key or b"") % self.partitions

    def places(self, topic: str) -> list[Place]:
        """The partitions of a topic."""
        return [(topic, partition) for partition in range(self.partitions)]

    def store(self, place: Place, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
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

    def next_worker(self) -> str:
        self._last_worker += 1
        return f"worker-{self._last_worker}"

    def next_claim(self) -> int:
        """What the coordinator hands out: it counts when a record that has it is stored."""
        self._last_claim += 1
        return self._last_claim

    def claim(self, place: Place, epoch: int) -> None:
        """Store a record with the epoch of a claim.

        Raises:
            FencedError: a later claim is there.
        """
        if self.refuses(place, epoch):
            raise FencedError(*place)
        self._claimed[place] = epoch
        self.store(place, CLAIM_KEY, b"", [])

    def refuses(self, place: Place, epoch: int | None) -> bool:
        """Whether a later claim has been stored."""
        return self.is_fenced and epoch is not None and epoch < self._claimed.get(place, epoch)

    def end(self, place: Place) -> int:
        return len(self.logs[place])

    @property
    def topics(self) -> Topics:
        """All that was recorded so far; the same object until there is more."""
        if self._topics.size != sum(map(len, self.logs.values())):
            self._topics = Topics(self.records())
        return self._topics

    def records(self) -> Iterator[Record]:
        for log in self.logs.values():
            yield from log
