"""A process of the stack that is kept alive, and how it is known that it serves."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from headrace.stack.errors import StackError
from headrace.stack.process import AS_THIS_ONE, Conditions, Exit, ManagedProcess, RestartPolicy

# A worker imports for 2 s and joins its group at once; after a stack that was killed it waits until the old member's
# session has ended (10 s), and a machine under full load takes several times all that.
READY_DEADLINE_S = 90.0
POLL_INTERVAL_S = 0.02
# The first failure may be a broker that is not there yet; after the second one the reason will not go away.
MAX_FAILED_STARTS = 2
# A worker may be killed again and again, as in a test of chaos: only one that dies before it can serve is given up.
RESTART = RestartPolicy(first_delay_s=0.2, max_delay_s=2.0, quick_death_s=4.0, max_quick_deaths=8)

OnRestart = Callable[[str, Exit], None]


class ChildStartError(StackError):
    """A child of the stack did not become ready; the message ends with the last lines of its log."""


class Child(ABC):
    """A process that is started again when it dies; `on_restart` is told its name and how it ended.

    Without `on_restart` it stays dead until it is started again.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        conditions: Conditions = AS_THIS_ONE,
        on_restart: OnRestart | None = None,
    ) -> None:
        self.name = name
        self._on_restart = on_restart
        self._failed: list[Exit] = []
        self.process = ManagedProcess(
            name,
            command,
            log_path=log_path,
            env=env,
            conditions=conditions,
            restart=None if on_restart is None else RESTART,
            on_restart=self._restarting,
        )

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the present process serves."""

    async def start(self) -> None:
        """Start it and return when it serves; raises `StackError`."""
        self._failed.clear()
        await self.process.start()
        await self.wait_until_ready()

    async def wait_until_ready(self) -> None:
        """Return when it serves; raises `ChildStartError`."""
        deadline = time.monotonic() + READY_DEADLINE_S
        while not (self.process.running and self.is_ready()):
            if len(self._failed) >= MAX_FAILED_STARTS:
                raise self._not_started(str(self._failed[-1]))
            if self._on_restart is None and not self.process.running:
                raise self._not_started(str(await self.process.wait()))
            if time.monotonic() > deadline:
                raise self._not_started(f"it was not ready after {READY_DEADLINE_S:g} s")
            await asyncio.sleep(POLL_INTERVAL_S)
        self._failed.clear()

    def _restarting(self, end: Exit) -> None:
        # A negative code is a signal: somebody killed it, which says nothing about its next start.
        if end.code > 0:
            self._failed.append(end)
        assert self._on_restart is not None, "only a process that is kept alive is started again"
        self._on_restart(self.name, end)

    def _not_started(self, why: str) -> ChildStartError:
        path = self.process.log_path
        return ChildStartError(
            f"{self.name} did not start: {why}. Its log, {path}, ends with:\n{self.process.log_tail()}"
        )
