"""Waits until projections have everything that is on their topics."""

import asyncio
from collections.abc import Collection

from headrace.errors import TryAgainError
from headrace.projection_status import projection_status
from projections.catalog import PROJECTIONS
from runtime.settings import Settings

PATIENCE_S = 90


async def caught_up(settings: Settings, names: Collection[str] = tuple(PROJECTIONS)) -> None:
    """Return when none of these projections, by default all, is behind."""
    async with asyncio.timeout(PATIENCE_S):
        while await _is_behind(settings, names):
            await asyncio.sleep(0.1)


async def _is_behind(settings: Settings, names: Collection[str]) -> bool:
    try:
        return any(one.lag for one in await projection_status(settings) if one.projection in names)
    except TryAgainError:
        # A new broker makes the place for groups at the first commit.
        return True
