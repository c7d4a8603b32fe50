"""The pipeline on Faust: what Faust would hide is heard."""

import asyncio

import pytest

from runtime.settings import Settings
from streams.app import create_app, until_it_ends


async def test_a_part_of_faust_that_crashes_is_an_error_of_the_worker() -> None:
    """As its recovery did, which sought an offset below zero: the worker said that it was ready, and read nothing."""
    app = create_app(Settings())
    ending = asyncio.create_task(until_it_ends(app))
    await asyncio.sleep(0)
    assert not ending.done()
    await app.tables.recovery.crash(ValueError("Offset must be a positive integer"))
    with pytest.raises(ValueError, match="positive"):
        await ending


async def test_an_app_that_is_told_to_stop_ends_without_an_error() -> None:
    """SIGTERM is none."""
    app = create_app(Settings())
    ending = asyncio.create_task(until_it_ends(app))
    await asyncio.sleep(0)
    app._stopped_set()
    await ending
