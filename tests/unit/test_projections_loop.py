"""The loop of every projection, on a source and a store in memory: what is skipped, waited for, committed."""

import asyncio
from collections.abc import Sequence

import pytest
from projection_records import small_world

import projections.loop
from projections.catalog import PROJECTIONS, TABLE_PROJECTIONS
from projections.errors import RowsRefusedError, StoreUnavailableError
from projections.loop import Writer, follow
from projections.migrations import read_migrations
from projections.projection import Projection, Row
from projections.record import Record
from projections.sql_files import FOLDER, sql
from schemas.topics import AGENT_EVENTS, SESSION_LOG

EVENTS: Projection = PROJECTIONS["events"]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections.loop, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(projections.loop, "LONGEST_WAIT_S", 0.0)


class MemoryStore:
    """Keeps rows; refuses those at `refused` offsets, and is away for the first `outages` writes."""

    def __init__(self, refused: Sequence[int] = (), outages: int = 0) -> None:
        self.rows: list[Row] = []
        self.writes = 0
        self._refused = refused
        self._outages = outages

    async def write(self, rows: Sequence[Row]) -> None:
        self.writes += 1
        if self._outages:
            self._outages -= 1
            raise StoreUnavailableError("away")
        if any(row.offset in self._refused for row in rows):
            raise RowsRefusedError("too odd")
        self.rows += rows

    async def progress(self) -> None:
        return

    async def close(self) -> None:
        assert not self._outages


class MemorySource:
    """Batches of records, one after the other; at the end it asks the loop to stop."""

    def __init__(self, batches: Sequence[list[Record]], stopping: asyncio.Event, store: MemoryStore) -> None:
        self._batches = list(batches)
        self._stopping = stopping
        self._store = store
        self._taken = 0
        self.committed: list[tuple[int, int]] = []

    async def take(self) -> list[Record]:
        batch = self._batches.pop(0) if self._batches else []
        self._taken += len(batch)
        if not self._batches:
            self._stopping.set()
        return batch

    async def commit(self) -> None:
        if not self.committed or self.committed[-1][0] != self._taken:
            self.committed.append((self._taken, len(self._store.rows)))

    async def stop(self) -> None:
        self._taken = 0

    async def lag(self) -> int:
        return sum(map(len, self._batches))


def records() -> list[Record]:
    return [record for record in small_world().of(SESSION_LOG.name, AGENT_EVENTS.name) if record.partition == 0]


async def test_rows_are_written_before_records_are_committed() -> None:
    """At each commit, the store has the rows of all that was taken."""
    stopping, store = asyncio.Event(), MemoryStore()
    all_records = records()
    source = MemorySource([all_records[:5], [], all_records[5:]], stopping, store)
    await follow(EVENTS, source, store, stopping)
    assert source.committed == [(5, 5), (len(all_records), len(all_records))]


async def test_only_what_is_refused_is_left_out() -> None:
    """A row that the store will never take, and a record that makes none, cost nothing but themselves."""
    wanted = [record for record in records() if record.topic == SESSION_LOG.name]
    store = MemoryStore(refused=(3,))
    writer = Writer(EVENTS, store, asyncio.Event())
    await writer.write([*wanted, Record(SESSION_LOG.name, 0, 99, b"?")])
    assert [row.offset for row in store.rows] == [record.offset for record in wanted if record.offset != 3]
    assert (writer.records, writer.skipped) == (len(wanted) + 1, 2)


async def test_a_store_that_is_away_is_waited_for() -> None:
    """The same rows are written again until they are, once."""
    store = MemoryStore(outages=3)
    writer = Writer(EVENTS, store, asyncio.Event())
    await writer.write(records())
    assert (store.writes, len(store.rows), writer.skipped) == (4, len(records()), 0)


async def test_a_stop_ends_the_waiting_and_commits_nothing() -> None:
    """What was not written comes again at the next start."""
    stopping, store = asyncio.Event(), MemoryStore(outages=1_000_000)
    source = MemorySource([records()], stopping, store)
    await asyncio.wait_for(follow(EVENTS, source, store, stopping), 5)
    assert source.committed == []


async def test_the_files_that_are_named_are_there() -> None:
    """A projection names its SQL by file; each file begins with a sentence."""
    for projection in TABLE_PROJECTIONS.values():
        for name in (projection.retain, *(table.insert for table in projection.tables)):
            assert sql(name)
    for path in FOLDER.rglob("*.sql"):
        assert path.read_text().startswith("-- "), path
    assert [migration.number for migration in read_migrations()] == list(range(1, len(read_migrations()) + 1))
