"""One reader of one session: what is new to it waits here, up to a bound."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from gateway.feeds.cursor import Cursor
from gateway.feeds.items import Entry, Item
from gateway.feeds.past import MAX_SEQ, PAGE, Past
from gateway.feeds.position import Position
from gateway.problems import Code, Problem, unavailable

MAX_WAITING = 1_000
"""Entries: at 20 deltas a second, a reader that takes nothing for most of a minute."""
MAX_WAITING_BYTES = 8 << 20
"""A tool's result may have a megabyte."""
PAST_LAG_S = 30.0
"""The event store is behind Redis by less; for longer, it stands still."""
PAST_PAUSE_S = 0.5

log = structlog.get_logger(__name__)


class TooSlow(Problem):
    """More waits for the reader than it is worth: it resumes where it is."""

    def __init__(self) -> None:
        super().__init__(
            Code.TOO_SLOW, "expected a reader that keeps up, got one that is far behind: connect again, and resume"
        )


class Follower(AsyncIterator[Entry]):
    """Iterate over it, or `take` all that is there. `on_end` is called when it ends: the reader may hang in a write.

    `start` is where the reader is who has not taken anything yet.
    """

    def __init__(self, session_id: str, after: Position | None, past: Past | None) -> None:
        self.on_end: Callable[[], object] | None = None
        self.start = after or Position(0, 0)
        self._session_id = session_id
        self._is_from_now = after is None
        self._cursor = Cursor(after or Position(0, 0))
        self._past = past
        self._past_from: int | None = None
        self._is_unplaced = False
        self._waiting: list[Entry] = []
        self._waiting_bytes = 0
        self._unfilled: list[Item] = []
        self._iterating: list[Entry] = []
        self._wake: asyncio.Future[None] | None = None
        self._is_poked = False
        self._end: Problem | None = None

    @property
    def why(self) -> Problem | None:
        """What `take` raises, where it has ended."""
        return self._end

    def begin(self, backlog: Sequence[Item]) -> None:
        """What Redis has of the session when the reader comes; what comes later is offered."""
        if self._is_from_now:
            self._cursor.skip(backlog)
            self.start = self._cursor.position
            self._is_unplaced = not backlog and self._past is not None
            return
        event = self._cursor.position.event
        # It may have begun anew since the reader was there: only times can tell.
        is_there = event == 0 or any(item.seq >= event for item in backlog)
        self._is_unplaced = self._past is not None and not is_there
        if self._past is not None and not any(item.is_event and item.seq <= max(event, 1) for item in backlog):
            self._past_from = max(event, 1)
        # It waits outside of the bound: the reader had no time to take it yet.
        self._unfilled += backlog

    async def place(self) -> None:
        """Where Redis does not say where the reader is in the session, look in what is stored."""
        if not self._is_unplaced or self._past is None:
            return
        try:
            newest = await self._past.newest(self._session_id)
            if self._is_from_now:
                self.start, at_ms = Position(newest.seq, 0), newest.at_ms
            else:
                at_ms = await self._past.at_ms(self._session_id, self.start.event)
                if newest.seq < self.start.event and 0 < at_ms < newest.at_ms:
                    self._past_from = 1
        except Problem as problem:
            log.warning("feed_begins_without_past", session_id=self._session_id, error=problem.detail)
            at_ms = 0
        self._cursor = Cursor(self.start, at_ms)
        self._is_unplaced = False

    def offer(self, items: Sequence[Item]) -> None:
        """What was read of the feed, whether or not it was offered before."""
        if self._end is not None or not items:
            return
        is_behind = self._unfilled or self._is_unplaced or self._past_from is not None
        if is_behind or self._cursor.missing(items) is not None:
            self._unfilled += items
            # Redis has 2,000 entries of a session at most, and they may be offered twice.
            if len(self._unfilled) > 5 * MAX_WAITING:
                self.end(TooSlow())
        else:
            self._put(self._cursor.take(items))
        self._notify()

    def poke(self) -> None:
        """Let `take` return, with nothing if need be."""
        self._is_poked = True
        self._notify()

    def end(self, why: Problem) -> None:
        """Let `take` raise, now and from now on."""
        if self._end is None:
            self._end = why
            self._waiting.clear()
            self._notify()
            if self.on_end is not None:
                self.on_end()

    async def take(self) -> list[Entry]:
        """All that waits, at least one entry; none after a `poke`.

        Raises:
            TooSlow: more waited than a reader may have waiting.
            Problem: `stopping`, or `unavailable`, where events that Redis has no more cannot be read.
        """
        while True:
            if self._end is not None:
                raise self._end
            if not self._waiting and (self._past_from is not None or self._unfilled):
                await self._fill()
            if self._waiting:
                entries, self._waiting, self._waiting_bytes = self._waiting, [], 0
                return entries
            if self._is_poked:
                self._is_poked = False
                return []
            if not self._unfilled and self._past_from is None and self._end is None:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake

    async def __anext__(self) -> Entry:
        while not self._iterating:
            self._iterating = (await self.take())[::-1]
        return self._iterating.pop()

    def _put(self, entries: list[Entry]) -> None:
        had_taken_all = not self._waiting
        self._waiting += entries
        self._waiting_bytes += sum([len(entry.body) for entry in entries])
        # Much may come at once, after an outage: a reader who keeps up had no time to take it yet.
        if not had_taken_all and (len(self._waiting) > MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES):
            self.end(TooSlow())

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _fill(self) -> None:
        """Take a page of older events, or what has waited for them."""
        if self._past_from is not None:
            await self._read_past()
            return
        missing = self._cursor.missing(self._unfilled)
        older = [] if missing is None else await self._older(missing)
        if older:
            self._waiting += self._cursor.take(older)
            return
        items, self._unfilled = self._unfilled, []
        self._waiting += self._cursor.take(items)

    async def _read_past(self) -> None:
        """From where the reader is to the end of what is stored: nobody knows yet how far that is."""
        assert self._past is not None
        assert self._past_from is not None
        try:
            older = await self._past.events(self._session_id, self._past_from, MAX_SEQ)
        except Problem as problem:
            # Redis may be filled again while we wait; where it is not, the next event shows what is missing.
            log.warning("feed_begins_without_past", session_id=self._session_id, error=problem.detail)
            older = []
        self._waiting += self._cursor.take(older)
        is_all = len(older) < PAGE or (self._unfilled and self._cursor.missing(self._unfilled) is None)
        self._past_from = None if is_all else older[-1].seq + 1

    async def _older(self, missing: range) -> list[Item]:
        """Events that Redis has no more; none where nobody has them any more."""
        if self._past is None:
            return []
        try:
            async with asyncio.timeout(PAST_LAG_S):
                while True:
                    older = await self._past.events(self._session_id, missing.start, missing.stop - 1)
                    if older or (await self._past.newest(self._session_id)).seq >= missing.stop:
                        return older
                    await asyncio.sleep(PAST_PAUSE_S)
        except TimeoutError:
            raise unavailable("the event store") from None
