"""Child processes of the stack: each with its log file, a bounded end, and a restart when it should be kept alive."""

import asyncio
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.stack import launch
from headrace.stack.errors import ProcessGaveUpError

# Weeks of a quiet server or hours of a noisy one; what is older is kept once, in NAME.log.1.
MAX_LOG_BYTES = 16 * 1024 * 1024
# At 100 MB/s, faster than anything here writes, a log is over its limit by this many seconds' worth at most.
LOG_CHECK_INTERVAL_S = 5.0
LOG_TAIL_LINES = 25
# A tail is for a person's screen: longer lines than this on average are cut from the front.
MAX_TAIL_BYTES = 16 * 1024
STOP_DEADLINE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """Start a process again when it ends by itself, after a delay that doubles with each quick death."""

    first_delay_s: float = 0.2
    max_delay_s: float = 5.0
    # A process that lived this long was well: its death starts a new count.
    quick_death_s: float = 10.0
    # With the delays above, a process that cannot start is given up after about 6 seconds of trying.
    max_quick_deaths: int = 5

    def delay_s(self, quick_deaths: int) -> float:
        """Seconds to wait before the next start, after so many quick deaths in a row."""
        return float(min(self.first_delay_s * 2 ** max(0, quick_deaths - 1), self.max_delay_s))


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """In whose name and in which folder a process runs, and how it is told to end; by default as this one does."""

    user: str | None = None
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class Exit:
    """One end of a process: `code` is the exit status, or minus the signal's number."""

    pid: int
    code: int
    lived_s: float

    def __str__(self) -> str:
        how = f"was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"ended with status {self.code}"
        return f"process {self.pid} {how} after {self.lived_s:.1f} s"


AS_THIS_ONE = Conditions()


class ManagedProcess:
    """A child that never outlives this process (Linux), writing to a log file of bounded size.

    `env` is added to this process's environment and never shown. The child leads a session of its own, so that Ctrl-C
    in the terminal reaches only the stack, which stops its children in order. Start it from the main thread: the kernel
    counts the end of the thread that started a child as the end of its parent.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        conditions: Conditions = AS_THIS_ONE,
        restart: RestartPolicy | None = None,
        on_restart: Callable[[Exit], None] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command = [str(part) for part in command]
        self._env = dict(env or {})
        self._conditions = conditions
        self._restart = restart
        self._on_restart = on_restart
        self._process: asyncio.subprocess.Process | None = None
        self._started_at = 0.0
        self._stopping = asyncio.Event()
        self._supervisor: asyncio.Task[Exit | ProcessGaveUpError] | None = None

    def __repr__(self) -> str:
        return f"ManagedProcess({self.name!r}, pid={self._process.pid if self._process else None})"

    @property
    def pid(self) -> int:
        """The process id of the present child; changes when it is started again."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the child lives now; False during the delay before a restart."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the child with an empty log; the one of the last start is kept as NAME.log.1."""
        assert self._supervisor is None or self._supervisor.done(), "already started"
        self._stopping.clear()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.log_path.exists():
            self.log_path.replace(_previous(self.log_path))
        await self._spawn()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"supervise {self.name}")

    async def wait(self) -> Exit:
        """Wait until the child has ended and is not started again; raises `ProcessGaveUpError`."""
        assert self._supervisor is not None, "not started"
        outcome = await asyncio.shield(self._supervisor)
        if isinstance(outcome, ProcessGaveUpError):
            raise outcome
        return outcome

    async def stop(self, deadline_s: float = STOP_DEADLINE_S) -> None:
        """Tell it to end, and SIGKILL when it is still there after `deadline_s`; does nothing when it has ended."""
        if self._supervisor is None:
            return
        self._stopping.set()
        self.signal(self._conditions.stop_signal)
        try:
            await asyncio.wait_for(asyncio.shield(self._supervisor), deadline_s)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self._supervisor
        finally:
            # Also when this wait is cancelled: nobody comes back to look after the child.
            self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child, if it lives."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of the log, for an error message."""
        return log_tail(self.log_path, lines)

    async def _spawn(self) -> None:
        launcher = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), self._conditions.user or ""]
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *launcher,
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._env},
                cwd=self._conditions.folder,
                start_new_session=True,
            )
        self._started_at = time.monotonic()
        if self._stopping.is_set():
            self.signal(self._conditions.stop_signal)

    async def _supervise(self) -> Exit | ProcessGaveUpError:
        quick_deaths = 0
        while True:
            end = await self._wait_for_exit()
            if self._stopping.is_set() or self._restart is None:
                return end
            quick_deaths = quick_deaths + 1 if end.lived_s < self._restart.quick_death_s else 0
            if quick_deaths >= self._restart.max_quick_deaths:
                return ProcessGaveUpError(
                    f"{self.name} died {quick_deaths} times in a row within {self._restart.quick_death_s:g} s of its "
                    f"start and is not started again; the last time {end}. Its log, {self.log_path}, ends with:\n"
                    f"{self.log_tail()}"
                )
            if self._on_restart is not None:
                self._on_restart(end)
            if await self._stopped_within(self._restart.delay_s(quick_deaths)):
                return end
            await self._spawn()

    async def _wait_for_exit(self) -> Exit:
        process = self._process
        assert process is not None, "not started"
        while True:
            try:
                code = await asyncio.wait_for(process.wait(), LOG_CHECK_INTERVAL_S)
            except TimeoutError:
                bound_log(self.log_path, MAX_LOG_BYTES)
            else:
                return Exit(process.pid, code, time.monotonic() - self._started_at)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True


def bound_log(path: Path, max_bytes: int) -> None:
    """Move the content of a log over `max_bytes` to NAME.log.1, while its writer goes on.

    The writer appends, so after the cut it goes on at the new end. What it writes between the copy and the cut is lost.
    """
    if not path.exists() or path.stat().st_size <= max_bytes:
        return
    try:
        with path.open("rb") as log:
            log.seek(-max_bytes, os.SEEK_END)
            _previous(path).write_bytes(log.read(max_bytes))
    except OSError:
        # On a full disk the copy gives way: the space is needed more than the old lines.
        _previous(path).unlink(missing_ok=True)
    os.truncate(path, 0)


def log_tail(path: Path, lines: int) -> str:
    """The last lines of a file, as text that can be printed; a missing file has none."""
    if not path.exists():
        return ""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - MAX_TAIL_BYTES))
        text = log.read(MAX_TAIL_BYTES).decode(errors="replace")
    return "\n".join(deque(text.splitlines(), maxlen=lines))


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".1")
