"""The port `Outbox`: the simulation's and the producer on Kafka keep the same promises."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
from aiokafka import TopicPartition
from client_fixture import own_topics
from kafka_fixture import Broker
from simulation.broker import PARTITIONS
from simulation.broker import Broker as SimulatedBroker
from simulation.broker import Outbox as SimulatedOutbox

from headrace.connect import assign_at_beginning, consumer, partitions_of
from runtime.kafka import changelog_topic_name, client_arguments
from runtime.settings import Settings
from schemas.codec import Headers
from schemas.topics import AGENT_DELTAS, MAX_INTERNAL_BYTES, SESSION_LOG
from streams.ports import FencedError, Outbox
from streams.publisher import MAX_REQUEST_BYTES, NotWrittenError, Publisher

WAIT_S = 30.0
Stored = tuple[int, int, bytes | None, bytes | None, Headers]
"""A record in its topic: partition, offset, key, value, headers."""


class Place(Protocol):
    """An outbox, and what its broker has."""

    prefix: str
    changelog: str
    partitions: int

    @property
    def outbox(self) -> Outbox: ...

    async def stored(self, topic: str, count: int) -> list[Stored]:
        """The first `count` records of a topic, once they are there, in the order of each partition."""

    async def lose_one(self) -> asyncio.Future[int]:
        """Append a record that is lost."""

    async def claim(self) -> None:
        """Claim all partitions of the changelog, with a record in each."""

    async def rival(self) -> "Place":
        """The outbox of another worker."""


class SimulatedPlace:
    """The outbox of the simulation, with a scheduler that lets everything arrive as soon as it can."""

    prefix = ""
    changelog = "sessions-changelog"
    partitions = PARTITIONS

    def __init__(self, broker: SimulatedBroker) -> None:
        self._broker = broker
        self.outbox = SimulatedOutbox(self._broker)
        self._running = asyncio.create_task(self.run())
        self._rivals: list[SimulatedPlace] = []

    async def claim(self) -> None:
        for partition in range(self.partitions):
            place = self.changelog, partition
            self.outbox.claims[place] = self._broker.next_claim()
            self._broker.claim(place, self.outbox.claims[place])

    async def rival(self) -> Place:
        self._rivals.append(SimulatedPlace(self._broker))
        return self._rivals[-1]

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, *(rival.stop() for rival in self._rivals), return_exceptions=True)

    async def run(self) -> None:
        while True:
            for place in self.outbox.places():
                self.outbox.acknowledge(place)
            await asyncio.sleep(0)

    async def stored(self, topic: str, count: int) -> list[Stored]:
        async with asyncio.timeout(WAIT_S):
            while len(records := [record for record in self._broker.records() if record.topic == topic]) < count:
                await asyncio.sleep(0)
        return [(r.partition, r.offset, r.key, r.value, list(r.headers)) for r in records]

    async def lose_one(self) -> asyncio.Future[int]:
        lost = await self.outbox.append(SESSION_LOG.name, key=b"k", value=b"lost", headers=[])
        self.outbox.break_off((SESSION_LOG.name, self.outbox.partition_of(b"k")), OSError("the broker is gone"))
        return lost


class KafkaPlace:
    """The outbox of a worker."""

    def __init__(self, settings: Settings, outbox: Publisher) -> None:
        self._settings = settings
        self.outbox = outbox
        self.prefix = settings.topic_prefix
        self.changelog = changelog_topic_name(settings)
        self.partitions = settings.partitions
        self._rivals: list[Publisher] = []

    async def claim(self) -> None:
        await self.outbox.fence.claim(range(self.partitions))

    async def rival(self) -> Place:
        publisher = new_publisher(self._settings)
        await publisher.start()
        self._rivals.append(publisher)
        return KafkaPlace(self._settings, publisher)

    async def stop(self) -> None:
        await asyncio.gather(*(publisher.stop() for publisher in (self.outbox, *self._rivals)))

    async def stored(self, topic: str, count: int) -> list[Stored]:
        records: list[Stored] = []
        async with consumer(self._settings) as reading, asyncio.timeout(WAIT_S):
            await assign_at_beginning(reading, await partitions_of(reading, topic))
            while len(records) < count or await self._lags(reading):
                found = await reading.getmany(timeout_ms=100)
                records += [
                    (r.partition, r.offset, r.key, r.value, list(r.headers)) for some in found.values() for r in some
                ]
        return records

    async def _lags(self, reading: Any) -> bool:
        """Whether the topic has more than was read."""
        assigned: set[TopicPartition] = reading.assignment()
        ends = await reading.end_offsets(assigned)
        return any([await reading.position(tp) < end for tp, end in ends.items()])

    async def lose_one(self) -> asyncio.Future[int]:
        # The producer takes it, the broker does not.
        too_large = bytes(MAX_INTERNAL_BYTES + 1_000)
        return await self.outbox.append(self.prefix + SESSION_LOG.name, key=b"k", value=too_large, headers=[])


@asynccontextmanager
async def simulated() -> AsyncIterator[Place]:
    place = SimulatedPlace(SimulatedBroker(datetime(2026, 5, 1, tzinfo=UTC)))
    yield place
    await place.stop()


def new_publisher(settings: Settings) -> Publisher:
    return Publisher(client_arguments(settings), settings.partitions, changelog_topic_name(settings))


@asynccontextmanager
async def on_kafka(bootstrap: str) -> AsyncIterator[KafkaPlace]:
    async with own_topics(bootstrap) as settings:
        publisher = new_publisher(settings)
        await publisher.start()
        place = KafkaPlace(settings, publisher)
        try:
            yield place
        finally:
            await place.stop()


@pytest.fixture(params=["simulation", "kafka"])
def opening(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Place]:
    if request.param == "simulation":
        return simulated()
    broker: Broker = request.getfixturevalue("embedded_kafka")
    return on_kafka(broker.bootstrap)


@pytest.fixture
async def place(opening: AbstractAsyncContextManager[Place]) -> AsyncIterator[Place]:
    async with opening as one:
        yield one


async def test_records_keep_their_order_and_everything_else(place: Place) -> None:
    """Each is where `partition_of` says and at the offset that its acknowledgement told, as it was handed over."""
    topic = place.prefix + SESSION_LOG.name
    keys = [b"key-%d" % (n % 7) for n in range(200)]
    headers = [("ce_id", b"1"), ("twice", b"a"), ("twice", b"b"), ("empty", b"")]
    futures = [
        await place.outbox.append(topic, key=key, value=b"%d" % n, headers=headers) for n, key in enumerate(keys)
    ]
    offsets = await asyncio.gather(*futures)
    expected: dict[tuple[int, int], tuple[bytes, bytes]] = {
        (place.outbox.partition_of(key), offset): (key, b"%d" % n)
        for n, (key, offset) in enumerate(zip(keys, offsets, strict=True))
    }
    stored = await place.stored(topic, len(keys))
    assert {(partition, offset): (key, value) for partition, offset, key, value, _ in stored} == expected
    assert all(kept == headers for *_, kept in stored)
    assert len({partition for partition, *_ in stored}) > 1
    for partition in range(place.partitions):
        values = [int(value or b"") for where, _, _, value, _ in stored if where == partition]
        assert values == sorted(values)
        assert [offset for where, offset, *_ in stored if where == partition] == list(range(len(values)))


async def test_callers_do_not_disturb_each_other(place: Place) -> None:
    """Each caller's records keep their order when others append meanwhile; who stops waiting loses nothing."""
    topic = place.prefix + SESSION_LOG.name

    async def append_all(name: str) -> None:
        for n in range(30):
            durable = await place.outbox.append(topic, key=b"k", value=f"{name}{n:02}".encode(), headers=[])
            if n % 3 == 0:
                durable.cancel()
            elif n % 3 == 1:
                await durable

    await asyncio.gather(*map(append_all, "abc"))
    values = [value or b"" for *_, value, _ in await place.stored(topic, 90)]
    for name in (b"a", b"b", b"c"):
        assert [value for value in values if value.startswith(name)] == [b"%b%02d" % (name, n) for n in range(30)]


