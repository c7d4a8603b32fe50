"""Topics of a test's own on the shared broker, and a stand-in for the worker: it writes what the worker would write."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from headrace.connect import assign_at_beginning, consumer, partitions_of, producer
from headrace.topics import apply_topics
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.codec import Headers, cloud_event_headers, decode_command, encode
from schemas.commands import Command, UserMessage
from schemas.events import AgentDelta, AgentEvent, TurnCompleted, TurnStarted
from schemas.topics import AGENT_DELTAS, AGENT_EVENTS, MAX_INTERNAL_BYTES, USER_MESSAGES, Topic
from schemas.usage import Usage

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@asynccontextmanager
async def own_topics(brokers: str, partitions: int = 3) -> AsyncIterator[Settings]:
    """Settings whose topics exist, and are nobody else's."""
    settings = Settings(brokers=brokers, topic_prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=partitions)
    await apply_topics(settings)
    yield settings


class Stand:
    """Reads `user-messages` and writes `agent-events`, in place of a worker."""

    def __init__(self, settings: Settings, sending: AIOKafkaProducer, reading: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._sending = sending
        self._reading = reading

    async def write(self, topic: Topic, key: str, value: bytes, headers: Headers | None = None) -> None:
        await self._sending.send_and_wait(
            topic_name(self._settings, topic), value, key=key.encode(), headers=headers or []
        )

    async def publish(self, *records: AgentEvent | AgentDelta) -> None:
        for record in records:
            topic = AGENT_DELTAS if type(record) in AGENT_DELTAS.records else AGENT_EVENTS
            headers = cloud_event_headers(record, id="e", source="/headrace/decide", at=NOW, subject=record.session_id)
            await self.write(topic, record.session_id, encode(record), headers)

    async def next_command(self) -> Command:
        record = await self._reading.getone()
        command = decode_command(record.value)
        assert record.key == command.session_id.encode()
        return command

    async def answer_next(self, text: str = "answer to {}") -> UserMessage:
        """Answer the next message with this text, in which `{}` is the message's own."""
        command = await self.next_command()
        assert isinstance(command, UserMessage)
        assert command.id is not None
        await self.publish(
            started(command.session_id, command.id, 1),
            completed(command.session_id, command.id, 2, text.format(command.text)),
        )
        return command


@asynccontextmanager
async def stand_in(settings: Settings) -> AsyncIterator[Stand]:
    """A stand-in that reads the messages from the beginning."""
    async with producer(settings, MAX_INTERNAL_BYTES) as sending, consumer(settings) as reading:
        await assign_at_beginning(reading, await partitions_of(reading, topic_name(settings, USER_MESSAGES)))
        yield Stand(settings, sending, reading)


def started(session_id: str, message_id: str, seq: int, turn: int = 1) -> TurnStarted:
    return TurnStarted(
        session_id=session_id, turn_id=f"{session_id}/{turn}", message_id=message_id, seq=seq, at=NOW, agent="assistant"
    )


def completed(session_id: str, message_id: str, seq: int, text: str = "done", turn: int = 1) -> TurnCompleted:
    return TurnCompleted(
        session_id=session_id,
        turn_id=f"{session_id}/{turn}",
        message_id=message_id,
        seq=seq,
        at=NOW,
        agent="assistant",
        text=text,
        usage=Usage(input_tokens=3, output_tokens=2),
        cost_micros=46,
    )
