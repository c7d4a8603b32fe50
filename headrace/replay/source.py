"""What the brokers have of one session: its facts, its agent events, and how far both reach."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError

from agents.applied import apply_record
from agents.catalog import AgentsFileError, Catalog
from agents.tools import Toolbox
from agents.version import CORE_VERSION
from headrace.connect import admin, assign_at_beginning, consumer, partitions_of
from headrace.errors import TryAgainError
from headrace.replay.errors import NoSuchSessionError, ReplayAgentsError
from headrace.replay.recording import About, AppliedAgent, Emitted, Fact, Reach, Recording, value_fields
from headrace.versions import installed_version
from runtime.kafka import group_id, partition_for, topic_name
from runtime.settings import Settings
from schemas.topics import AGENT_EVENTS, AGENT_SPECS, SESSION_LOG
from streams.agent_files import read_catalog, read_toolbox

KEPT_HEADERS = ("ce_id", "ce_source", "ce_time", "traceparent")
"""Of a fact: who wrote it, when, and what it goes back to; the others repeat its body."""
POLL_MS = 500
COORDINATOR_ATTEMPTS = 20
COORDINATOR_PAUSE_S = 0.25


class _Body(msgspec.Struct):
    session_id: str


_decode_body = msgspec.json.Decoder(_Body).decode


async def read_session(settings: Settings, session_id: str) -> Recording:
    """The session's records that the brokers have now; without outcomes.

    Raises:
        NoSuchSessionError: the log has none.
        ReplayAgentsError: the agents or tools of the settings cannot be read.
        StartBrokersError, ApplyTopicsError: there are no brokers, or no topics.
    """
    catalog, toolbox = _agents(settings)
    async with consumer(settings) as client, admin(settings) as groups:
        log = await _partition_of(client, topic_name(settings, SESSION_LOG), session_id)
        events = await _partition_of(client, topic_name(settings, AGENT_EVENTS), session_id)
        # In this order: the facts of all events that are read are read too, and what was committed before both had its
        # events emitted.
        committed = await _committed(groups, group_id(settings), log)
        begins = await client.beginning_offsets([log, events])
        events_end = (await client.end_offsets([events]))[events]
        log_end = (await client.end_offsets([log]))[log]
        oldest_ms: int | None = None
        emitted: list[Emitted] = []
        async for record in _read(client, events, events_end):
            oldest_ms = record.timestamp if oldest_ms is None else oldest_ms
            if _session_of(record) == session_id:
                fields = value_fields(record.value)
                emitted.append(Emitted(offset=record.offset, timestamp_ms=record.timestamp, **fields))
        facts = [_fact(record) async for record in _read(client, log, log_end) if _session_of(record) == session_id]
        # After the facts, so that it has what each of them was stamped with.
        (specs,) = await partitions_of(client, topic_name(settings, AGENT_SPECS))
        specs_end = (await client.end_offsets([specs]))[specs]
        async for record in _read(client, specs, specs_end):
            apply_record(catalog, record.offset, record.key, record.value)
    if not facts:
        raise _no_such_session(session_id, log, begins[log], log_end, len(emitted))
    reach = Reach(
        topic=log.topic,
        partition=log.partition,
        log_begin=begins[log],
        events_begin=begins[events],
        events_oldest_ms=oldest_ms,
        decided_before=committed,
    )
    about = _about(session_id, reach, catalog, toolbox)
    return Recording(about=about, facts=tuple(facts), events=tuple(emitted))


def _agents(settings: Settings) -> tuple[Catalog, Toolbox]:
    try:
        return read_catalog(settings), read_toolbox(settings)
    except (AgentsFileError, ValueError, OSError) as error:
        raise ReplayAgentsError(f"the agents or tools of these settings cannot be read: {error}") from None


def _about(session_id: str, reach: Reach, catalog: Catalog, toolbox: Toolbox) -> About:
    return About(
        made_with=CORE_VERSION,
        outcomes_of=CORE_VERSION,
        headrace=installed_version("headrace"),
        session_id=session_id,
        reach=reach,
        default_agent=catalog.default,
        agents=dict(catalog.files),
        applied=_applied(catalog),
        tools={known.name: msgspec.to_builtins(known) for known in toolbox.known_definitions()},
    )


def _applied(catalog: Catalog) -> tuple[AppliedAgent, ...]:
    found = [
        AppliedAgent(offset=one.offset, agent=name, spec=one.spec)
        for name in catalog.applied()
        for one in catalog.history(name)
    ]
    return tuple(sorted(found, key=lambda one: one.offset))


async def _partition_of(client: AIOKafkaConsumer, topic: str, session_id: str) -> TopicPartition:
    partitions = await partitions_of(client, topic)
    return partitions[partition_for(session_id.encode(), len(partitions))]


async def _read(client: AIOKafkaConsumer, partition: TopicPartition, end: int) -> AsyncIterator[ConsumerRecord]:
    await assign_at_beginning(client, [partition])
    while await client.position(partition) < end:
        for records in (await client.getmany(partition, timeout_ms=POLL_MS)).values():
            for record in records:
                if record.offset < end:
                    yield record


def _session_of(record: ConsumerRecord) -> str | None:
    """What the body says, which is what a worker goes by; the key where the body says nothing."""
    try:
        return _decode_body(record.value or b"").session_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None if record.key is None else record.key.decode(errors="replace")


def _fact(record: ConsumerRecord) -> Fact:
    headers = tuple((name, value.decode(errors="replace")) for name, value in record.headers if name in KEPT_HEADERS)
    fields = value_fields(record.value)
    return Fact(offset=record.offset, timestamp_ms=record.timestamp, headers=headers, **fields)


async def _committed(groups: AIOKafkaAdminClient, group: str, log: TopicPartition) -> int | None:
    """The offset that the workers have committed; None where none ever did."""
    for _ in range(COORDINATOR_ATTEMPTS):
        try:
            found = (await groups.list_consumer_group_offsets(group)).get(log)
        except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
            # Brokers that never had a group begin to make a place for groups when they are first asked.
            await asyncio.sleep(COORDINATOR_PAUSE_S)
        else:
            return None if found is None or found.offset < 0 else int(found.offset)
    raise TryAgainError(f"the brokers do not tell yet what the workers ({group}) have committed: try again")


def _no_such_session(session_id: str, log: TopicPartition, begin: int, end: int, events: int) -> NoSuchSessionError:
    where = f"{log.topic}, partition {log.partition}, offsets {begin} to {end}"
    if events:
        return NoSuchSessionError(
            f"the facts of session {session_id} are not in {where} any more: retention has removed them. "
            f"The {events} agent events that are left: `headrace tail agent-events --from-beginning --session …`"
        )
    removed = "; older ones were removed by retention" if begin > 0 else ""
    return NoSuchSessionError(
        f"session {session_id} has no fact in {where}{removed}: correct the id (its case counts), the brokers, or the "
        "topic prefix"
    )
