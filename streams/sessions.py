"""The sessions that this worker holds: a bounded cache over their table, and how far `decide` has come in each log."""

import asyncio
from collections import OrderedDict, defaultdict
from heapq import heappop, heappush
from itertools import count

from agents.session import Session
from streams.ports import UNLIMITED, Lease, LogEnd, Table, endless
from streams.store import load

OVERHEAD_BYTES = 2_000
"""A cached session with an empty transcript, roughly."""


class NotReachedError(Exception):
    """The worker stops before `decide` has come to the offset: the order is for whoever reads it next."""


class Sessions:
    """States as `decide` left them. Those that are not in the table yet are never evicted."""

    def __init__(
        self,
        table: Table,
        *,
        max_sessions: int,
        max_bytes: int,
        lease: Lease = UNLIMITED,
        log_end: LogEnd = endless,
    ) -> None:
        self._table = table
        self._log_end = log_end
        self._lease = lease
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._cache: OrderedDict[tuple[int, str], Session | None] = OrderedDict()
        self._unstored: defaultdict[tuple[int, str], int] = defaultdict(int)
        self._bytes = 0
        self._positions: dict[int, int] = {}
        self._floors: dict[int, int] = {}
        self._waiting: defaultdict[int, list[tuple[int, int, asyncio.Future[None], bool]]] = defaultdict(list)
        self._order = count()
        self._is_over = False

    def load(self, partition: int, session_id: str) -> Session | None:
        """The session as it is now, from the cache or the table."""
        key = (partition, session_id)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        session = load(lambda item: self._table.get(partition, item), session_id)
        self._keep(key, session)
        return session

    def is_current(self, partition: int) -> bool:
        """Whether `load` reflects all that the partition's log had when this worker was given it, at least."""
        return self._floors.get(partition, -1) <= self._positions.get(partition, -2)

    def change(self, partition: int, session_id: str, session: Session | None) -> None:
        """The session changed, and its table does not know yet: `stored` must follow."""
        self._unstored[partition, session_id] += 1
        self._keep((partition, session_id), session)

    def stored(self, partition: int, session_id: str) -> None:
        """One change has reached the table."""
        key = (partition, session_id)
        if self._unstored[key] <= 1:
            del self._unstored[key]
        else:
            self._unstored[key] -= 1

    def advance(self, partition: int, offset: int) -> None:
        """`decide` has handled its log up to `offset`."""
        self._positions[partition] = offset
        waiting = self._waiting[partition]
        while waiting and waiting[0][0] <= offset:
            future = heappop(waiting)[2]
            if not future.done():
                future.set_result(None)

    async def is_in_log(self, partition: int, offset: int) -> bool:
        """Whether the log has come to the offset. The broker is asked only where this worker cannot know.

        Whoever gives an order has read the event that led to it, so one that names an offset beyond the end of the log
        is nobody's: who waited for `at` would wait for ever.
        """
        known = max(self._positions.get(partition, -1), self._floors.get(partition, -1))
        return offset <= known or offset < await self._log_end(partition)

    async def at(self, partition: int, session_id: str, offset: int, *, is_own: bool = False) -> Session | None:
        """The session when `decide` has handled the log up to `offset` at least, and what it reads again at a start.

        And when the partition is this worker's for certain: the log may go on otherwise, with another's outcomes.
        `is_own`: this worker has written what is at the offset, so `decide` comes there also while the worker stops.

        Raises:
            NotReachedError: it will not come there any more, see `give_up`.
        """
        # Asked again after each wait: a rebalance meanwhile may have set the position back and the floor up.
        while True:
            awaited = max(offset, self._floors.get(partition, -1))
            if self._positions.get(partition, -1) < awaited:
                await self._reached(partition, awaited, is_own=is_own)
            elif not self._lease.is_held:
                await self._lease.held()
            else:
                return self.load(partition, session_id)

    async def _reached(self, partition: int, offset: int, *, is_own: bool) -> None:
        if self._is_over and not is_own:
            raise NotReachedError
        future = asyncio.get_running_loop().create_future()
        heappush(self._waiting[partition], (offset, next(self._order), future, is_own))
        await future

    def restart(self, positions: dict[int, int], floors: dict[int, int]) -> None:
        """Forget all that the table does not have.

        Args:
            positions: the last offset of each partition's log that the table reflects.
            floors: offsets that must be handled before anybody is told of a state.
        """
        self._floors = floors
        self._cache.clear()
        self._unstored.clear()
        self._bytes = 0
        self._positions.clear()
        for partition, offset in positions.items():
            self.advance(partition, offset)

    def give_up(self) -> None:
        """`decide` reads no more records: who waits for one waits no longer."""
        self._is_over = True
        for waiting in self._waiting.values():
            for _, _, future, is_own in waiting:
                if not (is_own or future.done()):
                    future.set_exception(NotReachedError())

    def partitions(self) -> tuple[int, ...]:
        """The partitions that this worker holds."""
        return tuple(self._positions)

    def _keep(self, key: tuple[int, str], session: Session | None) -> None:
        self._bytes += _size_bytes(session) - _size_bytes(self._cache.pop(key, None))
        self._cache[key] = session
        while len(self._cache) > self._max_sessions or self._bytes > self._max_bytes:
            if not self._evict_oldest(keep=key):
                break

    def _evict_oldest(self, keep: tuple[int, str]) -> bool:
        """Drop the session that was used longest ago and is in the table; whether there was one."""
        for key in self._cache:
            if key != keep and key not in self._unstored:
                self._bytes -= _size_bytes(self._cache.pop(key))
                return True
        return False


def _size_bytes(session: Session | None) -> int:
    return OVERHEAD_BYTES + session.head.transcript_bytes if session else 0
