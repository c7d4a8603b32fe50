"""Waits for the ends of turns: one reader in the background for any number of messages."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from headrace.connect import assign_at_end, consumer, partitions_of
from headrace.errors import ReadAgainError
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.codec import decode_agent_event
from schemas.events import BroadcastCompleted, TurnCancelled, TurnCompleted, TurnEnd, TurnFailed
from schemas.topics import AGENT_EVENTS

_Waiting = dict[str, set["asyncio.Future[Any]"]]
"""Who waits in one session, by message id."""


class Answers:
    """The ends of turns, for those who wait for them; `start` reads from the end of `agent-events` on.

    Only events of sessions that somebody waits for are decoded. The first end of a message counts: a repeated one finds
    nobody waiting.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pending: dict[bytes, _Waiting] = {}
        self._open = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Returns when every end that is published from now on will be seen; does nothing when it runs already.

        Raises `ReadAgainError` where it was closed, also meanwhile.
        """
        async with self._starting:
            if not self._closed and (self._task is None or self._task.done()):
                await self._begin()
            if self._closed:
                raise _closed()

    async def _begin(self) -> None:
        await self._open.aclose()
        client = await self._open.enter_async_context(consumer(self._settings))
        await assign_at_end(client, await partitions_of(client, topic_name(self._settings, AGENT_EVENTS)))
        self._task = asyncio.create_task(self._read(client))

    @contextmanager
    def expecting(self, session_id: str, message_id: str) -> Iterator[asyncio.Future[TurnEnd]]:
        """The end of this message's turn, for the time of the `with` block, in which the message is sent.

        Each caller has a future of its own: one who gives up takes nothing from another who waits for the same message.
        """
        with self._expecting(session_id, message_id) as future:
            yield future

    @contextmanager
    def gathering(self, session_id: str, broadcast_id: str) -> Iterator[asyncio.Future[BroadcastCompleted]]:
        """What a broadcast gathers in this session, for the time of the `with` block, in which it is sent."""
        with self._expecting(session_id, broadcast_id) as future:
            yield future

    @contextmanager
    def _expecting(self, session_id: str, message_id: str) -> Iterator["asyncio.Future[Any]"]:
        place = (session_id.encode(), message_id)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.setdefault(place[0], {}).setdefault(message_id, set()).add(future)
        try:
            yield future
        finally:
            self._forget(*place, future)

    def _forget(self, key: bytes, message_id: str, future: "asyncio.Future[Any]") -> None:
        if future.done() and not future.cancelled():
            # Where the caller's own send failed, nobody looks at the reader's failure.
            future.exception()
        waiting = self._pending[key]
        waiting[message_id].discard(future)
        if not waiting[message_id]:
            del waiting[message_id]
        if not waiting:
            del self._pending[key]

    async def close(self) -> None:
        """Stop reading; who still waits gets `ReadAgainError`."""
        self._closed = True
        # A reader that is being opened meanwhile is closed here too.
        async with self._starting:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            self._fail(_closed())
            await self._open.aclose()

    async def _read(self, client: Any) -> None:
        try:
            async for record in client:
                waiting = self._pending.get(record.key)
                if waiting and record.value is not None:
                    _resolve(waiting, record.value)
        except KafkaError as error:
            self._fail(ReadAgainError(f"reading {AGENT_EVENTS.name} failed ({error!r}): ask again with the same id"))

    def _fail(self, error: ReadAgainError) -> None:
        for waiting in self._pending.values():
            for future in itertools.chain.from_iterable(waiting.values()):
                if not future.done():
                    future.set_exception(error)


def _closed() -> ReadAgainError:
    return ReadAgainError("the client was closed while it waited for an answer")


def _resolve(waiting: _Waiting, value: bytes) -> None:
    try:
        event = decode_agent_event(value)
    except msgspec.DecodeError:
        # Somebody else's record, or one of a later version: no answer that this reader could give.
        return
    if isinstance(event, TurnCompleted | TurnFailed | TurnCancelled | BroadcastCompleted):
        for future in waiting.get(event.message_id, ()):
            if not future.done():
                future.set_result(event)
