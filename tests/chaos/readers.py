"""Who reads at the gateway: those who follow a feed all the time, and one who reads everything afterwards."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import aiohttp
import orjson
from chaos.load import ENDS

TRY_AGAIN_S = 0.2
REQUEST_S = 10.0
READ_S = 30.0
"""What was answered can be read within this time, once every store is there."""
AT_ONCE = 20


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


class Reader:
    """Somebody who asks the gateway for everything, once nothing happens any more."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def check(self, messages: Mapping[str, Collection[str]]) -> list[str]:
        """What is wrong with it, by what was sent: the ids of each session's messages."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def read(session_id: str) -> list[str]:
            async with gate:
                return [
                    *await self._check_feed(session_id, messages[session_id]),
                    *await self._check_transcript(session_id, messages[session_id]),
                ]

        read_back = await asyncio.gather(*(read(session_id) for session_id in messages))
        problems = [problem for found in read_back for problem in found]
        return problems + await self._check_list({session_id: len(ids) for session_id, ids in messages.items()})

    async def _check_feed(self, session_id: str, messages: Collection[str]) -> list[str]:
        follower = Follower(self._url, session_id)
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
        """The list of all sessions, which only Redis has: how many messages each has had.

        It may have more sessions: of a message that arrived, though its sender was stopped before it heard so.
        """
        listed: dict[str, int | None] = {}
        deadline = asyncio.get_running_loop().time() + READ_S
        while asyncio.get_running_loop().time() < deadline:
            listed = {item["session_id"]: item["messages"] for item in await self._items("sessions")}
            if messages.items() <= listed.items():
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
                async with http.get(f"{self._url}/v1/{path}", params=query) as response:
                    body = orjson.loads(await response.read())
                    if response.status != 200:
                        return items
                items += body["items"]
                cursor = body["next_cursor"]
                if cursor is None:
                    return items
