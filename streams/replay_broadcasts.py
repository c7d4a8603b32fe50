"""replay_broadcasts: gives an agent that is applied the broadcasts that it missed, where its spec asks for them.

One worker at a time does it, as the only reader of `agent-specs` in a group of its own. It commits an agent when all
that it missed is in the log. So a worker that is killed before that is followed by one that begins with the agent
again, and what was given out by then is known to its sessions.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from agents.applied import BadSpecRecordError, read_spec_record
from agents.catalog import Catalog
from runtime.kafka import client_arguments, joining_group, record_time, topic_name
from runtime.settings import Settings
from schemas.directory import AgentApplied
from schemas.topics import AGENT_SPECS, BROADCASTS, MAX_INTERNAL_BYTES
from streams.late_joiners import SETTLED_AFTER, Joiner, LateJoiners, joiner
from streams.ports import Delivery, Shell

POLL_MS = 1_000
RETRY_S = 2.0
LONGEST_PASS_MS = 3_600_000
"""Over all broadcasts of a week; a worker that dies meanwhile is missed by its heartbeats, within seconds."""
CLIENT = "headrace-joining"

log = structlog.get_logger(__name__)


class ReplayBroadcasts:
    """Reads which agents are applied, and what they missed."""

    def __init__(self, settings: Settings, shell: Shell, catalog: Catalog) -> None:
        self._settings = settings
        self._shell = shell
        self._catalog = catalog
        self._retention = timedelta(hours=settings.session_retention_hours)

    async def run(self) -> None:
        """For ever; what the brokers prevent is done when they answer again."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                log.warning("broadcast_replay_failed", error=repr(error), hint="it is tried again")
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            topic_name(self._settings, AGENT_SPECS),
            **client_arguments(self._settings, CLIENT),
            group_id=joining_group(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=LONGEST_PASS_MS,
            max_partition_fetch_bytes=MAX_INTERNAL_BYTES,
        )
        await consumer.start()
        try:
            while True:
                for place, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    await self._applied(records)
                    await consumer.commit({place: records[-1].offset + 1})
        finally:
            await consumer.stop()

    async def _applied(self, records: Sequence[ConsumerRecord]) -> None:
        await self._shell.specs.reached(records[-1].offset)
        joiners = [one for record in records if (one := self._joiner(record)) is not None]
        if not joiners:
            return
        agents = sorted({one.agent for one in joiners})
        log.info("broadcast_replay_begins", agents=agents, specs_offset=records[-1].offset)
        settled = max(record_time(record.timestamp) for record in records) + SETTLED_AFTER
        await asyncio.sleep(max(0.0, min(settled - self._shell.clock(), SETTLED_AFTER) / timedelta(seconds=1)))
        given = await self._pass(joiners)
        log.info("broadcasts_replayed", agents=agents, given=given)

    def _joiner(self, record: ConsumerRecord) -> Joiner | None:
        if record.value is None:
            return None
        try:
            applied = read_spec_record(record.key, record.value)
        except BadSpecRecordError:
            # The roster has said so.
            return None
        spec = self._catalog.get(applied.agent, record.offset)
        if not isinstance(applied, AgentApplied) or spec is None or self._catalog.get(applied.agent) is None:
            return None
        return joiner(spec, record_time(record.timestamp), self._shell.clock(), self._retention)

    async def _pass(self, joiners: Sequence[Joiner]) -> int:
        """Read the broadcasts once, from where the first joiner begins to their end of now; how many were given out."""
        late = LateJoiners(self._shell, self._catalog, joiners)
        since_ms = int(min(one.since for one in joiners).timestamp() * 1_000)
        consumer = AIOKafkaConsumer(
            **client_arguments(self._settings, CLIENT),
            group_id=None,
            enable_auto_commit=False,
            max_partition_fetch_bytes=MAX_INTERNAL_BYTES,
        )
        await consumer.start()
        try:
            topic = topic_name(self._settings, BROADCASTS)
            places = [TopicPartition(topic, number) for number in range(self._settings.partitions)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            for place, found in (await consumer.offsets_for_times(dict.fromkeys(places, since_ms))).items():
                consumer.seek(place, ends[place] if found is None else found.offset)
            given = 0
            while any([await consumer.position(place) < ends[place] for place in places]):
                for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    sent = [future for record in records for future in await late.give(_delivery(record))]
                    await asyncio.gather(*sent)
                    given += len(sent)
            return given
        finally:
            await consumer.stop()


def _delivery(record: ConsumerRecord) -> Delivery:
    return Delivery(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
        at=record_time(record.timestamp),
        ack=lambda: None,
    )
