"""The lease: how long this worker can be certain that no other has been given its partitions.

The group gives a worker's partitions away when no heartbeat has come for the session timeout. A worker that was stopped
for longer finds the same world in its memory as before: only the time tells it to ask first.
"""

import asyncio
import time

LEASE_S = 7.0
"""Since the last heartbeat that was answered had been sent. Below the session timeout of 10 s, so that what is begun
under the lease is also on its way under it; above many heartbeats, so that a late one delays nothing."""


def seconds() -> float:
    """A clock that goes on while the process is stopped, and while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HeartbeatLease:
    """Extended by each heartbeat that was answered."""

    def __init__(self) -> None:
        self._until = 0.0
        self._extended = asyncio.Event()

    @property
    def is_held(self) -> bool:
        return seconds() < self._until

    def extend(self, asked_at: float) -> None:
        """The group still counted this worker in after `asked_at`, see `seconds`."""
        self._until = max(self._until, asked_at + LEASE_S)
        self._extended.set()

    def end(self) -> None:
        """The group does not count this worker in, or it is not known."""
        self._until = 0.0

    async def held(self) -> None:
        while not self.is_held:
            self._extended.clear()
            await self._extended.wait()