async def test_a_partition_that_is_named_is_used(place: Place) -> None:
    """The changelog's records are where the session is, whatever their keys; a null value stays null, a key too."""
    await place.claim()
    for partition in range(place.partitions):
        for value in (b"head", None, b""):
            await (await place.outbox.append(place.changelog, key=b"k", value=value, headers=[], partition=partition))
    stored = sorted(await place.stored(place.changelog, 4 * place.partitions), key=lambda record: record[:2])
    expected: list[Stored] = [
        (partition, offset, *record, [])
        for partition in range(place.partitions)
        for offset, record in enumerate([(b"claim", b""), (b"k", b"head"), (b"k", None), (b"k", b"")])
    ]
    assert stored == expected


async def test_a_record_needs_no_key(place: Place) -> None:
    """A dead letter of a record without a key has none."""
    topic = place.prefix + SESSION_LOG.name
    await (await place.outbox.append(topic, key=None, value=b"v", headers=[]))
    ((_, offset, key, value, _),) = await place.stored(topic, 1)
    assert (offset, key, value) == (0, None, b"v")


async def test_large_values_are_kept(place: Place) -> None:
    """As large as a topic may have them, small ones between, in order."""
    topic = place.prefix + SESSION_LOG.name
    values = [bytes([n]) * (3 << 20 if n % 2 else 10) for n in range(6)]
    futures = [await place.outbox.append(topic, key=b"k", value=value, headers=[]) for value in values]
    assert await asyncio.gather(*futures) == list(range(6))
    assert [value for *_, value, _ in await place.stored(topic, 6)] == values


