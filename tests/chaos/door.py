"""The readers' side of a cluster: stores, projections and a gateway as real processes, and people at the gateway."""

import asyncio
import contextlib
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from chaos.load import ENDS, Key, Load
from postgres_fixture import PostgresServer
from redis.asyncio import Redis

from headrace.development.children import Role
from headrace.stack.child import Child
from headrace.stack.ports import free_port
from headrace.stack.valkey import Valkey
from projections.migrations import migrate

ACCEPTED_S = 90.0
"""A client that is told to try again does so for as long."""
TRY_AGAIN_S = 0.2
REQUEST_S = 10.0
READ_S = 30.0
"""What was answered can be read within this time, once every store is there."""
FOLLOWED = 10
USER = "ann"
"""Of a session whose messages name their user, the messages are counted."""
AT_ONCE = 20


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
        gate = asyncio.Semaphore(AT_ONCE)

        async def read(session_id: str) -> list[str]:
            async with gate:
                return [
                    *await self._check_feed(session_id, messages[session_id]),
                    *await self._check_transcript(session_id, messages[session_id]),
                ]

        read_back = await asyncio.gather(*(read(session_id) for session_id in messages))
        problems = [problem for found in read_back for problem in found]
        problems += await self._check_list({session_id: len(ids) for session_id, ids in messages.items()})
        for follower in self._followers:
            problems += follower.problems(messages[follower.session_id])
        return problems

    async def _check_feed(self, session_id: str, messages: Collection[str]) -> list[str]:
        follower = Follower(self.url, session_id)
        task = asyncio.create_task(follower.run())
        # What is missing when the time is up is said below.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_S):
                while set(messages) - follower.ended.keys():
                    await asyncio.sleep(TRY_AGAIN_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return follower.problems(messages)

    async def _check_transcript(self, session_id: str, messages: Collection[str]) -> list[str]:
        said, answered = Counter[str](), Counter[str]()
        deadline = asyncio.get_running_loop().time() + READ_S
        while asyncio.get_running_loop().time() < deadline:
            items = await self._items(f"sessions/{session_id}/transcript")
            said = Counter(item["message_id"] for item in items if item["type"] == "user_message")
            answered = Counter(item["message_id"] for item in items if item.get("is_answer"))
            if said == answered == Counter(messages):
                return []
            await asyncio.sleep(1.0)
        missing = sorted(set(messages) - (said.keys() & answered.keys()))
        return [f"the transcript of {session_id} lacks {missing}, or says something twice: {said}, {answered}"]

    async def _check_list(self, messages: Mapping[str, int]) -> list[str]:
        """The list of all sessions, which only Redis has: how many messages each has had."""
        listed: dict[str, int | None] = {}
        deadline = asyncio.get_running_loop().time() + READ_S
        while asyncio.get_running_loop().time() < deadline:
            listed = {item["session_id"]: item["messages"] for item in await self._items("sessions")}
            if listed == messages:
                return []
            await asyncio.sleep(1.0)
        wrong = {session_id: (count, listed.get(session_id)) for session_id, count in messages.items()}
        shown = [(session_id, *counts) for session_id, counts in wrong.items() if counts[0] != counts[1]][:3]
        return [f"the list of sessions lacks {len(messages.keys() - listed.keys())}; session, sent, counted: {shown}"]

    async def _items(self, path: str) -> list[dict[str, Any]]:
        """Of all pages; fewer while the store of one is away."""
        items: list[dict[str, Any]] = []
        cursor = None
        async with aiohttp.ClientSession() as http:
            while True:
                query = {"limit": "200", **({"cursor": cursor} if cursor else {})}
                async with http.get(f"{self.url}/v1/{path}", params=query) as response:
                    body = orjson.loads(await response.read())
                    if response.status != 200:
                        return items
                items += body["items"]
                cursor = body["next_cursor"]
                if cursor is None:
                    return items

    def _restarting(self, name: str, _: object) -> None:
        self.restarts.append(name)


class Follower:
    """Reads one session's feed as a browser does: whenever it ends, it resumes behind the last event."""

    def __init__(self, url: str, session_id: str) -> None:
        self.session_id = session_id
        self.seqs: list[int] = []
        self.ended: Counter[str] = Counter()
        self._url = f"{url}/v1/sessions/{session_id}/events"
        self._last_id: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_S, sock_read=20.0)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                # Browsers try again, whatever it was.
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    await self._read(http)
                await asyncio.sleep(TRY_AGAIN_S)

    def problems(self, messages: Collection[str]) -> list[str]:
        found = []
        if self.seqs != list(range(1, len(self.seqs) + 1)):
            found.append(f"the feed of {self.session_id} has gaps or repetitions: {self.seqs}")
        if self.ended != Counter(messages):
            missing = sorted(Counter(messages) - self.ended)
            found.append(f"the feed of {self.session_id} lacks the ends of {missing}, or has others: {self.ended}")
        return found

    async def _read(self, http: aiohttp.ClientSession) -> None:
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        async with http.get(self._url, params={"from": "beginning"}, headers=headers) as response:
            if response.status != 200:
                return
            fields: dict[str, str] = {}
            async for raw in response.content:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                    continue
                self._take(fields)
                fields = {}

    def _take(self, fields: Mapping[str, str]) -> None:
        self._last_id = fields.get("id", self._last_id)
        if "data" not in fields or fields.get("event") == "error":
            return
        event = orjson.loads(fields["data"])
        if fields["event"] in {"text_delta", "delta_reset"}:
            return
        self.seqs.append(event["seq"])
        if event["type"] in ENDS:
            self.ended[event["message_id"]] += 1


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
