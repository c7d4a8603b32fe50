"""Waits for the end of the turn that answers a message."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import structlog
from msgspec import Struct

from gateway.feeds import BEGINNING, Entry, Follower
from gateway.parts import Parts
from gateway.passing_over import UNREADABLE, pass_over
from gateway.problems import Problem
from runtime.ending import cancelled
from schemas.codec import decode_agent_event
from schemas.events import TurnCancelled, TurnCompleted, TurnEnd, TurnFailed

JOIN_TIMEOUT_S = 1.0
"""The message is not handed over before: so long it may be delayed by a feed that does not answer."""

log = structlog.get_logger(__name__)


class _Answers(Struct):
    type: str
    message_id: str


_decode_answers = msgspec.json.Decoder(_Answers).decode


class Waiting:
    """Follows a session from before a message is sent, so that its end cannot be missed.

    Where the feed fails, nothing is waited for: the message is accepted all the same, and can be followed elsewhere.
    """

    def __init__(self, parts: Parts, session_id: str, message_id: str) -> None:
        self._parts = parts
        self._session_id = session_id
        self._message_id = message_id
        self._entries: Follower | None = None

    @asynccontextmanager
    async def following(self, *, from_beginning: bool) -> AsyncIterator[None]:
        """Follow from now on; `from_beginning` where the message may have been answered before."""
        async with AsyncExitStack() as stack:
            after = BEGINNING if from_beginning else None
            try:
                async with asyncio.timeout(JOIN_TIMEOUT_S):
                    self._entries = await stack.enter_async_context(self._parts.feeds.follow(self._session_id, after))
            except Problem as problem:
                log.warning("not_waited", error=problem.detail)
            except TimeoutError:
                log.warning("not_waited", error=f"the feed does not answer within {JOIN_TIMEOUT_S:g} s")
            yield

    async def end(self, wait_s: float) -> TurnEnd | None:
        """The end; None where it does not come in time, or the gateway stops."""
        reading = asyncio.create_task(self._read())
        closing = asyncio.create_task(self._parts.streams.closing.wait())
        try:
            await asyncio.wait((reading, closing), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            await cancelled(reading, closing)

    async def _read(self) -> TurnEnd | None:
        if self._entries is None:
            return None
        try:
            async for entry in self._entries:
                try:
                    end = self._end_in(entry)
                except UNREADABLE as error:
                    pass_over(self._parts.metrics, "wait", entry, error)
                    continue
                if end is not None:
                    return end
        except Problem as problem:
            log.warning("not_waited", error=problem.detail)
        return None

    def _end_in(self, entry: Entry) -> TurnEnd | None:
        if entry.kind != "event" or _decode_answers(entry.body).message_id != self._message_id:
            return None
        event = decode_agent_event(entry.body)
        return event if isinstance(event, TurnCompleted | TurnFailed | TurnCancelled) else None
