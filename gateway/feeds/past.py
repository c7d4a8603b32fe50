"""Agent events that Redis has no more: from the event store in PostgreSQL, or from a test's stand-in."""

from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from gateway.feeds.items import Item, item_of_row, milliseconds

PAGE = 500
MAX_SEQ = 2**53
log = structlog.get_logger(__name__)


class Newest(NamedTuple):
    """The newest event that is stored; zeros: there is none."""

    seq: int
    at_ms: int


class Past(Protocol):
    """Where older events are read; all raise `Problem(unavailable)`."""

    async def events(self, session_id: str, first: int, last: int) -> list[Item]:
        """Those that are stored, in order; not all at once where they are many."""
        ...

    async def newest(self, session_id: str) -> Newest:
        """The one with the latest time."""
        ...

    async def at_ms(self, session_id: str, seq: int) -> int:
        """When the newest event with this `seq` was; 0: there is none."""
        ...


class Rows(Protocol):
    """What is needed of `gateway.database.Database`."""

    async def fetch(self, name: str, *arguments: Any) -> list[Any]: ...

    async def fetchrow(self, name: str, *arguments: Any) -> Any | None: ...


class StoredPast:
    """The table `events`."""

    def __init__(self, database: Rows) -> None:
        self._database = database

    async def events(self, session_id: str, first: int, last: int) -> list[Item]:
        rows = await self._database.fetch("agent_events", session_id, first, min(last, MAX_SEQ), PAGE)
        items: list[Item] = []
        for row in rows:
            try:
                items.append(item_of_row(row["body"]))
            except msgspec.DecodeError as error:
                log.error("stored_event_unreadable", session_id=session_id, seq=row["seq"], error=str(error))
        return items

    async def newest(self, session_id: str) -> Newest:
        row = await self._database.fetchrow("last_agent_event", session_id)
        return Newest(0, 0) if row is None else Newest(int(row["seq"]), milliseconds(row["at"]))

    async def at_ms(self, session_id: str, seq: int) -> int:
        row = await self._database.fetchrow("agent_event_time", session_id, seq)
        return 0 if row is None else milliseconds(row["at"])
