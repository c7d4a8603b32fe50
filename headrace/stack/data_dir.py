"""One stack per data directory: a lock that ends with the process that holds it."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.stack.errors import DataDirInUseError

LOCK_NAME = "stack.lock"


class DataDirLock:
    """Holds a data directory for this process, as a context manager or with `acquire` and `release`.

    The kernel releases it when the process dies, so a stale lock cannot exist. The file itself stays: removing it would
    let two processes lock two files of the same name.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the directory."""
        return self._fd is not None

    def acquire(self) -> None:
        """Take the lock, creating the directory; raises `DataDirInUseError` naming the process that holds it."""
        assert self._fd is None, "already acquired"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode().strip() or "unknown"
            os.close(fd)
            raise DataDirInUseError(
                f"{self.data_dir} is in use by the stack with process id {holder}. "
                "Stop that one (Ctrl-C, or kill it), or start this one with another --data-dir."
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the directory back; does nothing when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()
