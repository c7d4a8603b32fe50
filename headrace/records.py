"""Records of any topic, read from the beginning, from now on, or as far as they go; shown as one line or one object."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from headrace.connect import assign_at_beginning, assign_at_end, consumer, partitions_of
from headrace.errors import UsageError
from runtime.kafka import record_time, topic_name
from runtime.settings import Settings
from schemas.topics import TOPICS, Topic

MAX_LINE_CHARACTERS = 400
"""Of a record that is shown to a person; programs get all of it."""

POLL_MS = 1_000

_SHOWN_FIRST = ("type", "session_id", "seq", "text")


def find_topic(name: str, settings: Settings) -> Topic:
    """The topic of this name, given with or without the prefix; raises `UsageError` naming those there are."""
    plain = name.removeprefix(settings.topic_prefix)
    for topic in TOPICS:
        if topic.name == plain:
            return topic
    raise UsageError(f"expected one of {', '.join(topic.name for topic in TOPICS)}, got {name}")


async def follow_topic(settings: Settings, topic: Topic, *, from_beginning: bool) -> AsyncGenerator[ConsumerRecord]:
    """Every record of the topic; does not end by itself."""
    async with consumer(settings) as client:
        partitions = await partitions_of(client, topic_name(settings, topic))
        await (assign_at_beginning if from_beginning else assign_at_end)(client, partitions)
        async for record in client:
            yield record


async def read_topic(settings: Settings, topic: Topic) -> AsyncGenerator[ConsumerRecord]:
    """Every record that is in the topic at the moment of the call, partition by partition as they come."""
    async with consumer(settings) as client:
        partitions = await partitions_of(client, topic_name(settings, topic))
        async with aclosing(read_partitions(client, partitions)) as records:
            async for record in records:
                yield record


async def read_partitions(
    client: AIOKafkaConsumer, partitions: Collection[TopicPartition], since_ms: int | None = None
) -> AsyncGenerator[ConsumerRecord]:
    """Every record that these partitions have at the moment of the call, as they come.

    With `since_ms`, in milliseconds since 1970, only from the first one on that was written then or later.
    """
    ends = await client.end_offsets(partitions)
    if since_ms is None:
        begins = await client.beginning_offsets(partitions)
    else:
        found = await client.offsets_for_times(dict.fromkeys(partitions, since_ms))
        begins = {partition: ends[partition] if one is None else one.offset for partition, one in found.items()}
    left = {partition for partition in partitions if begins[partition] < ends[partition]}
    if left:
        client.assign(left)
    for partition in left:
        client.seek(partition, begins[partition])
    while left:
        for partition, records in (await client.getmany(timeout_ms=POLL_MS)).items():
            for record in records:
                if record.offset < ends[partition]:
                    yield record
        left = {partition for partition in left if await client.position(partition) < ends[partition]}


def body_of(value: bytes | None) -> Any:
    """The record's JSON; text that is none as it is, and bytes that are no text with marks in their place."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value.decode(errors="replace")


def session_of(record: ConsumerRecord, body: Any) -> str | None:
    """Whose record it is: what the body says, else the key."""
    if isinstance(body, dict) and isinstance(body.get("session_id"), str):
        return str(body["session_id"])
    return None if record.key is None else record.key.decode(errors="replace")


def as_object(record: ConsumerRecord, body: Any) -> dict[str, Any]:
    """The record for a program: its place, time, key and headers, and its body as `record`."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "at": record_time(record.timestamp),
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "headers": {name: value.decode(errors="replace") for name, value in record.headers},
        "record": body,
    }


def as_line(record: ConsumerRecord, body: Any) -> tuple[str, str, str]:
    """The record for a person: its time and place, its type, and what it says."""
    place = f"{record_time(record.timestamp):%H:%M:%S.%f}"[:-3] + f" {record.partition}@{record.offset}"
    if not isinstance(body, dict):
        return place, "?", str(body)[:MAX_LINE_CHARACTERS]
    session = session_of(record, body) or "-"
    first = {name: body[name] for name in _SHOWN_FIRST if name in body and name not in ("type", "session_id")}
    rest = {name: value for name, value in body.items() if name not in _SHOWN_FIRST and value not in (None, {}, [], "")}
    said = " ".join(f"{name}={_short(value)}" for name, value in (first | rest).items())
    return place, str(body.get("type", "user_message")), f"{session} {said}"[:MAX_LINE_CHARACTERS]


def _short(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
