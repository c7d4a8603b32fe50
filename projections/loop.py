"""The one loop of every projection: take records, write their rows, commit.

Records are committed after their rows are written, so a crash in between makes them come again, and a row that is there
already is not written twice. What can never be written is left out, logged with its place, and counted; a store or a
broker that is away is waited for.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol

import structlog

from projections.errors import RowsRefusedError, StoreRestartedError, StoreUnavailableError
from projections.projection import Projection, Row
from projections.record import UNREADABLE, Record

log = structlog.get_logger()

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 10.0
PROGRESS_INTERVAL_S = 30.0

Made = tuple[Record, list[Row]]
Progress = dict[tuple[str, int], int]
"""By topic and partition: the offset of the next record that the store wants."""


class Source(Protocol):
    """Where records come from, in the order of each partition."""

    async def take(self) -> list[Record]:
        """The next records; none where nothing came for a while."""
        ...

    async def commit(self) -> None:
        """What was taken is done; does nothing where that is known."""
        ...

    async def lag(self) -> int:
        """How many records there are that were not taken."""
        ...

    async def stop(self) -> None:
        """Let go of the brokers; `take` begins again where the store is, or where the last commit was."""
        ...


class Store(Protocol):
    """Where rows go."""

    async def write(self, rows: Sequence[Row]) -> None:
        """Raises `StoreUnavailableError`, `StoreRestartedError` or `RowsRefusedError`."""
        ...

    async def progress(self) -> Progress | None:
        """How far the store is, where it knows that itself; raises `StoreUnavailableError`."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class Stopped(Exception):  # noqa: N818  # Not an error: somebody asked for it.
    """The loop was told to stop while it waited; what it had not written will come again."""


class Writer:
    """Makes rows of records and writes them, whatever the store and the records are like."""

    def __init__(self, projection: Projection, store: Store, stopping: asyncio.Event) -> None:
        self.records = 0
        self.skipped = 0
        self._projection = projection
        self._store = store
        self._stopping = stopping

    async def write(self, records: Sequence[Record]) -> None:
        """Return when every row is written that can be.

        Without records, the store has its turn all the same: it keeps house, or finds that it was restarted.

        Raises:
            Stopped: nobody waits for the store any more.
            StoreRestartedError: the store must be asked how far it is.
        """
        made = [one for record in records if (one := self._make(record)) is not None]
        await self._write(made)
        self.records += len(records)

    def _make(self, record: Record) -> Made | None:
        try:
            return record, list(self._projection.rows(record))
        except UNREADABLE as error:
            self._skip(record, error)
            return None

    async def _write(self, made: list[Made]) -> None:
        rows = [row for _, of_record in made for row in of_record]
        try:
            await self._patiently(rows)
        except RowsRefusedError as error:
            assert made, "a store cannot refuse nothing"
            if len(made) == 1:
                self._skip(made[0][0], error)
                return
            middle = len(made) // 2
            await self._write(made[:middle])
            await self._write(made[middle:])

    async def _patiently(self, rows: list[Row]) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                await self._store.write(rows)
            except StoreUnavailableError as error:
                log.warning("store_unavailable", projection=self._projection.name, error=str(error), wait_s=wait_s)
                await pause(wait_s, self._stopping)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            else:
                return

    def _skip(self, record: Record, error: Exception) -> None:
        self.skipped += 1
        log.warning("record_skipped", projection=self._projection.name, place=record.place, error=str(error))


async def pause(seconds: float, stopping: asyncio.Event) -> None:
    """Let time pass; raises `Stopped` as soon as somebody asks for it."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
    if stopping.is_set():
        raise Stopped


async def follow(projection: Projection, source: Source, store: Store, stopping: asyncio.Event) -> None:
    """Project what comes until `stopping` is set; a batch that was begun is finished where the store lets it."""
    writer = Writer(projection, store, stopping)
    told_at, told = monotonic(), (0, 0)
    try:
        while not stopping.is_set():
            records = await source.take()
            try:
                await writer.write(records)
            except StoreRestartedError as error:
                log.warning("store_restarted", projection=projection.name, error=str(error))
                await source.stop()
                continue
            await source.commit()
            if monotonic() - told_at >= PROGRESS_INTERVAL_S:
                lag = await source.lag()
                if lag or (writer.records, writer.skipped) != told:
                    _tell(projection, writer, lag)
                told_at, told = monotonic(), (writer.records, writer.skipped)
    except Stopped:
        pass
    _tell(projection, writer, await source.lag())


def _tell(projection: Projection, writer: Writer, lag: int) -> None:
    log.info("projected", projection=projection.name, records=writer.records, skipped=writer.skipped, lag=lag)
