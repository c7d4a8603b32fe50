"""timers: a call that waits, for people or for another agent, waits no longer when its time is over.

Timers lie in the sessions' table, next to the state that they belong to, so they outlive every worker; whoever holds a
partition fires its timers, by a fact in the session log. One that fires again, after a restart, changes nothing more.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from agents.draft import Timer
from schemas.codec import Headers, cloud_event_headers
from schemas.log import SessionEvent, TimerFired
from streams.ports import Shell, Table
from streams.store import decode_wait

LONGEST_SLEEP_S = 60.0
"""The clock of a machine may be set: it is looked at again after so long."""
Append = Callable[[SessionEvent, Headers, int], Awaitable["asyncio.Future[int]"]]


class Alarm(NamedTuple):
    """A timer of a session in a partition; the earliest comes first."""

    due: datetime
    call_id: str
    session_id: str
    partition: int


class Timers:
    """The timers of the partitions that this worker holds: about 200 bytes each, whatever they wait for."""

    def __init__(self, shell: Shell, table: Table, append: Append) -> None:
        self._shell = shell
        self._table = table
        self._append = append
        self._due: dict[str, datetime] = {}
        self._heap: list[Alarm] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def resume(self, partitions: Iterable[int]) -> None:
        """These partitions are this worker's now: what waits in them is in their tables."""
        self._due.clear()
        self._heap.clear()
        for partition in partitions:
            for value in self._table.waits(partition):
                wait = decode_wait(value)
                self._due[wait.call_id] = wait.due
                self._heap.append(Alarm(wait.due, wait.call_id, wait.session_id, partition))
        heapify(self._heap)
        self._wake()

    def set(self, partition: int, session_id: str, timers: Iterable[Timer]) -> None:
        """Calls of a session wait from now on, or no longer."""
        for timer in timers:
            if timer.due is None:
                self._due.pop(timer.call_id, None)
            else:
                self._due[timer.call_id] = timer.due
                heappush(self._heap, Alarm(timer.due, timer.call_id, session_id, partition))
                self._wake()

    def suspend(self) -> None:
        """A rebalance begins, or the worker stops: nothing fires until it is known whose the partitions are."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._due.clear()
        self._heap.clear()

    def _wake(self) -> None:
        if self._heap and self._task is None:
            self._task = asyncio.create_task(self._run(), name="timers")
            self._task.add_done_callback(self._ended)
        self._changed.set()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._shell.fail(error)

    async def _run(self) -> None:
        while (next_due := self._next_due()) is not None:
            wait_s = (next_due - self._shell.clock()) / timedelta(seconds=1)
            if wait_s <= 0:
                await self._shell.lease.held()
                await self._fire()
                continue
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, LONGEST_SLEEP_S)):
                    await self._changed.wait()
        self._task = None

    def _next_due(self) -> datetime | None:
        while self._heap and self._due.get(self._heap[0].call_id) != self._heap[0].due:
            heappop(self._heap)
        return self._heap[0].due if self._heap else None

    async def _fire(self) -> None:
        now = self._shell.clock()
        # It may have been settled while the lease was waited for.
        if (next_due := self._next_due()) is None or next_due > now:
            return
        alarm = heappop(self._heap)
        del self._due[alarm.call_id]
        event = TimerFired(session_id=alarm.session_id, call_id=alarm.call_id, due=alarm.due, at=now)
        headers = cloud_event_headers(
            event, id=f"{alarm.call_id}/timer", source="/headrace/timers", at=now, subject=alarm.session_id
        )
        await (await self._append(event, headers, alarm.partition))
