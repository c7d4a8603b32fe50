"""Faust's consumer, giving records straight to their processors.

Faust does what it does well: the group, the assignment of partitions next to their tables, their recovery. What it does
per record (two tasks, an event, a queue, a stream, sensors) cost more than the processors, and its acknowledgement may
commit past a record that is in flight. Here a record goes from the fetch to `take`, and an acknowledgement, which comes
in order, is the offset to commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from time import monotonic
from typing import Any

import aiokafka
import faust
from aiokafka import TopicPartition
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from runtime.kafka import record_time
from streams.changelog import read_changelog
from streams.lease import HeartbeatLease, seconds
from streams.ports import Delivery, Fail, Processor

FETCH_MAX_WAIT_MS = 50
"""Faust has 1,500 fixed. aiokafka has one fetch per broker in flight, and a partition that is drained meanwhile is not
read until it returns: this bounds that delay, at the price of 20 empty fetches per second when idle."""
HANDED_OVER_FETCH_S = 0.05
"""How long a record of the session log, or an order, may wait where it was not handed over in the process."""
FOLLOWED_FETCH_S = 0.5
"""How far a standby replica may be behind: what it takes over it reads to the end, so that this much adds nothing."""
POLL_S = 1.0
HELD_POLL_S = 0.05
"""While a processor is full its partitions are not read; this often it is asked whether it has room again."""
RECORDS_PER_SLICE = 100
"""Records given out before other tasks get their turn."""


class LoopConsumer(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust is not typed.
    """Faust's consumer thread, without the thread: aiokafka in the worker's own loop.

    A fetch that crosses threads costs four wake-ups and fights for the interpreter's lock with the processors; and a
    worker whose loop hangs should leave the group, not be kept in it by the heartbeats of another thread.
    """

    wait_for_shutdown = False

    def __init__(self, consumer: "Consumer", **kwargs: Any) -> None:
        super().__init__(consumer, thread_loop=consumer.loop, **kwargs)

    async def start(self) -> None:
        await self._default_start()

    async def maybe_start(self) -> bool:
        return bool(await Service.maybe_start(self))

    async def stop(self) -> None:
        await Service.stop(self)

    async def on_start(self) -> None:
        await super().on_start()
        fetcher = self._consumer._fetcher  # noqa: SLF001  # aiokafka has no other way to order its fetches.
        order = fetcher._get_actions_per_node  # noqa: SLF001
        fetcher._get_actions_per_node = Fetches(order, self.app.handed_over, self._followed)  # noqa: SLF001
        coordinator = self._consumer._coordinator  # noqa: SLF001  # Nor does it tell when the group answered.
        self.heartbeat = Heartbeat(coordinator._do_heartbeat, self.app.lease)  # noqa: SLF001
        coordinator._do_heartbeat = self.heartbeat  # noqa: SLF001

    def _followed(self) -> Collection[TP]:
        """Changelogs of tables that this worker is a standby replica of, and has caught up with."""
        recovery = self.app.tables.recovery
        ends, offsets = recovery.standby_highwaters, recovery.standby_offsets
        return [tp for tp in recovery.standby_tps if tp in ends and (offsets.get(tp) or 0) >= ends[tp]]

    def check_group(self) -> None:
        """Raises what keeps this worker out of its group."""
        self._consumer._coordinator.check_errors()  # noqa: SLF001

    async def committed(self, places: Sequence[TP]) -> dict[TP, int | None]:
        """The offsets that the group has for these places; None where it has none."""
        coordinator = self._consumer._coordinator  # noqa: SLF001  # Its public way asks for one after the other.
        found = await coordinator.fetch_committed_offsets(places)
        offsets = {TP(tp.topic, tp.partition): where.offset for tp, where in found.items() if where.offset >= 0}
        return {tp: offsets.get(tp) for tp in places}

    def seek_all(self, offsets: Mapping[TP, int | None]) -> None:
        """Read on at these offsets; where there is none, or it is gone, at the beginning."""
        for place, offset in offsets.items():
            self._consumer.seek(TopicPartition(place.topic, place.partition), offset or 0)

    def put_back(self, place: TP, offset: int) -> None:
        """Read a record again that was fetched, and what follows it, unless what was before it comes next anyway."""
        assignment = self._consumer._subscription.subscription.assignment  # noqa: SLF001  # Asking waits for a position.
        if assignment is None or place not in assignment.tps:
            return
        state = assignment.state_value(place)
        if state.has_valid_position and state.position > offset:
            self._consumer.seek(TopicPartition(place.topic, place.partition), offset)

    async def on_stop(self) -> None:
        await self.on_thread_stop()

    async def on_thread_stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = fun(*args, **kwargs)
        return await result if isawaitable(result) else result

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # noqa: SLF001  # Read when the consumer starts.
        return consumer


class Heartbeat:
    """aiokafka's heartbeat; each that the group answers extends the lease."""

    def __init__(self, beat: Callable[[], Awaitable[bool]], lease: HeartbeatLease) -> None:
        self._beat = beat
        self._lease = lease

    async def __call__(self) -> bool:
        asked_at = seconds()
        is_member = await self._beat()
        if is_member:
            self._lease.extend(asked_at)
        return is_member


