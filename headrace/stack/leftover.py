"""Servers of a stack that was killed and that still run on its data: ended before a new one starts there."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from headrace.stack.errors import StackError

PROCESSES = Path("/proc")
END_DEADLINE_S = 10.0
POLL_INTERVAL_S = 0.02


class LeftoverError(StackError):
    """A server of a former stack does not end."""


def running_in(folder: Path, program: str) -> Iterator[int]:
    """Process ids of this program whose working directory is the folder; none where there is no /proc.

    A server's working directory is where its data are, so this is surer than a file with a process id, which another
    process may have by now.
    """
    for path in PROCESSES.glob("[0-9]*"):
        try:
            found = (path / "cwd").readlink(), (path / "exe").readlink().name.removesuffix(" (deleted)")
        except OSError:
            # It has ended meanwhile, or is somebody else's.
            continue
        if found == (folder, program):
            yield int(path.name)


async def end_leftovers(folder: Path, program: str) -> list[int]:
    """Kill every process of this program in the folder, and return when they are gone; raises `LeftoverError`.

    Both servers keep what they acknowledged when they are killed, and a killed one ends at once.
    """
    ended = list(running_in(folder, program))
    deadline = time.monotonic() + END_DEADLINE_S
    while left := list(running_in(folder, program)):
        if time.monotonic() > deadline:
            raise LeftoverError(
                f"{program} of a former stack still runs in {folder} as process {left[0]}, and does not end when it is "
                "killed. End it, or start with another --data-dir."
            )
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await asyncio.sleep(POLL_INTERVAL_S)
    return ended
