"""The session log between a decider and a broker, whose acknowledgements and fetches the test lets race."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from shell_fixture import NOW, Bench, ManualLease

from schemas.codec import encode
from schemas.log import SessionExpired
from streams.acknowledge import Acknowledger, Ticket
from streams.ports import Delivery
from streams.session_log import SessionLog

OURS, THEIRS, NOTHING = "ours", "theirs", "nothing"
"""Who wrote a record of the log; a transaction's end and what was deleted are offsets without a record."""


@dataclass(eq=False)
class Decider:
    """Stands for `decide`: takes in some rounds of the loop, and is done when the test says so."""

    rounds: int = 0
    is_full: bool = False
    taken: list[int] = field(default_factory=list)
    tickets: deque[Ticket] = field(default_factory=deque)
    acknowledger: Acknowledger = field(default_factory=Acknowledger)
    life: int = 0
    """Counts restarts: a record that is being taken then may overlap with the first one after it."""
    busy_in: int | None = None
    error: Exception | None = None

    async def take(self, delivery: Delivery) -> None:
        if self.error is not None:
            raise self.error
        life = self.life
        assert self.busy_in != life, "two at once"
        self.busy_in = life
        self.taken.append(delivery.offset)
        self.tickets.append(self.acknowledger.take(delivery))
        for _ in range(self.rounds):
            await asyncio.sleep(0)
        if self.life == life:
            self.busy_in = None

    def finish(self) -> None:
        """The record of the oldest open event is durable."""
        if self.tickets:
            self.tickets.popleft().done()

    def restart(self) -> None:
        self.life += 1
        self.acknowledger.reset()
        self.tickets.clear()
        self.taken.clear()


class Rig:
    """A session log between a decider and a broker, whose log is a list of who wrote each offset."""

    def __init__(self, rounds: int = 0) -> None:
        self.lease = ManualLease()
        self.bench = Bench(lease=self.lease)
        self.decider = Decider(rounds)
        self.session_log = SessionLog(self.bench.shell, self.decider)
        self.session_log.restart({0: -1})
        self.log: list[str] = []
        self.unacknowledged: deque[int] = deque()
        self.fetched = 0
        self.committed = 0
        self.start = 0
        self.fetching: asyncio.Task[bool] | None = None

    async def append(self) -> int:
        """We write a record; its offset."""
        event = SessionExpired(session_id=f"s{len(self.log)}", idle_since=NOW, at=NOW)
        await self.session_log.append(event, [], 0)
        self.unacknowledged.append(len(self.log))
        self.log.append(OURS)
        return len(self.log) - 1

    def acknowledge(self, offset: int | None = None) -> None:
        """The broker says that it has our record: the oldest one, or another."""
        if offset is None:
            offset = self.unacknowledged.popleft()
        else:
            self.unacknowledged.remove(offset)
        self.bench.outbox.appended[self.log[:offset].count(OURS)].durable.set_result(offset)

    async def fetch(self) -> bool:
        """The next record comes from the broker; whether there was one."""
        while self.fetched < len(self.log) and self.log[self.fetched] == NOTHING:
            self.fetched += 1
        if self.fetched == len(self.log):
            return False
        await self.session_log.take(self._delivery(self.fetched))
        return True

    def _delivery(self, offset: int) -> Delivery:
        self.fetched += 1
        life = self.decider.life

        def ack() -> None:
            if life == self.decider.life:
                self.bench.acknowledged.append(offset)

        value = encode(SessionExpired(session_id=f"s{offset}", idle_since=NOW, at=NOW))
        return Delivery("session-log", 0, offset, f"s{offset}".encode(), value, (), NOW, ack)

    def commit(self) -> None:
        """The group remembers what is acknowledged."""
        if self.bench.acknowledged:
            self.committed = self.bench.acknowledged[-1] + 1

    def restart(self) -> None:
        """A rebalance: everything that is not committed comes again."""
        self.decider.restart()
        self.bench.acknowledged.clear()
        self.session_log.restart({0: self.committed - 1})
        self.fetched = self.start = self.committed

    def records(self) -> list[int]:
        """The offsets to take since the last restart."""
        return [offset for offset, writer in enumerate(self.log) if writer != NOTHING and offset >= self.start]

    def check(self) -> None:
        """Since the last restart: each record once and in order, from the first that was not committed on."""
        records = self.records()
        taken, acknowledged = self.decider.taken, self.bench.acknowledged
        assert taken == records[: len(taken)]
        assert acknowledged == records[: len(acknowledged)]
        assert len(acknowledged) <= len(taken)
        assert all(offset < self.fetched for offset in acknowledged), "acknowledged before it was fetched"
        assert not self.bench.failures

    async def rest(self) -> None:
        """Everything arrives."""
        self.lease.hold()
        while self.unacknowledged:
            self.acknowledge()
        while await self.fetch():
            pass
        for _ in range((self.decider.rounds + 2) * (len(self.log) + 2)):
            await asyncio.sleep(0)
        while self.decider.tickets:
            self.decider.finish()
        self.check()
        assert self.decider.taken == self.bench.acknowledged == self.records()
