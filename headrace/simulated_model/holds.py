"""Answers that stop in the middle until a test lets them go on: what happens meanwhile needs no guessing of times."""

import asyncio
from collections import defaultdict


class Holds:
    """The names in `[[hold:NAME]]`. One that was released holds nobody any more."""

    def __init__(self) -> None:
        self._released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def passed(self, name: str) -> None:
        """Wait until the name is released."""
        await self._released[name].wait()

    def release(self, name: str) -> None:
        """Let go of those who wait, and of all who come."""
        self._released[name].set()
