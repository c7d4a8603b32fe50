"""The stack's Valkey and PostgreSQL: what survives which death, and who is let in."""

import asyncio
import os
import shutil
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from headrace.stack import ports, postgres
from headrace.stack.child import Child, ChildStartError
from headrace.stack.leftover import running_in
from headrace.stack.ports import HIGHEST_PORT, free_port, kept_port
from headrace.stack.postgres import Postgres
from headrace.stack.process import Conditions, Exit, ManagedProcess
from headrace.stack.programs import postgres_programs, server_user
from headrace.stack.valkey import Valkey

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
RESTART_S = 30

Server = TypeVar("Server", bound=Child)


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    """Started; stopped at the end."""
    try:
        await server.start()
        yield server
    finally:
        await server.process.stop()


@asynccontextmanager
async def client_of(server: Valkey) -> AsyncIterator[Any]:
    client = Redis.from_url(server.url, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()


async def ask(server: Postgres, statement: str) -> Any:
    """The first value that the statement gives."""
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def killed(server: Child) -> None:
    server.process.signal(signal.SIGKILL)
    await server.process.wait()


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


async def test_valkey_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """Through kill -9 and through a stop; at the same address, with the same password."""
    first = Valkey(tmp_path)
    async with running(first), client_of(first) as client:
        await client.set("killed", "kept")
        await killed(first)
        await first.start()
        async with client_of(first) as another:
            assert await another.get("killed") == "kept"
            await another.set("stopped", "kept")
    async with running(Valkey(tmp_path)) as second, client_of(second) as client:
        assert second.url == first.url
        assert await client.mget("killed", "stopped") == ["kept", "kept"]


async def test_valkey_lets_nobody_in_without_its_password(tmp_path: Path) -> None:
    """Everybody on the machine reaches the port; nobody else reads the password from a file or a command line."""
    async with running(Valkey(tmp_path)) as server:
        (password,) = (tmp_path / "valkey" / "password").read_text().split()
        stranger: Redis = Redis.from_url(f"redis://{server.address}/0")
        with pytest.raises(AuthenticationError):
            await stranger.get("x")
        await stranger.aclose()
        assert password not in command_line(server.process.pid)
        assert stat.S_IMODE((tmp_path / "valkey").stat().st_mode) == 0o700


async def test_postgres_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """Through kill -9 of the server with its clients connected, and through a stop; it stops in spite of them."""
    first = Postgres(tmp_path)
    async with running(first):
        await ask(first, "CREATE TABLE kept (n int)")
        await ask(first, "INSERT INTO kept VALUES (1)")
        busy = await asyncpg.connect(first.url)
        await killed(first)
        await first.start()
        busy.terminate()
        assert await ask(first, "SELECT count(*) FROM kept") == 1
        idle = await asyncpg.connect(first.url)
        await first.process.stop()
        assert (await first.process.wait()).code != -signal.SIGKILL
        idle.terminate()
    async with running(Postgres(tmp_path)) as second:
        assert second.url == first.url
        assert await ask(second, "SELECT count(*) FROM kept") == 1


async def test_postgres_lets_nobody_in_without_its_password(tmp_path: Path) -> None:
    """Nor does it lie on a command line; the file for the first start is gone."""
    async with running(Postgres(tmp_path)) as server:
        password = (tmp_path / "postgres" / "password").read_text()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url.replace(password, "guessed"))
        assert password not in command_line(server.process.pid)
        assert not (tmp_path / "postgres" / "password.once").exists()


async def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    """As often as it dies; whoever watches is told how it ended."""
    ends: list[tuple[str, int]] = []

    def note(name: str, end: Exit) -> None:
        ends.append((name, end.code))

    cache, database = Valkey(tmp_path, on_restart=note), Postgres(tmp_path, on_restart=note)
    async with running(cache), running(database):
        for server in (cache, database):
            pid = server.process.pid
            server.process.signal(signal.SIGKILL)
            async with asyncio.timeout(RESTART_S):
                while server.process.pid == pid or not (server.process.running and server.is_ready()):
                    await asyncio.sleep(0.02)
        assert await ask(database, "SELECT 1") == 1
        async with client_of(cache) as client:
            assert await client.ping()
    assert ends[0] == ("valkey", -signal.SIGKILL)
    # Where its own children had not ended yet, the first new one refuses to start, and the next one does.
    assert ends[1] == ("postgres", -signal.SIGKILL)