class Fetches:
    """Orders aiokafka's fetches: what nobody waits for is fetched along now and then.

    Of the topics that are handed over in the process most records were acted on before, and of a table that a standby
    replica follows none is acted on. Fetching each at once would wake the broker and this worker several times more in
    a turn, for nothing.
    """

    def __init__(
        self, order: Callable[[Any], Any], handed_over: Collection[str], followed: Callable[[], Collection[TP]]
    ) -> None:
        self._order = order
        self._handed_over = frozenset(handed_over)
        self._handed_over_due = 0.0
        self._followed = followed
        self._followed_due = 0.0

    def __call__(self, assignment: Any) -> Any:
        now = monotonic()
        left_out: set[Any] = set()
        if now < self._handed_over_due:
            left_out.update(tp for tp in assignment.tps if tp.topic in self._handed_over)
        else:
            self._handed_over_due = now + HANDED_OVER_FETCH_S
        if now < self._followed_due:
            left_out.update(self._followed())
        else:
            self._followed_due = now + FOLLOWED_FETCH_S
        return self._order(Assigned([tp for tp in assignment.tps if tp not in left_out], assignment))


@dataclass(frozen=True, slots=True)
class Assigned:
    """Some partitions of an assignment."""

    tps: list[Any]
    whole: Any

    def state_value(self, tp: Any) -> Any:
        return self.whole.state_value(tp)


class Open:
    """The partitions that are read now, as they come and go; also when there are none.

    No partitions at all would mean every partition to aiokafka: it gave out records of changelogs that were about to be
    followed, nobody took them, and a standby replica lacked them for ever.
    """

    def __init__(self, partitions: Collection[TP]) -> None:
        self._partitions = partitions

    def __bool__(self) -> bool:
        return True

    def __contains__(self, place: object) -> bool:
        return place in self._partitions


