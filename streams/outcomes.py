"""Appends outcomes of calls to the session log; while a rebalance decides who owns a session, they are held.

The next owner of a partition looks how far its log goes, and trusts that no outcome of a former owner comes after that:
a call whose outcome is in the log would otherwise be made again.
"""

import asyncio

from schemas.codec import Headers
from schemas.log import ModelCompleted, ModelFailed, SpendingRefused, ToolCompleted, ToolFailed, ToolStarted
from streams.ports import UNLIMITED, Lease
from streams.session_log import SessionLog

Outcome = ModelCompleted | ModelFailed | SpendingRefused | ToolStarted | ToolCompleted | ToolFailed


class Outcomes:
    """What `call_model` and `call_tool` write to the session log."""

    def __init__(self, session_log: SessionLog, lease: Lease = UNLIMITED) -> None:
        self._session_log = session_log
        self._lease = lease
        self._in_flight = 0
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self._may_append = asyncio.Event()
        self._may_append.set()

    async def append(self, event: Outcome, headers: Headers, partition: int) -> int:
        """Append, and wait until it is durable; its offset."""
        # Nor where the partition may be another worker's already: that one has made the call again.
        while not (self._may_append.is_set() and self._lease.is_held):
            await self._may_append.wait()
            await self._lease.held()
        self._in_flight += 1
        self._is_quiet.clear()
        try:
            durable = await self._session_log.append(event, headers, partition)
        except BaseException:
            self._land()
            raise
        durable.add_done_callback(self._land)
        # Shielded: a call that is stopped does not take back what is on its way to the broker.
        return await asyncio.shield(durable)

    async def hold(self, timeout_s: float) -> bool:
        """Append no more until `release`, and wait for what is under way; whether it has landed in time."""
        self._may_append.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_quiet.wait()
        except TimeoutError:
            return False
        return True

    def release(self) -> None:
        """It is decided who owns what: calls that go on may append."""
        self._may_append.set()

    def _land(self, _: "asyncio.Future[int] | None" = None) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._is_quiet.set()