@pytest.mark.parametrize(("kind", "program"), [(Valkey, "valkey-server"), (Postgres, "postgres")])
async def test_what_is_left_of_a_killed_stack_is_ended(
    tmp_path: Path, kind: type[Valkey] | type[Postgres], program: str
) -> None:
    """A server that outlived its stack would have the data to itself, and the new one could not start."""
    folder = tmp_path / program.split("-", maxsplit=1)[0] / "data"
    async with running(kind(tmp_path)) as orphan:
        async with running(kind(tmp_path)) as server:
            assert not orphan.process.running
            assert server.process.pid in list(running_in(folder, program))
            # Another program that merely stands there is left alone.
            assert list(running_in(folder, "python")) == []
        assert list(running_in(folder, program)) == []


async def test_a_process_id_that_somebody_else_has_by_now_does_not_matter(tmp_path: Path) -> None:
    """A killed PostgreSQL leaves its process id in a file; after a reboot it is anybody's."""
    server = Postgres(tmp_path)
    async with running(server):
        await killed(server)
        path = tmp_path / "postgres" / "data" / "postmaster.pid"
        lines = path.read_text().splitlines()
        sleep = shutil.which("sleep")
        assert sleep is not None
        somebody = ManagedProcess(
            "sleep", [sleep, "60"], log_path=tmp_path / "sleep.log", conditions=Conditions(user=server_user())
        )
        await somebody.start()
        path.write_text("\n".join([str(somebody.pid), *lines[1:]]))
        try:
            await server.start()
            assert somebody.running
        finally:
            await somebody.stop(deadline_s=0)


@needs_root
async def test_root_runs_postgres_as_nobody_also_from_a_folder_that_only_root_enters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is with a checkout and data below /root; no permission of a folder above is changed."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    installation = postgres_programs().parent
    package = installation.parent
    copied = closed / package.name / installation.name
    shutil.copytree(installation, copied)
    shutil.copytree(f"{package}.libs", closed / f"{package.name}.libs")
    monkeypatch.setattr(postgres, "postgres_programs", lambda: copied / "bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    async with running(Postgres(closed)) as server:
        assert owner(server.process.pid) != 0
        assert await ask(server, "SELECT 1") == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    (note,) = (tmp_path / "cache" / "headrace").iterdir()
    shutil.rmtree(note.read_text())


async def test_a_user_that_does_not_exist_is_said(tmp_path: Path) -> None:
    """In the log, where every start that failed is explained."""
    child = ManagedProcess(
        "child", ["true"], log_path=tmp_path / "child.log", conditions=Conditions(user="no-such-user")
    )
    await child.start()
    assert (await child.wait()).code == 127
    assert child.log_tail() == "there is no user no-such-user on this machine"


async def test_a_database_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The last lines of its log come with the error."""
    with pytest.raises(ChildStartError, match=r"(?s)postgres did not start: .*no_such_setting"):
        await Postgres(tmp_path, options=("-c", "no_such_setting=1")).start()


def test_a_port_is_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers that start later do not get the same one, though nobody listens on it yet."""
    monkeypatch.setattr(ports, "LOWEST_PORT", HIGHEST_PORT - 30)
    monkeypatch.setattr(ports, "MAX_ATTEMPTS", 10_000)
    chosen = [free_port() for _ in range(20)]
    assert len(set(chosen)) == 20


def test_a_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    """Clients find the server again; where somebody else listens by now, it moves."""
    path = tmp_path / "port"
    port = kept_port(path)
    assert kept_port(path) == port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        moved = kept_port(path)
        assert moved != port
    assert kept_port(path) == moved
