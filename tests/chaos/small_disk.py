"""A file system of its own size, in memory, which a scenario fills up: a write fails there as on any full disk."""

import asyncio
import errno
import os
from pathlib import Path

from headrace.stack.process import ManagedProcess

SIZE_MB = 96
"""Room for the tables of a worker that has just begun, and small in memory."""
CHUNK = bytes(1 << 16)
POLL_S = 0.02
# `exec`, so that the process that is stopped is the one that holds the mount; the file says that it is there.
HOLD = 'mount -t tmpfs -o size="$2"m tmpfs "$1" && touch "$1/mounted" && exec sleep infinity'


class LeftOutError(Exception):
    """This machine has not what the scenario needs; the message says what."""


class SmallDisk:
    """Mounted in the namespace of a process that does nothing else, and reached through its entry in `/proc`."""

    def __init__(self, home: Path) -> None:
        self._mount = home / "small-disk"
        # Who is not root here is root in a namespace of users, where the machine lets everybody have one.
        options = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
        self._holder = ManagedProcess(
            "small-disk",
            ["unshare", *options, "sh", "-c", HOLD, "sh", self._mount, str(SIZE_MB)],
            log_path=home / "small-disk.log",
        )

    @property
    def path(self) -> Path:
        return Path(f"/proc/{self._holder.pid}/root{self._mount}")

    async def start(self) -> None:
        """Raises `LeftOutError`."""
        self._mount.mkdir()
        await self._holder.start()
        while not (self.path / "mounted").exists():
            if not self._holder.running:
                raise LeftOutError(f"no file system can be mounted here: {self._holder.log_tail().strip()}")
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """What was on it is gone; does nothing where it was not started."""
        await self._holder.stop()

    def fill(self) -> None:
        """Not one byte more fits on it."""
        with (self.path / "filler").open("ab", buffering=0) as filler:
            chunk = CHUNK
            while chunk:
                try:
                    filler.write(chunk)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    chunk = chunk[: len(chunk) // 2]

    def clear(self) -> None:
        """There is room again."""
        (self.path / "filler").unlink()
