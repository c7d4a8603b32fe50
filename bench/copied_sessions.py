"""A table of many sessions, made fast: one session of each partition is answered, the others are copies of its records.

The copies are written to the changelog as the worker wrote the originals, heads that were rewritten included, so that
what reads them does what it would do for sessions that had all been answered.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiokafka

from runtime.kafka import changelog_topic_name, partition_for
from runtime.settings import Settings

FILL_TIMEOUT_MS = 300_000
"""A batch waits while the broker writes gigabytes of others to its disk."""
MAX_BATCH_BYTES = 768 * 1024
"""A broker takes a megabyte at once where nobody told it otherwise."""
NAME_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Names:
    """The sessions of a run; all names are of one length, so that a copy has the size that it says it has."""

    run: str
    partitions: int

    def name(self, number: int) -> str:
        return f"{self.run}-{number:0{NAME_DIGITS}}"

    def partition(self, number: int) -> int:
        return partition_for(self.name(number).encode(), self.partitions)

    def firsts(self, start: int = 0) -> dict[int, int]:
        """For each partition, the first session from `start` on that is in it."""
        found: dict[int, int] = {}
        number = start
        while len(found) < self.partitions:
            found.setdefault(self.partition(number), number)
            number += 1
        return found


@dataclass(frozen=True, slots=True)
class Originals:
    """What the changelog has of a session that was answered."""

    name: bytes
    records: Sequence[tuple[bytes, bytes]]


async def copy_sessions(settings: Settings, names: Names, count: int) -> int:
    """Make sessions 0 to `count` of the `firsts`, which are answered; how many records were written."""
    firsts = names.firsts()
    originals = {
        partition: Originals(names.name(number).encode(), await _records_of(settings, partition, names.name(number)))
        for partition, number in firsts.items()
    }
    names_to_copy: dict[int, list[bytes]] = {partition: [] for partition in firsts}
    for number in range(count):
        partition = names.partition(number)
        if number != firsts[partition]:
            names_to_copy[partition].append(names.name(number).encode())
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=settings.brokers,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=8 << 20,
        request_timeout_ms=FILL_TIMEOUT_MS,
        # A busy broker loses its partitions for a moment: what is sent again then must not be there twice.
        enable_idempotence=True,
    )
    await producer.start()
    try:
        # All partitions at a time: the producer sends one batch of each with a request.
        written = await asyncio.gather(
            *(
                _write(producer, changelog_topic_name(settings), partition, originals[partition], copies)
                for partition, copies in names_to_copy.items()
            )
        )
    finally:
        await producer.stop()
    return sum(written)


async def _write(
    producer: aiokafka.AIOKafkaProducer, topic: str, partition: int, originals: Originals, copies: Sequence[bytes]
) -> int:
    """Write the original's records for each of the names; how many."""
    sent: list[asyncio.Future[object]] = []

    async def close(batch: object) -> None:
        # It waits until the batch before has left, so few are held here. Only one may wait for a partition: aiokafka
        # counts the time that others of it took as its own, and gives up long before its time.
        sent.append(await producer.send_batch(batch, topic, partition=partition))

    batch = producer.create_batch()
    for name in copies:
        for key, value in originals.records:
            record = {
                "key": key.replace(originals.name, name),
                "value": value.replace(originals.name, name),
                "timestamp": None,
            }
            if batch.append(**record) is None:
                await close(batch)
                batch = producer.create_batch()
                assert batch.append(**record) is not None
    if copies:
        await close(batch)
    await asyncio.gather(*sent)
    return len(copies) * len(originals.records)


async def _records_of(settings: Settings, partition: int, session_id: str) -> list[tuple[bytes, bytes]]:
    """What the changelog has of a session, in its order."""
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=settings.brokers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        place = aiokafka.TopicPartition(changelog_topic_name(settings), partition)
        consumer.assign([place])
        ends: Mapping[aiokafka.TopicPartition, int] = await consumer.end_offsets([place])
        found: list[tuple[bytes, bytes]] = []
        while await consumer.position(place) < ends[place]:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                found += [(record.key, record.value) for record in records if session_id.encode() in record.key]
    finally:
        await consumer.stop()
    assert found, f"expected records of session `{session_id}` in partition {partition}, got none"
    return found
