"""Writes the rows of one projection into its tables, and removes what is too old."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from projections.database import connect, row_errors, store_errors
from projections.errors import StoreUnavailableError
from projections.projection import Row, Table, TableProjection
from projections.sql_files import sql

HOUSEKEEPING_INTERVAL = timedelta(hours=1)


def utc_now() -> datetime:
    return datetime.now(UTC)


def month_of(at: datetime) -> datetime:
    """When the month began (UTC)."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(month: datetime) -> datetime:
    return month_of(month + timedelta(days=31))


class Tables:
    """The tables of one projection in one database. Call `write` until it succeeds; it connects when it must.

    `keep_days` is how long rows are kept; `schemas` is where the tables are, if not where the database's settings say.
    """

    def __init__(
        self,
        projection: TableProjection,
        url: str,
        keep_days: float,
        *,
        schemas: str | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._projection = projection
        self._url = url
        self._keep = timedelta(days=keep_days)
        self._schemas = schemas
        self._now = now
        self._connection: Any = None
        self._months: set[datetime] = set()
        self._housekeeping_due: datetime | None = None

    async def write(self, rows: Sequence[Row]) -> None:
        """Add the rows, all or none; those that are there already stay as they are.

        Raises:
            StoreUnavailableError: try again later.
            RowsRefusedError: at least one of them can never be written.
        """
        try:
            connection = await self._connected()
            with store_errors():
                await self._keep_house(connection)
                await self._make_months(connection, rows)
            if not rows:
                return
            with row_errors():
                async with connection.transaction():
                    # In the order of the tables, which whoever locks them keeps too.
                    for table in self._projection.tables:
                        await self._insert(connection, table, [row for row in rows if isinstance(row, table.row)])
        except StoreUnavailableError:
            await self.close()
            raise

    async def progress(self) -> None:
        """What PostgreSQL has acknowledged it keeps: the consumer group's commits say how far it is."""
        return

    async def close(self) -> None:
        """Drop the connection; what was not committed is undone by the server."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def retain(self) -> None:
        """Remove what is older than is kept."""
        connection = await self._connected()
        with store_errors():
            await connection.execute(sql(self._projection.retain), self._oldest())

    async def _connected(self) -> Any:
        if self._connection is None:
            self._months.clear()
            self._housekeeping_due = None
            self._connection = await connect(self._url, schemas=self._schemas)
        return self._connection

    def _oldest(self) -> datetime:
        return self._now() - self._keep

    async def _keep_house(self, connection: Any) -> None:
        now = self._now()
        if self._housekeeping_due is None or now >= self._housekeeping_due:
            await connection.execute(sql(self._projection.retain), self._oldest())
            self._months = {month for month in self._months if month >= month_of(self._oldest())}
            self._housekeeping_due = now + HOUSEKEEPING_INTERVAL

    async def _make_months(self, connection: Any, rows: Sequence[Row]) -> None:
        """Partitions for the rows' months, this one and the next one, as far as they may exist.

        A time that is after next month is a mistake of whoever wrote it, and has no partition: the row is refused.
        """
        monthly = tuple(table.row for table in self._projection.tables if table.monthly)
        if not monthly:
            return
        this = month_of(self._now())
        last = next_month(this)
        wanted = {this, last} | {month_of(row.at) for row in rows if isinstance(row, monthly)}
        for month in sorted(wanted - self._months):
            if month_of(self._oldest()) <= month <= last:
                await connection.execute(sql("create_events_month"), month)
                self._months.add(month)

    async def _insert(self, connection: Any, table: Table, rows: Sequence[Row]) -> None:
        if table.monthly:
            oldest = month_of(self._oldest())
            rows = [row for row in rows if month_of(row.at) >= oldest]
        if rows:
            columns = zip(*(msgspec.structs.astuple(row) for row in rows), strict=True)
            await connection.execute(sql(table.insert), *(list(column) for column in columns))
