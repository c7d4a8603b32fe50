"""The pipeline on Faust: topics, processors and the sessions' table, wired."""

from collections.abc import AsyncIterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import faust
from faust.types import TP

from runtime.kafka import SESSIONS_TABLE, faust_broker_urls, faust_credentials, group_id
from runtime.settings import Settings
from schemas.topics import SESSION_LOG
from streams.kafka import App
from streams.pipeline import Pipeline
from streams.ports import Delivery, Fail, Processor, Table
from streams.table import MemoryTable, RocksDBTable
from streams.topology import Node

COMMIT_INTERVAL_S = 1.0
"""After kill -9 the records of the last second are delivered again; what was done for them is not done again."""
SESSION_TIMEOUT_S = 10.0
HEARTBEAT_INTERVAL_S = 2.0
BUFFERED_RECORDS = 16_384
"""Per topic. At four fifths Faust stops fetching a partition, so that one slow topic does not block the others."""
MAX_POLL_RECORDS = 500


def create_app(settings: Settings) -> App:
    """The Faust app: group, brokers, limits. Nothing is connected yet."""
    return App(
        group_id(settings),
        broker=faust_broker_urls(settings),
        broker_credentials=faust_credentials(settings),
        store=f"{settings.store}://",
        datadir=str(settings.data_dir / "tables"),
        consumer_group_instance_id=settings.name,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=HEARTBEAT_INTERVAL_S,
        broker_max_poll_records=MAX_POLL_RECORDS,
        stream_buffer_maxsize=BUFFERED_RECORDS,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )


def create_table(app: App, settings: Settings) -> Table:
    """The sessions' table, registered with the app."""
    table = app.Table(
        SESSIONS_TABLE,
        key_type=bytes,
        value_type=bytes,
        partitions=settings.partitions,
        recovery_buffer_size=1_000,
    )
    return RocksDBTable(table) if settings.store == "rocksdb" else MemoryTable(table, settings.partitions)


def attach(app: App, pipeline: Pipeline, settings: Settings, fail: Fail) -> None:
    """Give each processor its topic, and tell the pipeline of rebalances."""
    for node, processor in pipeline.processors().items():
        _attach(app, node, processor, settings.topic_prefix, fail)
    log_topic = settings.topic_prefix + SESSION_LOG.name

    def on_positions(offsets: Mapping[TP, int]) -> None:
        pipeline.resume({tp.partition: (offset or 0) - 1 for tp, offset in offsets.items() if tp.topic == log_topic})

    async def on_revoked(app: App, revoked: set[TP], **_: Any) -> None:
        del app, revoked
        await pipeline.suspend()

    app.on_positions = on_positions
    app.on_partitions_revoked.connect(on_revoked, weak=False)


def _attach(app: App, node: Node, processor: Processor, prefix: str, fail: Fail) -> None:
    topic = app.topic(
        prefix + node.reads.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )

    async def take_all(stream: faust.StreamT) -> None:
        events: AsyncIterable[faust.EventT] = stream.noack().events()
        try:
            async for event in events:
                await processor.take(_delivery(event))
        except Exception as error:
            # Faust would acknowledge the record and go on with the next.
            fail(error)
            raise

    take_all.__name__ = take_all.__qualname__ = node.name
    app.agent(topic, name=node.name)(take_all)


def _delivery(event: faust.EventT) -> Delivery:
    message = event.message
    return Delivery(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value,
        headers=message.headers or (),
        at=datetime.fromtimestamp(message.timestamp, UTC),
        ack=partial(_ack, event),
    )


def _ack(event: faust.EventT) -> None:
    event.ack()
