"""What the brokers have about agents now: what is applied, and who is announced."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from msgspec import Struct

from agents.applied import BadSpecRecordError, read_spec_record, spec_of
from agents.directory import ANNOUNCED_WITHIN, Directory
from agents.spec import AgentSpec
from headrace.connect import consumer, partitions_of
from headrace.errors import TryAgainError
from runtime.kafka import record_time, topic_name
from runtime.settings import Settings
from schemas.directory import AgentApplied, SpecRecord
from schemas.topics import AGENT_DIRECTORY, AGENT_SPECS

POLL_MS = 500
TIMEOUT_S = 30.0


class SpecEntry(Struct, frozen=True, kw_only=True):
    """A record of `agent-specs`; `written_at` is its timestamp."""

    offset: int
    key: bytes
    written_at: datetime
    record: SpecRecord


class Known(Struct, frozen=True, kw_only=True):
    """What is applied, in the order in which it was, and what is announced at `at`."""

    at: datetime
    entries: tuple[SpecEntry, ...]
    directory: Directory

    def standing(self) -> dict[str, SpecEntry]:
        """The newest record of each agent."""
        return {entry.record.agent: entry for entry in self.entries}

    def over(self, files: Mapping[str, AgentSpec]) -> dict[str, AgentSpec]:
        """The agents of the files as they are now: changed, added and removed as it was applied."""
        agents = dict(files)
        for name, entry in self.standing().items():
            if isinstance(entry.record, AgentApplied):
                with suppress(BadSpecRecordError):  # A worker ignores it, too.
                    agents[name] = spec_of(entry.record)
            else:
                agents.pop(name, None)
        return agents

    def history(self, agent: str) -> list[SpecEntry]:
        """The records of one agent, oldest first."""
        return [entry for entry in self.entries if entry.record.agent == agent]


async def read_known(settings: Settings) -> Known:
    """Read both topics to their ends.

    Raises:
        StartBrokersError, ApplyTopicsError: there are no brokers, or no topics.
    """
    entries: dict[bytes, SpecEntry] = {}
    directory = Directory()
    async with consumer(settings) as client:
        (specs,) = await partitions_of(client, topic_name(settings, AGENT_SPECS))
        (announced,) = await partitions_of(client, topic_name(settings, AGENT_DIRECTORY))
        since_ms = int((datetime.now(UTC) - ANNOUNCED_WITHIN).timestamp() * 1000)
        begins, ends = await client.beginning_offsets([specs]), await client.end_offsets([specs, announced])
        recent = (await client.offsets_for_times({announced: since_ms}))[announced]
        begins[announced] = ends[announced] if recent is None else recent.offset
        try:
            async with asyncio.timeout(TIMEOUT_S):
                for record in await _read(client, begins, ends):
                    if record.topic == announced.topic:
                        directory.take(record.key, record.value)
                    else:
                        _take_spec(entries, record)
        except TimeoutError:
            raise TryAgainError(f"{specs.topic} was not read within {TIMEOUT_S:.0f} s: try again") from None
    in_order = tuple(sorted(entries.values(), key=lambda entry: entry.offset))
    return Known(at=datetime.now(UTC), entries=in_order, directory=directory)


async def _read(
    client: AIOKafkaConsumer, begins: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> list[ConsumerRecord]:
    client.assign(list(ends))
    for place, offset in begins.items():
        client.seek(place, offset)
    found: list[ConsumerRecord] = []
    while any([await client.position(place) < end for place, end in ends.items()]):
        for records in (await client.getmany(timeout_ms=POLL_MS)).values():
            found += records
    return found


def _take_spec(entries: dict[bytes, SpecEntry], record: ConsumerRecord) -> None:
    """As a worker reads it: a deleted record is gone, and one that is not valid never was."""
    entries.pop(record.key or b"", None)
    if record.value is None:
        return
    try:
        spec = read_spec_record(record.key, record.value)
    except BadSpecRecordError:
        return
    written_at = record_time(record.timestamp)
    entries[record.key] = SpecEntry(offset=record.offset, key=record.key, written_at=written_at, record=spec)
