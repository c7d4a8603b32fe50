"""The pipeline on Faust: what Faust would hide is heard."""

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP

from runtime.settings import Settings
from streams.app import create_app, until_it_ends
from streams.changelog import mend_recovery


async def test_a_part_of_faust_that_crashes_is_an_error_of_the_worker() -> None:
    """As its recovery did, which sought an offset below zero: the worker said that it was ready, and read nothing."""
    app = create_app(Settings())
    ending = asyncio.create_task(until_it_ends(app))
    await asyncio.sleep(0)
    assert not ending.done()
    await app.tables.recovery.crash(ValueError("Offset must be a positive integer"))
    with pytest.raises(ValueError, match="positive"):
        await ending


async def test_a_recovery_that_a_rebalance_has_overtaken_seeks_only_what_it_knows() -> None:
    """Of a partition whose offset was taken away in between it is told again."""
    sought: list[dict[TP, int]] = []

    async def seek_wait(offsets: dict[TP, int]) -> None:
        sought.append(offsets)

    recovery = create_app(Settings()).tables.recovery
    mend_recovery(recovery)
    known, fresh, overtaken = (TP("changelog", partition) for partition in range(3))
    offsets = {known: 7, fresh: -1, overtaken: None}
    await recovery._seek_offsets(SimpleNamespace(seek_wait=seek_wait), {known, fresh, overtaken}, offsets, "active")
    assert sought == [{known: 7, fresh: 0}]


async def test_a_recovery_that_takes_long_goes_on() -> None:
    """Faust took its own time limit for a worker that stops, and never recovered anything again."""
    recovery = create_app(Settings()).tables.recovery
    mend_recovery(recovery)
    await recovery._wait(asyncio.sleep(0.05), timeout=0.01)
    with pytest.raises(OSError, match="away"):
        await recovery._wait(_fails(OSError("away")), timeout=0.01)


async def _fails(error: Exception) -> None:
    raise error


async def test_an_app_that_is_told_to_stop_ends_without_an_error() -> None:
    """SIGTERM is none."""
    app = create_app(Settings())
    ending = asyncio.create_task(until_it_ends(app))
    await asyncio.sleep(0)
    app._stopped_set()
    await ending
