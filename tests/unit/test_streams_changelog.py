"""What of a changelog reaches a worker's table, and when its recovery is over; Faust's own recovery keeps the count."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher
from faust.tables.recovery import Recovery
from faust.types import TP

from runtime.settings import Settings
from streams.app import create_app, create_table
from streams.changelog import mend_recovery, read_changelog
from streams.consumer import App, Fetches, Open
from streams.table import MemoryTable

KEY = b"h\0s"


@dataclass
class Record:
    offset: int
    value: bytes | None
    key: bytes = KEY


@dataclass
class Worker:
    """The tables of a worker of which no broker knows."""

    app: App
    table: MemoryTable

    @property
    def recovery(self) -> Recovery:
        return self.app.tables.recovery

    def place(self, partition: int) -> TP:
        return TP(self.table.changelog_topic, partition)

    def begins(self, partition: int, *, end: int) -> None:
        """Faust is about to recover a partition whose changelog ends there."""
        place = self.place(partition)
        self.recovery.active_tps.add(place)
        self.recovery.active_offsets[place] = -1
        self.recovery.active_highwaters[place] = end
        self.recovery._set_recovery_started()

    def reads(self, partition: int, *records: Record) -> None:
        read_changelog(self.recovery, self.app.restore, self.place(partition), records)

    def has(self, partition: int) -> Any:
        return self.table.get(partition, KEY)


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    settings = Settings(brokers="127.0.0.1:1", data_dir=tmp_path, store="memory", partitions=2)
    app = create_app(settings)
    table = create_table(app, settings)
    assert isinstance(table, MemoryTable)
    mend_recovery(app.tables.recovery)
    return Worker(app, table)


async def test_a_table_is_recovered_when_its_changelog_was_read_to_the_end(worker: Worker) -> None:
    """Whatever the batches: before the last record it is not, and with it the last write of each key is there."""
    worker.begins(0, end=2)
    recovered = asyncio.create_task(worker.recovery.signal_recovery_end.wait())
    worker.reads(0, Record(0, b"one"), Record(1, b"two"))
    await settled()
    assert worker.recovery.in_recovery
    assert not recovered.done()
    worker.reads(0, Record(1, b"two"), Record(2, b"three"))
    await recovered
    assert not worker.recovery.in_recovery
    assert worker.has(0) == b"three"


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_recovery_soon_after_another_reads_its_changelog_too(worker: Worker) -> None:
    """Faust remembered for five seconds that one had ended: the next was over at once, and its sessions were lost."""
    worker.begins(0, end=0)
    worker.reads(0, Record(0, b"one"))
    await worker.recovery.signal_recovery_end.wait()
    worker.begins(1, end=1)
    recovered = asyncio.create_task(worker.recovery.signal_recovery_end.wait())
    worker.reads(1, Record(0, b"one"))
    await settled()
    assert not recovered.done()
    worker.reads(1, Record(1, b"two"))
    # Faust's loop turns, before the one who waits has heard.
    worker.recovery.signal_recovery_end.clear()
    await recovered
    assert worker.has(1) == b"two"


async def test_a_recovered_table_takes_nothing_more_from_its_changelog(worker: Worker) -> None:
    """This worker writes it now: its own write, read late, must not come back over what it wrote since."""
    worker.begins(0, end=0)
    worker.reads(0, Record(0, b"recovered"))
    worker.table.put(0, [(KEY, b"second write")], 2)
    worker.reads(0, Record(1, b"first write"))
    assert worker.has(0) == b"second write"
    assert worker.table.offset(0) == 2


async def test_a_standby_replica_follows_without_end(worker: Worker) -> None:
    """Also while nothing is recovered; a record that it has already changes nothing, a deletion deletes."""
    worker.recovery.standby_tps.add(worker.place(1))
    worker.reads(1, Record(0, b"one"), Record(1, b"two"))
    worker.reads(1, Record(0, b"one"))
    assert worker.has(1) == b"two"
    assert worker.table.offset(1) == 1
    worker.reads(1, Record(5, None))
    assert worker.has(1) is None
    assert worker.recovery.standby_offsets[worker.place(1)] == 5


async def test_records_of_a_partition_that_is_another_workers_are_dropped(worker: Worker) -> None:
    """As those that were fetched before a rebalance."""
    worker.reads(1, Record(0, b"one"))
    assert worker.has(1) is None


async def test_what_a_standby_replica_has_is_not_read_again(worker: Worker) -> None:
    """Faust asks a table that this worker was given to write how far it is, and begins there.

    One that it lost and gets back is read anew, since deletions may be gone from its changelog.
    """
    table = next(iter(worker.app.tables.values()))
    worker.recovery.add_standby(table, worker.place(1))
    worker.reads(1, Record(7, b"followed"))
    worker.recovery.add_active(table, worker.place(1))
    assert worker.recovery.active_offsets[worker.place(1)] == 7
    worker.app.keep({0})
    assert worker.has(1) is None
    assert table.persisted_offset(worker.place(1)) is None


@dataclass(frozen=True)
class Assignment:
    tps: list[TP]


def test_what_nobody_waits_for_is_fetched_along_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics handed over every 50 ms, tables that are followed every 500 ms, everything else each time."""
    now = 100.0
    monkeypatch.setattr("streams.consumer.monotonic", lambda: now)
    commands, log, followed, behind = TP("commands", 0), TP("log", 0), TP("table", 1), TP("table", 2)
    fetches = Fetches(lambda assignment: assignment.tps, ["log"], lambda: [followed])
    whole = Assignment([commands, log, followed, behind])
    assert fetches(whole) == [commands, log, followed, behind]
    assert fetches(whole) == [commands, behind]
    now = 100.06
    assert fetches(whole) == [commands, log, behind]
    now = 100.51
    assert fetches(whole) == [commands, log, followed, behind]


class Fetched:
    """Records that are there, of a partition that this worker has."""

    def __init__(self) -> None:
        self.records = ["record"]

    def getall(self, max_records: int | None = None) -> list[str]:
        del max_records
        taken, self.records = self.records, []
        return taken

    def has_more(self) -> bool:
        return bool(self.records)


class Subscriptions:
    reassignment_in_progress = False

    def is_assigned(self, place: TP) -> bool:
        del place
        return True


async def test_a_record_is_given_out_only_where_its_partition_is_read_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while none is: what aiokafka hands out then would be lost, since it is not fetched again."""
    monkeypatch.setattr("aiokafka.consumer.fetcher.FetchResult", Fetched)
    place = TP("table", 1)
    fetcher = Fetcher.__new__(Fetcher)
    fetcher.__dict__ |= {
        "_records": {place: Fetched()},
        "_subscriptions": Subscriptions(),
        "_wait_consume_future": None,
    }
    fetcher._closed = True  # It ends with the test.
    reading: set[TP] = set()
    assert await fetcher.fetched_records(Open(reading)) == {}
    reading.add(place)
    assert await fetcher.fetched_records(Open(reading)) == {place: ["record"]}
