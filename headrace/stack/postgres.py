"""PostgreSQL as a child process, on 127.0.0.1: its data, port and password outlive a restart.

It asks for a password because every user of this machine can reach the port, and PostgreSQL lets its superuser run
programs in the name of the user that runs it. There is no socket file: its path could be too long for one.
"""

import asyncio
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from headrace.stack.artifacts import default_cache_dir
from headrace.stack.child import Child, ChildStartError, OnRestart
from headrace.stack.leftover import end_leftovers
from headrace.stack.ports import LOOPBACK, kept_port
from headrace.stack.process import Conditions, ManagedProcess
from headrace.stack.programs import for_everyone, postgres_programs, server_user
from headrace.stack.secret import kept_password
from headrace.stack.tls import write_private

USER = "headrace"
# It takes half a second; a machine under full load takes several times that.
INITDB_DEADLINE_S = 60.0
STATUS_LINE = 7
"""Of postmaster.pid, where the server writes "ready" when it takes connections."""

_SMALL = ("-c", "max_wal_size=256MB", "-c", "shared_buffers=64MB")


class Postgres(Child):
    """One server on `data_dir/postgres`; `options` are more of the server's own."""

    def __init__(self, data_dir: Path, *, options: Sequence[str] = (), on_restart: OnRestart | None = None) -> None:
        self._home = (data_dir / "postgres").absolute()
        self._home.mkdir(parents=True, exist_ok=True)
        self._data = self._home / "data"
        self._user = server_user()
        programs = postgres_programs()
        self._programs = programs if self._user is None else for_everyone(programs, default_cache_dir())
        self._password = kept_password(self._home / "password")
        self.port = kept_port(self._home / "port")
        listen = ("-h", LOOPBACK, "-p", str(self.port), "-c", "unix_socket_directories=")
        super().__init__(
            "postgres",
            [self._programs / "postgres", "-D", self._seen(self._data), *listen, *_SMALL, *options],
            log_path=self._home / "postgres.log",
            # At SIGTERM it would wait until every client has left.
            conditions=Conditions(user=self._user, folder=self._data, stop_signal=signal.SIGINT),
            on_restart=on_restart,
        )

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """Of the database that is always there, with the password."""
        return f"postgresql://{USER}:{self._password}@{self.address}/postgres"

    async def start(self) -> None:
        await end_leftovers(self._data, "postgres")
        # Nobody runs there, but another process may have the process id in this file by now.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        if not self._data.exists():
            await self._initialize()
        await super().start()

    def is_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.process.pid)] and [line.strip() for line in lines[STATUS_LINE:]] == ["ready"]

    def _seen(self, folder: Path) -> Path:
        """How the server names its working directory: another user may not be let into the folders above it."""
        return folder if self._user is None else Path("/proc/self/cwd")

    async def _initialize(self) -> None:
        # Made aside and renamed when complete: what was interrupted cannot be taken for data.
        unfinished, password = self._home / "uninitialized", self._home / "password.once"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        write_private(password, self._password)
        if self._user is not None:
            shutil.chown(unfinished, self._user)
            shutil.chown(password, self._user)
            # So that it can be entered, and not be listed, from the folder below.
            self._home.chmod(0o711)
        data = self._seen(unfinished)
        how = ("--auth=scram-sha-256", f"--pwfile={data / '..' / password.name}", "--encoding=UTF8", "--locale=C")
        initdb = ManagedProcess(
            "initdb",
            # What it wrote is flushed with the first checkpoint; until then nothing is there to be lost.
            [self._programs / "initdb", "-D", data, "-U", USER, *how, "--no-sync", "--no-instructions"],
            log_path=self._home / "initdb.log",
            conditions=Conditions(user=self._user, folder=unfinished),
        )
        await initdb.start()
        try:
            async with asyncio.timeout(INITDB_DEADLINE_S):
                end = await initdb.wait()
        except TimeoutError:
            raise _not_initialized(initdb, f"it took longer than {INITDB_DEADLINE_S:g} s") from None
        finally:
            await initdb.stop(deadline_s=0)
            password.unlink()
        if end.code != 0:
            raise _not_initialized(initdb, str(end))
        unfinished.rename(self._data)


def _not_initialized(initdb: ManagedProcess, why: str) -> ChildStartError:
    return ChildStartError(
        f"the database could not be made: {why}. The log, {initdb.log_path}, ends with:\n{initdb.log_tail()}"
    )