async def test_nothing_follows_a_record_that_may_be_lost(place: Place) -> None:
    """Its future fails, and so does every further append, also to other topics: the worker must stop."""
    topic = place.prefix + SESSION_LOG.name
    await place.claim()
    claimed = sorted(await place.stored(place.changelog, place.partitions))
    assert await (await place.outbox.append(topic, key=b"k", value=b"before", headers=[])) == 0
    lost = await place.lose_one()
    with pytest.raises(Exception) as failure:  # noqa: PT011  # Which error it is, is the implementation's.
        await lost
    for where in (topic, place.changelog):
        with pytest.raises(type(failure.value)):
            await place.outbox.append(where, key=b"k", value=b"after", headers=[], partition=0)
    assert [value for *_, value, _ in await place.stored(topic, 1)] == [b"before"]
    assert sorted(await place.stored(place.changelog, 0)) == claimed


async def record(place: Place, value: bytes) -> asyncio.Future[int]:
    return await place.outbox.append(place.changelog, key=b"k", value=value, headers=[], partition=0)


async def recorded(place: Place, count: int) -> list[bytes | None]:
    """The values in the first partition of the changelog."""
    return [value for partition, *_, value, _ in await place.stored(place.changelog, count) if partition == 0]


async def test_a_changelog_takes_nothing_without_a_claim(place: Place) -> None:
    """Who was given no partition has nothing to record."""
    with pytest.raises(FencedError):
        await record(place, b"state")
    assert await place.stored(place.changelog, 0) == []


async def test_a_changelog_takes_nothing_after_the_claim_of_another(place: Place) -> None:
    """What the former owner records late is refused, and nothing else of it; it may claim the partition back."""
    await place.claim()
    await (await record(place, b"its state"))
    rival = await place.rival()
    await rival.claim()
    with pytest.raises(FencedError):
        await (await record(place, b"its late state"))
    await (await record(rival, b"newer state"))
    with pytest.raises(FencedError):
        await (await record(place, b"its late state"))
    await (await place.outbox.append(place.prefix + SESSION_LOG.name, key=b"k", value=b"event", headers=[]))
    await place.claim()
    await (await record(place, b"newest state"))
    with pytest.raises(FencedError):
        await (await record(rival, b"late now"))
    claims = 3 * place.partitions
    assert await recorded(place, claims + 3) == [b"", b"its state", b"", b"newer state", b"", b"newest state"]


async def test_what_waits_from_before_a_claim_is_not_sent_under_it(embedded_kafka: Broker) -> None:
    """A worker that gets a partition back may have records waiting that are older than what was recorded meanwhile."""
    async with on_kafka(embedded_kafka.bootstrap) as place:
        await place.claim()
        old = await record(place, b"old state")
        await place.claim()
        await (await record(place, b"new state"))
        with pytest.raises(FencedError):
            await old
        assert await recorded(place, 2 * place.partitions + 1) == [b"", b"", b"new state"]


async def test_a_claim_that_is_renewed_is_the_same_right(embedded_kafka: Broker) -> None:
    """Records go on, and a rival's claim still ends it; it cannot be renewed then."""
    async with on_kafka(embedded_kafka.bootstrap) as place:
        await place.claim()
        durable = await record(place, b"1")
        await place.outbox.fence.renew()
        await durable
        await (await record(place, b"2"))
        rival = await place.rival()
        await rival.claim()
        with pytest.raises(FencedError):
            await (await record(place, b"late"))
        assert await recorded(place, 3 * place.partitions + 2) == [b"", b"1", b"", b"2", b""]


async def test_nothing_follows_a_record_that_is_not_taken(embedded_kafka: Broker) -> None:
    """One that the producer refuses leaves the same hole as one that the broker refuses."""
    async with on_kafka(embedded_kafka.bootstrap) as place:
        topic = place.prefix + SESSION_LOG.name
        for value in (bytes(MAX_REQUEST_BYTES + 1), b"after"):
            with pytest.raises(NotWrittenError, match="MessageSizeTooLargeError"):
                await place.outbox.append(topic, key=b"k", value=value, headers=[])
        assert await place.stored(topic, 0) == []


async def test_posts_arrive_in_order_without_being_waited_for(place: Place) -> None:
    """Also while appends are under way, which do not wait for them."""
    deltas, log = place.prefix + AGENT_DELTAS.name, place.prefix + SESSION_LOG.name
    for n in range(100):
        place.outbox.post(deltas, key=b"key-%d" % (n % 3), value=b"%d" % n, headers=[("n", b"%d" % n)])
        if n % 10 == 0:
            await (await place.outbox.append(log, key=b"k", value=b"v", headers=[]))
    stored = await place.stored(deltas, 100)
    for number in range(3):
        key = b"key-%d" % number
        mine = [record for record in stored if record[2] == key]
        assert [record[3] for record in mine] == [b"%d" % n for n in range(number, 100, 3)]
        assert {record[0] for record in mine} == {place.outbox.partition_of(key)}
        assert all(headers == [("n", value)] for *_, value, headers in mine)
