"""The readers' side of a cluster: stores, projections and a gateway as real processes, and people at the gateway."""

import asyncio
import shutil
import signal
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import aiohttp
import orjson
from chaos.load import Key, Load
from chaos.readers import REQUEST_S, TRY_AGAIN_S, Follower, Reader
from postgres_fixture import PostgresServer
from redis.asyncio import Redis

from headrace.development.children import Role
from headrace.stack.child import Child
from headrace.stack.ports import free_port
from headrace.stack.valkey import Valkey
from projections.migrations import migrate

ACCEPTED_S = 90.0
"""A client that is told to try again does so for as long."""
FOLLOWED = 10
USER = "ann"
"""Of a session whose messages name their user, the messages are counted."""


class Door:
    """Valkey and PostgreSQL, whose data outlive a kill, `headrace project` and `headrace gateway`, kept alive."""

    def __init__(self, home: Path) -> None:
        self.valkey = Valkey(home)
        self.postgres = PostgresServer(home)
        self.restarts: list[str] = []
        self._home = home
        self._port = free_port()
        self._roles: list[Role] = []
        self._followers: list[Follower] = []
        self._following: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def project(self) -> Role:
        return self._roles[0]

    @property
    def gateway(self) -> Role:
        return self._roles[1]

    async def start(self, environment: Mapping[str, str]) -> None:
        """`environment`: where the brokers are."""
        await asyncio.gather(self.valkey.start(), self.postgres.start())
        await migrate(self.postgres.url)
        told = {
            **environment,
            "HEADRACE_POSTGRES": self.postgres.url,
            "HEADRACE_REDIS": self.valkey.url,
            "HEADRACE_GATEWAY_PORT": str(self._port),
            "HEADRACE_GATEWAY_OPEN": "true",
            "HEADRACE_GATEWAY_REQUESTS_PER_SECOND": "1000",
        }
        self._roles = [Role(name, name, self._home, told, self._restarting) for name in ("project", "gateway")]
        await asyncio.gather(*(role.start() for role in self._roles))
        self.follow(f"s{number}" for number in range(FOLLOWED))

    async def stop(self) -> None:
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        await asyncio.gather(*(role.process.stop() for role in self._roles))
        await asyncio.gather(self.valkey.process.stop(), self.postgres.process.stop())

    def follow(self, sessions: Iterable[str]) -> None:
        """Read their feeds from now on, and resume them whenever they end."""
        self._followers = [Follower(self.url, session_id) for session_id in sessions]
        self._following = [asyncio.create_task(follower.run()) for follower in self._followers]

    async def kill(self, child: Child) -> None:
        """SIGKILL; of a store, wait until it is gone."""
        child.process.signal(signal.SIGKILL)
        if child in {self.valkey, self.postgres}:
            await child.process.wait()

    async def lose_redis_data(self) -> None:
        """As by a mistake, under everybody who uses it."""
        async with Redis.from_url(self.valkey.url) as redis:
            await redis.flushall()

    async def replace_redis(self) -> None:
        """Another one takes its place, with nothing in it."""
        await self.kill(self.valkey)
        for path in (self._home / "valkey" / "data").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        await self.valkey.start()

    async def check(self, sent: Collection[Key]) -> list[str]:
        """What is wrong with what people can read; nothing, once projections have caught up."""
        messages: defaultdict[str, set[str]] = defaultdict(set)
        for session_id, message_id in sent:
            messages[session_id].add(message_id)
        problems = await Reader(self.url).check(messages)
        for follower in self._followers:
            problems += follower.problems(messages[follower.session_id])
        return problems

    def _restarting(self, name: str, _: object) -> None:
        self.restarts.append(name)


class HttpLoad(Load):
    """The same over the gateway: each message is sent again, with the same id, until it is accepted."""

    def __init__(self, bootstrap: str, per_s: float, url: str) -> None:
        super().__init__(bootstrap, per_s)
        self._url = url
        self._http: aiohttp.ClientSession

    async def start(self) -> None:
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        self._http = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=500))

    async def stop(self) -> None:
        """When it returns, all that was sent is accepted."""
        try:
            await asyncio.gather(*self._pending)
        finally:
            await self._http.close()

    async def _send(self, body: bytes, key: Key, *, is_malformed: bool = False) -> None:
        if is_malformed:
            return  # The gateway refuses it, and it never comes to the brokers.
        task = asyncio.create_task(self._post(orjson.loads(body)["text"], key))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _post(self, text: str, key: Key) -> None:
        session_id, message_id = key
        async with asyncio.timeout(ACCEPTED_S):
            while not await self._is_accepted(session_id, {"text": text, "id": message_id, "user_id": USER}):
                await asyncio.sleep(TRY_AGAIN_S)
        self.sent[key] = asyncio.get_running_loop().time()

    async def _is_accepted(self, session_id: str, body: dict[str, str]) -> bool:
        try:
            async with self._http.post(f"{self._url}/v1/sessions/{session_id}/messages", json=body) as response:
                assert response.status in {202, 429, 503}, f"{response.status}: {await response.text()}"
                return response.status == 202
        except (aiohttp.ClientError, TimeoutError):
            return False
