"""A shell whose outbox is in the hands of the test, and deliveries for processors."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agents.draft import SessionFact, Timer
from schemas.codec import Headers, decode_dead_letter
from schemas.dead_letter import DeadLetter
from schemas.effects import Effect
from schemas.topics import DEAD_LETTERS
from streams.acknowledge import Acknowledger, Ticket
from streams.ports import UNLIMITED, Delivery, Lease, Shell

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Appended:
    """A record that was handed over; the test resolves `durable`."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None
    durable: asyncio.Future[int]


@dataclass(eq=False)
class ManualOutbox:
    """Keeps what is appended; acknowledges at once where `is_quick`."""

    is_quick: bool = False
    appended: list[Appended] = field(default_factory=list)

    def partition_of(self, key: bytes) -> int:
        """There is one partition."""
        del key
        return 0

    async def append(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> asyncio.Future[int]:
        durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.appended.append(Appended(topic, key, value, headers, partition, durable))
        if self.is_quick:
            durable.set_result(len(self.appended))
        return durable

    def post(
        self, topic: str, *, key: bytes, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> None:
        raise AssertionError(f"{topic} gets nothing here: {key!r}, {value!r}, {headers}, {partition}")

    def to(self, topic: str) -> list[Appended]:
        return [appended for appended in self.appended if appended.topic == topic]

    def letters(self) -> list[DeadLetter]:
        return [decode_dead_letter(appended.value or b"") for appended in self.to(DEAD_LETTERS.name)]


class ManualLease:
    """Held as the test says."""

    def __init__(self) -> None:
        self._held = asyncio.Event()
        self._held.set()

    @property
    def is_held(self) -> bool:
        return self._held.is_set()

    def hold(self) -> None:
        self._held.set()

    def lose(self) -> None:
        self._held.clear()

    async def held(self) -> None:
        while not self.is_held:
            await self._held.wait()


@dataclass(eq=False)
class Bench:
    """A shell, what made it fail, and which offsets were acknowledged."""

    outbox: ManualOutbox = field(default_factory=ManualOutbox)
    lease: Lease = UNLIMITED
    failures: list[BaseException] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)

    @property
    def shell(self) -> Shell:
        return Shell(self.outbox, lambda: NOW, self.failures.append, lease=self.lease)

    def delivery(
        self,
        offset: int,
        value: bytes | None = b"",
        *,
        topic: str = "user-messages",
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes | None], ...] = (),
    ) -> Delivery:
        return Delivery(
            topic=topic,
            partition=0,
            offset=offset,
            key=key,
            value=value,
            headers=headers,
            at=NOW,
            ack=lambda: self.acknowledged.append(offset),
        )


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def tickets(bench: Bench, count: int) -> list[Ticket]:
    """Of the first `count` records of a partition, all taken and none done."""
    acknowledger = Acknowledger()
    return [acknowledger.take(bench.delivery(offset)) for offset in range(count)]


class NoCalls:
    """Performs nothing."""

    def begin(self, order: Effect, partition: int) -> None:
        del order, partition

    def wait(self, partition: int, session_id: str, timers: Sequence[Timer]) -> None:
        assert not timers, f"{session_id} in {partition} waits"

    async def tell(self, fact: SessionFact, headers: Headers) -> asyncio.Future[int]:
        raise AssertionError(f"nobody is asked: {fact}, {headers}")

    def settle(self, call_id: str) -> None:
        del call_id
