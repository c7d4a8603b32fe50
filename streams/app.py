"""The pipeline on Faust: topics, processors and the sessions' table, wired."""

from typing import Any

from faust.types import TP

from runtime.kafka import SESSIONS_TABLE, faust_broker_urls, faust_credentials, group_id
from runtime.lenient_records import accept_any_header_name
from runtime.settings import Settings
from schemas.topics import LLM_REQUESTS, SESSION_LOG, TOOL_CALLS
from streams.changelog import mend_recovery
from streams.consumer import App, Tables
from streams.fence import Fence
from streams.lease import HeartbeatLease
from streams.pipeline import Pipeline
from streams.ports import Fail, LogEnd, Table
from streams.table import MemoryTable, RocksDBTable

COMMIT_INTERVAL_S = 1.0
"""After kill -9 the records of the last second are delivered again; what was done for them is not done again."""
SESSION_TIMEOUT_S = 10.0
HEARTBEAT_INTERVAL_S = 0.5
"""By a heartbeat's answer a worker hears of a rebalance: nobody is answered until the last one has heard."""
MAX_POLL_RECORDS = 500


def create_app(settings: Settings) -> App:
    """The Faust app: group, brokers, limits. Nothing is connected yet."""
    accept_any_header_name()
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
        TableManager=Tables,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        table_standby_replicas=settings.standby_replicas,
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
    )
    store = RocksDBTable(table) if settings.store == "rocksdb" else MemoryTable(table)
    app.restore = store.put
    app.keep = store.keep
    if isinstance(store, MemoryTable):
        # Faust would read the whole changelog again where a standby replica has it.
        table.persisted_offset = lambda place: store.offset(place.partition)
    return store


def log_end(app: App, settings: Settings) -> LogEnd:
    """Asks the broker, through the app's consumer, how far the session log goes."""
    topic = settings.topic_prefix + SESSION_LOG.name

    async def end(partition: int) -> int:
        (offset,) = (await app.consumer.highwaters(TP(topic, partition))).values()
        return int(offset)

    return end


def attach(
    app: App, pipeline: Pipeline, settings: Settings, fail: Fail, *, fence: Fence, lease: HeartbeatLease
) -> None:
    """Give each processor its topic, and tell the pipeline, the fence and the lease of rebalances."""
    prefix = settings.topic_prefix
    app.processors = {prefix + node.reads.name: processor for node, processor in pipeline.processors().items()}
    for name in app.processors:
        app.topics.add(app.topic(name, key_type=bytes, value_type=bytes))

    async def on_revoked(app: App, revoked: set[TP], **_: Any) -> None:
        del app, revoked
        await pipeline.suspend()

    app.handed_over = [prefix + topic.name for topic in (SESSION_LOG, LLM_REQUESTS, TOOL_CALLS)]
    app.log_topic = prefix + SESSION_LOG.name
    app.lease = lease
    app.claim = fence.claim
    app.on_positions = pipeline.resume
    app.fail = fail
    mend_recovery(app.tables.recovery)
    app.on_partitions_revoked.connect(on_revoked, weak=False)


async def until_it_ends(app: App) -> None:
    """Wait until the app is told to stop.

    Raises:
        Exception: what a part of Faust has crashed with. Faust says so in the log and goes on without that part: the
            worker would live, keep its partitions and read nothing.
    """
    await app.wait_until_stopped()
    if app.crash_reason is not None:
        raise app.crash_reason
