"""The process `headrace project`: one loop for each projection, until it is told to stop."""

import asyncio
import os
import signal
from collections.abc import Collection

import structlog

from projections.catalog import PROJECTIONS
from projections.database import postgres_url
from projections.errors import StoreUnavailableError
from projections.loop import FIRST_WAIT_S, LONGEST_WAIT_S, Stopped, follow, pause
from projections.migrations import require_migrated
from projections.projection import Projection
from projections.source import KafkaSource
from projections.tables import Tables
from runtime.settings import Settings

log = structlog.get_logger()


async def run_projections(settings: Settings, names: Collection[str] = ()) -> None:
    """Run these projections, by default all, until SIGINT or SIGTERM; an error of ours in one stops all.

    Raises:
        ProjectionError: no store is set, or the database is not as it must be.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stopping.set)
    try:
        await project(settings, stopping, names)
    finally:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signal_number)


async def project(settings: Settings, stopping: asyncio.Event, names: Collection[str] = ()) -> None:
    """The same until `stopping` is set; `project.ready` in the data directory has the process id meanwhile."""
    chosen = [projection for name, projection in PROJECTIONS.items() if not names or name in names]
    url = postgres_url(settings)
    try:
        await _migrated(url, stopping)
    except Stopped:
        return
    ready = settings.data_dir / "project.ready"
    ready.parent.mkdir(parents=True, exist_ok=True)
    ready.write_text(str(os.getpid()))
    log.info("projecting", projections=[projection.name for projection in chosen], brokers=settings.brokers)
    try:
        async with asyncio.TaskGroup() as group:
            for projection in chosen:
                group.create_task(_run(settings, projection, url, stopping))
    finally:
        ready.unlink(missing_ok=True)
    log.info("projecting_ended")


async def _migrated(url: str, stopping: asyncio.Event) -> None:
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return await require_migrated(url)
        except StoreUnavailableError as error:
            log.warning("store_unavailable", error=str(error), wait_s=wait_s)
            await pause(wait_s, stopping)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)


async def _run(settings: Settings, projection: Projection, url: str, stopping: asyncio.Event) -> None:
    tables = Tables(projection, url, projection.keep_days(settings.projections))
    source = KafkaSource(settings, projection, stopping)
    try:
        await follow(projection, source, tables, stopping)
    finally:
        tables.close()
        await source.stop()