class TablesBehindError(Exception):
    """The tables lack records of their changelogs: to go on would be to write old states over newer ones."""

    def __init__(self, lacking: int) -> None:
        super().__init__(f"expected tables that are recovered, got some that lack {lacking} records: start again")


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Overrides how Faust's consumer hands out records and what it commits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._acknowledged: dict[TP, int] = {}
        self._held: set[TP] = set()
        self._starts: dict[TP, int | None] = {}
        self._is_ready = False

    def _new_consumer_thread(self) -> LoopConsumer:
        return LoopConsumer(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Claim, see what is committed, and only then let the tables be recovered.

        In this order a worker that is paused in between, while another goes on with its partitions, finds tables that
        are ahead of where it reads, which does no harm; never tables that are behind.
        """
        try:
            self.app.lease.end()
            await self.app.claim({tp.partition for tp in assigned if tp.topic == self.app.log_topic})
            self.app.keep({tp.partition for tp in assigned if tp.topic in self.app.tables.changelog_topics})
            self._starts = await self._thread.committed([tp for tp in assigned if tp.topic in self.app.processors])
            await super().on_partitions_assigned(assigned, generation_id)
        except Exception as error:
            # aiokafka would only log it: the worker would keep its partitions and read nothing.
            self.app.fail(error)
            raise

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        """Seek to what was committed when the partitions were assigned.

        Faust would ask again, for one partition after the other. It also lets records flow before this. They are
        dropped up to the last seek, after which nothing waits: what is given out then comes after what `on_positions`
        was told.
        """
        starts = self._starts
        log_partitions = [tp for tp in starts if tp.topic == self.app.log_topic]
        ends = await self.highwaters(*log_partitions)
        # The next one is due in some seconds, and calls wait for it.
        await self._thread.heartbeat()
        if starts is not self._starts:
            return starts  # Another rebalance began meanwhile.
        if self.app.tables.recovery.need_recovery():
            raise TablesBehindError(self.app.tables.recovery.active_remaining_total())
        self._thread.seek_all(starts)
        self.app.on_positions(
            {tp.partition: (starts[tp] or 0) - 1 for tp in log_partitions},
            {tp.partition: end - 1 for tp, end in ends.items()},
        )
        self._is_ready = True
        return starts

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        self._acknowledged.clear()
        self._held.clear()
        self._starts = {}
        self._is_ready = False

    async def verify_all_partitions_active(self) -> None:
        """Faust looks here for streams that hang; there are none, so it would report each of them."""

    async def _drain_messages(self, fetcher: Any) -> None:
        """Faust's loop from the fetch to the streams; runs as long as `fetcher`."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                records = await self._next_records()
                self._release()
                await self._give_out(records)
                await asyncio.sleep(0)
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.app.should_stop:
                raise
        except Exception as error:
            # A record that cannot be given out must not be skipped.
            self.app.fail(error)
            raise

    async def _next_records(self) -> Mapping[TP, list[Any]]:
        # aiokafka keeps an error of the group for who asks, and does nothing until then.
        self._thread.check_group()
        if not self.flow_active:
            await self.wait(self.can_resume_flow, timeout=POLL_S)
            if not self.flow_active:
                return {}
        open_ones = Open(self._get_active_partitions())
        records: Mapping[TP, list[Any]] = await self._getmany(open_ones, HELD_POLL_S if self._held else POLL_S)
        return records

    async def _give_out(self, records: Mapping[TP, list[Any]]) -> None:
        for tp, batch in records.items():
            if tp.topic in self.app.processors:
                continue
            if self.flow_active and tp in self._get_active_partitions():
                read_changelog(self.app.tables.recovery, self.app.restore, tp, batch)
                self._read_offset[tp] = batch[-1].offset
            else:
                # Where to read on may have been set already, for a recovery that is about to begin.
                self._thread.put_back(tp, batch[0].offset)
        # What came while the flow stopped is dropped: these partitions seek before it goes on.
        if not (self.flow_active and self._is_ready):
            return
        generation = self.app.consumer_generation_id
        for number, (tp, record) in enumerate(_interleaved(records, self.app.processors)):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if number % RECORDS_PER_SLICE == 0:
                await asyncio.sleep(0)
            processor = self.app.processors[tp.topic]
            await processor.take(self._delivery(tp, record, generation))
            if processor.is_full and tp not in self._held:
                # aiokafka's own type is equal to it, and is refused by Faust when the partition is read again.
                held = TP(tp.topic, tp.partition)
                self._held.add(held)
                self.on_buffer_full(held)

    def _release(self) -> None:
        for tp in [tp for tp in self._held if not self.app.processors[tp.topic].is_full]:
            self._held.discard(tp)
            self.on_buffer_drop(tp)

    def _delivery(self, tp: TP, record: Any, generation: int) -> Delivery:
        def ack() -> None:
            if generation == self.app.consumer_generation_id:
                self._acknowledged[tp] = record.offset + 1

        return Delivery(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
            at=record_time(record.timestamp),
            ack=ack,
        )

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterable[TP]:
        return [tp for tp in self._acknowledged if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int:
        return self._acknowledged[tp]


def _interleaved(records: Mapping[TP, list[Any]], topics: Collection[str]) -> Iterable[tuple[TP, Any]]:
    """One record of each partition of these topics in turn, so that none waits for the backlog of another."""
    batches = [(tp, batch) for tp, batch in records.items() if tp.topic in topics]
    rounds = max((len(batch) for _, batch in batches), default=0)
    for number in range(rounds):
        for tp, batch in batches:
            if number < len(batch):
                yield tp, batch[number]


class Transport(driver.Transport):  # type: ignore[misc]
    Consumer = Consumer


class Tables(TableManager):  # type: ignore[misc]
    """Faust's tables, which need not wait: what they wait for, one second, is that agents register."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class App(faust.App):  # type: ignore[misc]
    """`claim` gets the partitions of `log_topic` that this worker is given, before their tables are recovered.

    `keep` hears which partitions of the table this worker has from now on, to write or as a standby replica.

    `restore` puts what a changelog has into the table: partition, items, offset of the last one.

    `on_positions` hears, whenever the consumer begins to read, where it begins and where `log_topic` ends. Both are by
    partition, and the last offset that is committed, or there; -1: none is.
    """

    processors: Mapping[str, Processor]
    handed_over: Collection[str]
    fail: Fail
    lease: HeartbeatLease
    log_topic: str
    claim: Callable[[set[int]], Awaitable[None]]
    keep: Callable[[set[int]], None]
    restore: Callable[[int, Sequence[tuple[bytes, bytes | None]], int], None]
    on_positions: Callable[[dict[int, int], dict[int, int]], None]

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)
