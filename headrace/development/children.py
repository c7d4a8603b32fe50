"""The stack's own processes besides Kafka, kept alive: the simulated model and the workers."""

import asyncio
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from headrace.stack.errors import StackError
from headrace.stack.ports import LOOPBACK, free_port
from headrace.stack.process import Exit, ManagedProcess, RestartPolicy

# A worker imports for 2 s and joins its group at once; after a stack that was killed it waits until the old member's
# session has ended (10 s), and a machine under full load takes several times all that.
READY_DEADLINE_S = 90.0
POLL_INTERVAL_S = 0.05
# The first failure may be a broker that is not there yet; after the second one the reason will not go away.
MAX_FAILED_STARTS = 2
# A worker may be killed again and again, as in a test of chaos: only one that dies before it can serve is given up.
RESTART = RestartPolicy(first_delay_s=0.2, max_delay_s=2.0, quick_death_s=4.0, max_quick_deaths=8)
CONNECT_TIMEOUT_S = 1.0

OnRestart = Callable[[str, Exit], None]


class ChildStartError(StackError):
    """A child of the stack did not become ready; the message ends with the last lines of its log."""


class Child(ABC):
    """A process that is started again when it dies; `on_restart` is told its name and how it ended."""

    def __init__(
        self, name: str, arguments: list[str], *, log_path: Path, env: Mapping[str, str], on_restart: OnRestart
    ) -> None:
        self.name = name
        self._on_restart = on_restart
        self._failed: list[Exit] = []
        self.process = ManagedProcess(
            name,
            [sys.executable, "-m", *arguments],
            log_path=log_path,
            env=env,
            restart=RESTART,
            on_restart=self._restarting,
        )

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the present process serves."""

    async def wait_until_ready(self) -> None:
        """Return when it serves; raises `ChildStartError`."""
        deadline = time.monotonic() + READY_DEADLINE_S
        while not (self.process.running and self.is_ready()):
            if len(self._failed) >= MAX_FAILED_STARTS:
                raise self._not_started(str(self._failed[-1]))
            if time.monotonic() > deadline:
                raise self._not_started(f"it was not ready after {READY_DEADLINE_S:g} s")
            await asyncio.sleep(POLL_INTERVAL_S)
        self._failed.clear()

    def _restarting(self, end: Exit) -> None:
        # A negative code is a signal: somebody killed it, which says nothing about its next start.
        if end.code > 0:
            self._failed.append(end)
        self._on_restart(self.name, end)

    def _not_started(self, why: str) -> ChildStartError:
        path = self.process.log_path
        return ChildStartError(
            f"{self.name} did not start: {why}. Its log, {path}, ends with:\n{self.process.log_tail()}"
        )


class SimulatedModel(Child):
    """The simulated model on a free port, which it keeps when it is started again."""

    def __init__(self, data_dir: Path, latency_s: float, on_restart: OnRestart) -> None:
        self._port = free_port()
        super().__init__(
            "model",
            ["headrace.simulated_model", "--port", str(self._port), "--latency", str(latency_s)],
            log_path=data_dir / "model.log",
            env={},
            on_restart=on_restart,
        )

    @property
    def url(self) -> str:
        """What `ANTHROPIC_BASE_URL` is set to."""
        return f"http://{LOOPBACK}:{self._port}"

    def is_ready(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self._port), CONNECT_TIMEOUT_S).close()
        except OSError:
            return False
        return True


class Worker(Child):
    """One worker on a data directory of its own, under a name of its own."""

    def __init__(self, number: int, data_dir: Path, env: Mapping[str, str], on_restart: OnRestart) -> None:
        name = f"worker-{number}"
        home = data_dir / name
        self._ready_file = home / "worker.ready"
        super().__init__(
            name,
            ["headrace", "worker"],
            log_path=home / "worker.log",
            env={**env, "HEADRACE_NAME": name, "HEADRACE_DATA_DIR": str(home)},
            on_restart=on_restart,
        )

    def is_ready(self) -> bool:
        # The file of a worker that was killed stays, with the process id of that one.
        try:
            return self._ready_file.read_text() == str(self.process.pid)
        except FileNotFoundError:
            return False
