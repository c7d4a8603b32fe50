"""Reads a session, or the sessions of a broadcast: own consumers without a group, from a chosen place on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.connect import assign_at_beginning, assign_at_end, consumer, partitions_of
from headrace.errors import ReadAgainError
from headrace.sequence import SessionReader
from runtime.kafka import partition_for, topic_name
from runtime.settings import Settings
from schemas.codec import decode_agent_delta, decode_agent_event
from schemas.events import AgentDelta, AgentEvent, TurnCancelled, TurnCompleted, TurnEnd, TurnFailed
from schemas.topics import AGENT_DELTAS, AGENT_EVENTS, Topic

MAX_UNREAD_RECORDS = 1_000
"""Between the brokers and a slow reader; beyond it, reading waits."""

_Records = asyncio.Queue[tuple[Topic, bytes] | ReadAgainError]

CLOCK_DIFFERENCE_MS = 60_000
"""A reply is looked for this long before its broadcast, because different clocks stamped the two."""


class Following:
    """A session that is followed; see `Headrace.follow`."""

    def __init__(self, settings: Settings, session_id: str, *, from_beginning: bool, deltas: bool) -> None:
        self._settings = settings
        self._key = session_id.encode()
        self._from_beginning = from_beginning
        self._topics = (AGENT_EVENTS, AGENT_DELTAS) if deltas else (AGENT_EVENTS,)
        self._seen = SessionReader()
        self._records: _Records = asyncio.Queue(MAX_UNREAD_RECORDS)
        self._open: AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        assert self._open is None, "followed twice"
        async with AsyncExitStack() as stack:
            for topic in self._topics:
                client = await stack.enter_async_context(consumer(self._settings))
                await self._assign(client, topic)
                reading = asyncio.create_task(_forward(client, topic, self._key, self._records))
                stack.push_async_callback(_stopped, reading)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._open is not None
        await self._open.aclose()

    async def __aiter__(self) -> AsyncIterator[AgentEvent | AgentDelta]:
        async with AsyncExitStack() as stack:
            if self._open is None:
                await stack.enter_async_context(self)
            while True:
                record = await self._records.get()
                if isinstance(record, ReadAgainError):
                    raise record
                fresh = _fresh(self._seen, *record)
                if fresh is not None:
                    yield fresh

    async def _assign(self, client: Any, topic: Topic) -> None:
        # One consumer per topic: in a shared one, a delta would wait for the fetch of the idle topic to return.
        partitions = await partitions_of(client, topic_name(self._settings, topic))
        place = [partitions[partition_for(self._key, len(partitions))]]
        # Deltas of the past are void: what they said is in the events.
        if self._from_beginning and topic is AGENT_EVENTS:
            await assign_at_beginning(client, place)
        else:
            await assign_at_end(client, place)


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _forward(client: Any, topic: Topic, key: bytes, records: _Records) -> None:
    try:
        async for record in client:
            if record.key == key and record.value is not None:
                await records.put((topic, record.value))
    except KafkaError as error:
        await records.put(ReadAgainError(f"reading {topic.name} failed ({error!r}): follow the session again"))


def _fresh(seen: SessionReader, topic: Topic, value: bytes) -> AgentEvent | AgentDelta | None:
    try:
        if topic is AGENT_DELTAS:
            delta = decode_agent_delta(value)
            return delta if seen.is_current(delta) else None
        event = decode_agent_event(value)
    except msgspec.DecodeError:
        # Somebody else's record, or one of a later version, which this reader cannot show.
        return None
    return event if seen.is_new(event) else None


async def read_replies(settings: Settings, sessions: set[str], since_ms: int) -> AsyncIterator[TurnEnd]:
    """See `Headrace.replies`; `since_ms` is Unix time."""
    waiting = {session_id.encode() for session_id in sessions}
    if not waiting:
        return
    async with consumer(settings) as client:
        all_partitions = await partitions_of(client, topic_name(settings, AGENT_EVENTS))
        places = list({all_partitions[partition_for(key, len(all_partitions))] for key in waiting})
        await _assign_since(client, places, since_ms - CLOCK_DIFFERENCE_MS)
        async for record in client:
            if record.key not in waiting or record.value is None:
                continue
            end = _end_of_turn(record.value)
            if end is not None:
                waiting.discard(record.key)
                yield end
                if not waiting:
                    return


async def _assign_since(client: Any, places: list[TopicPartition], since_ms: int) -> None:
    found = await client.offsets_for_times(dict.fromkeys(places, since_ms))
    await assign_at_end(client, places)
    for place, at in found.items():
        if at is not None:
            client.seek(place, at.offset)


def _end_of_turn(value: bytes) -> TurnEnd | None:
    try:
        event = decode_agent_event(value)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, TurnCompleted | TurnFailed | TurnCancelled) else None
