"""Child processes of the stack: how they start, die, come back and end."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.stack import process
from headrace.stack.data_dir import DataDirLock
from headrace.stack.errors import DataDirInUseError, ProcessGaveUpError
from headrace.stack.process import Exit, ManagedProcess, RestartPolicy

ROOT = Path(__file__).resolve().parents[2]
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
SLEEP = "import time; print('up', flush=True); time.sleep(60)"
QUICK_RESTART = RestartPolicy(first_delay_s=0.01, max_delay_s=0.02, quick_death_s=5, max_quick_deaths=3)


def python(tmp_path: Path, code: str, *, name: str = "child", restart: RestartPolicy | None = None) -> ManagedProcess:
    """A child that runs this code."""
    return ManagedProcess(name, [sys.executable, "-c", code], log_path=tmp_path / f"{name}.log", restart=restart)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def said(child: ManagedProcess, text: str) -> None:
    """Wait until the log of the process contains the text."""
    await until(lambda: text in child.log_tail())


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not just waiting to be collected."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


async def test_a_child_gets_its_environment_and_its_log(tmp_path: Path) -> None:
    """Both outputs go to the log; a new start keeps the log of the last one beside it; the secret is not shown."""
    code = "import os, sys; print(os.environ['TOKEN'][::-1]); sys.stderr.write('warned'); sys.exit(3)"
    log_path = tmp_path / "logs" / "child.log"
    child = ManagedProcess("child", [sys.executable, "-c", code], log_path=log_path, env={"TOKEN": "hunter2"})
    for _ in range(2):
        await child.start()
        end = await child.wait()
        assert end.code == 3
        assert "2retnuh" in child.log_tail()
        assert child.log_tail().endswith("warned")
    assert log_path.with_name("child.log.1").exists()
    assert "hunter2" not in repr(child)


async def test_a_child_that_ignores_sigterm_is_killed_at_the_deadline(tmp_path: Path) -> None:
    """Stopping takes no longer than was asked for, and stopping twice is no error."""
    child = python(tmp_path, STUBBORN)
    await child.start()
    await said(child, "up")
    started = time.monotonic()
    await child.stop(deadline_s=0.3)
    assert time.monotonic() - started >= 0.3
    assert (await child.wait()).code == -signal.SIGKILL
    assert not child.running
    await child.stop()


async def test_a_program_that_does_not_exist_is_named_in_the_log(tmp_path: Path) -> None:
    """The end of the child says why, where every other reason is found."""
    child = ManagedProcess("child", ["/no/such/program"], log_path=tmp_path / "child.log")
    await child.start()
    assert (await child.wait()).code == 127
    assert child.log_tail() == "cannot execute /no/such/program: No such file or directory"


async def test_a_killed_worker_comes_back_with_another_pid(tmp_path: Path) -> None:
    """Who watches is told of the death; after `stop` nothing comes back."""
    deaths: list[Exit] = []
    command = [sys.executable, "-c", SLEEP]
    child = ManagedProcess(
        "worker", command, log_path=tmp_path / "w.log", restart=QUICK_RESTART, on_restart=deaths.append
    )
    await child.start()
    first = child.pid
    child.signal(signal.SIGKILL)
    await until(lambda: child.pid != first and child.running)
    assert [(death.pid, death.code) for death in deaths] == [(first, -signal.SIGKILL)]
    second = child.pid
    await child.stop()
    assert not is_alive(second)
    assert (await child.wait()).pid == second


async def test_a_worker_that_cannot_start_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    """The error holds what a person needs: how often, how it ended, and the end of its log."""
    child = python(tmp_path, "raise SystemExit('no such broker')", name="worker", restart=QUICK_RESTART)
    await child.start()
    with pytest.raises(ProcessGaveUpError, match=r"worker died 3 times in a row.*status 1(?s:.*)no such broker$"):
        await child.wait()
    assert not child.running


async def test_stop_during_the_delay_before_a_restart_is_at_once(tmp_path: Path) -> None:
    """Ctrl-C does not wait for a process that is not there."""
    slow = RestartPolicy(first_delay_s=60, max_delay_s=60)
    died = asyncio.Event()
    child = ManagedProcess(
        "worker", ["/bin/false"], log_path=tmp_path / "w.log", restart=slow, on_restart=lambda _: died.set()
    )
    await child.start()
    await asyncio.wait_for(died.wait(), 20)
    await asyncio.wait_for(child.stop(), 5)
    assert not child.running


async def test_the_log_of_a_noisy_child_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that never stops talking fills two files of limited size, not the disk; it is not disturbed."""
    monkeypatch.setattr(process, "LOG_CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr(process, "MAX_LOG_BYTES", 1000)
    noise = "import time\nfor n in range(6000):\n    print('line', n, flush=True)\n    time.sleep(0.001)"
    child = python(tmp_path, noise)
    await child.start()
    await until((tmp_path / "child.log.1").exists)
    await until(lambda: 0 < child.log_path.stat().st_size < 1000)
    assert child.running
    assert (tmp_path / "child.log.1").stat().st_size <= 1000
    await child.stop()


async def test_ctrl_c_in_the_terminal_does_not_reach_the_children(tmp_path: Path) -> None:
    """The terminal signals the stack's process group; the children are not in it, so the stack ends them in order."""
    child = python(tmp_path, SLEEP)
    await child.start()
    await said(child, "up")
    assert os.getpgid(child.pid) != os.getpgid(0)
    await child.stop()


PARENT = """
import asyncio, sys, pathlib
from headrace.stack import process
from headrace.stack.data_dir import DataDirLock
from headrace.stack.process import ManagedProcess
async def main():
    here = pathlib.Path(sys.argv[1])
    DataDirLock(here).acquire()
    child = ManagedProcess("child", [sys.executable, "-c", sys.argv[2]], log_path=here / "child.log")
    await child.start()
    while "up" not in child.log_tail():
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
async def test_a_child_dies_with_its_parent_and_the_data_directory_is_free(tmp_path: Path) -> None:
    """A stack that is killed leaves neither a process nor a lock behind."""
    command = [sys.executable, "-c", PARENT, str(tmp_path), STUBBORN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child_pid = int(await parent.stdout.readline())
    assert is_alive(child_pid)
    with pytest.raises(DataDirInUseError, match=f"process id {parent.pid}"):
        DataDirLock(tmp_path).acquire()
    parent.kill()
    await parent.wait()
    await until(lambda: not is_alive(child_pid))
    with DataDirLock(tmp_path):
        pass
