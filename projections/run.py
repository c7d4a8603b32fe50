"""The process `headrace project`: one loop for each projection, until it is told to stop."""

import asyncio
import os
import signal
from collections.abc import Collection

import structlog

from projections.catalog import PROJECTIONS, needed
from projections.errors import StoreUnavailableError
from projections.loop import FIRST_WAIT_S, LONGEST_WAIT_S, Stopped, Store, follow, pause
from projections.migrations import require_migrated
from projections.projection import Projection, TableProjection
from projections.redis_calls import RedisCalls
from projections.source import KafkaSource
from projections.tables import Tables
from runtime.ending import end_process_within, heeding
from runtime.settings import Settings
from runtime.stores import SetStoreError, postgres_url, redis_prefix, redis_url

STOP_PATIENCE_S = 8.0
"""A batch takes milliseconds. One that takes longer than a rebuild's pause waits for a store or for brokers."""
END_PROCESS_S = 30.0

log = structlog.get_logger()


async def run_projections(settings: Settings, names: Collection[str] = ()) -> None:
    """Run these projections, by default all, until SIGINT or SIGTERM; an error of ours in one stops all.

    A process that was told to stop ends in time, come what may.

    Raises:
        SetStoreError: no store is set. ProjectionError: the database is not as it must be.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not stopping.is_set():
            stopping.set()
            end_process_within(END_PROCESS_S)

    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop)
    try:
        await project(settings, stopping, names)
    finally:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signal_number)


async def project(settings: Settings, stopping: asyncio.Event, names: Collection[str] = ()) -> None:
    """The same until `stopping` is set; `project.ready` in the data directory has the process id meanwhile."""
    chosen = _chosen(settings, names)
    if any(isinstance(projection, TableProjection) for projection in chosen):
        try:
            if not await heeding(_migrated(postgres_url(settings), stopping), stopping, 0.0):
                return
        except Stopped:
            return
    ready = settings.data_dir / "project.ready"
    ready.parent.mkdir(parents=True, exist_ok=True)
    ready.write_text(str(os.getpid()))
    log.info("projecting", projections=[projection.name for projection in chosen], brokers=settings.brokers)
    try:
        async with asyncio.TaskGroup() as group:
            for projection in chosen:
                group.create_task(_run(settings, projection, stopping))
    finally:
        ready.unlink(missing_ok=True)
    log.info("projecting_ended")


def _chosen(settings: Settings, names: Collection[str]) -> list[Projection]:
    """Those that are named, or all that are needed and whose store is set."""
    if names:
        return [PROJECTIONS[name] for name in names]
    chosen = [
        projection
        for projection in needed(settings).values()
        if (settings.postgres if isinstance(projection, TableProjection) else settings.redis) is not None
    ]
    if not chosen:
        raise SetStoreError(
            "no store is set: give the URL of PostgreSQL in HEADRACE_POSTGRES, or that of Redis in HEADRACE_REDIS"
        )
    return chosen


async def _migrated(url: str, stopping: asyncio.Event) -> None:
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return await require_migrated(url)
        except StoreUnavailableError as error:
            log.warning("store_unavailable", error=str(error), wait_s=wait_s)
            await pause(wait_s, stopping)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)


async def _run(settings: Settings, projection: Projection, stopping: asyncio.Event) -> None:
    store = store_of(settings, projection)
    source = KafkaSource(settings, projection, store.progress, stopping)
    try:
        if not await heeding(follow(projection, source, store, stopping), stopping, STOP_PATIENCE_S):
            log.warning("projection_given_up", projection=projection.name, hint="what it had begun will come again")
    finally:
        await store.close()
        await source.stop()


def store_of(settings: Settings, projection: Projection) -> Store:
    """Where the projection writes; raises `SetStoreError` where that is not set."""
    if isinstance(projection, TableProjection):
        return Tables(projection, postgres_url(settings), projection.keep_days(settings.projections))
    return RedisCalls(projection.name, redis_url(settings), redis_prefix(settings))
