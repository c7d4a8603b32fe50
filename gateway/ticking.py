"""What an open stream looks at now and then: whether its reader is there, its key in force, and the gateway up."""

import asyncio
from collections.abc import Callable
from random import random
from types import TracebackType
from typing import Self

from aiohttp import web

from gateway.caller import Caller
from gateway.keys import unauthenticated
from gateway.parts import Parts
from gateway.problems import Code, Problem

TICK_S = 1.0
"""A stop is noticed so soon; a tick is a microsecond."""
CHECK_S = 5.0
"""A revoked key's streams end so soon."""


class Ticking:
    """Calls `wake` when `is_over` should be asked; `with` it while the stream is open."""

    def __init__(self, request: web.Request, parts: Parts, caller: Caller, wake: Callable[[], None]) -> None:
        self._request = request
        self._parts = parts
        self._caller = caller
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        # Streams that came together are not all looked at together.
        self._check_at = self._loop.time() + CHECK_S * random()  # noqa: S311  # No secret.
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def is_over(self) -> bool:
        """Whether the reader has gone.

        Raises:
            Problem: `stopping`, or `unauthenticated`: the key is not in force any more.
        """
        if self._has_gone:
            return True
        if self._parts.streams.closing.is_set():
            raise Problem(Code.STOPPING, "this gateway stops: connect again, and resume where you are")
        if self._loop.time() >= self._check_at:
            self._check_at = self._loop.time() + CHECK_S
            if not await self._parts.keys.is_valid(self._caller):
                raise unauthenticated("the key was revoked, or has expired: connect again with a key that is valid")
        return False

    @property
    def _has_gone(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        if self._has_gone or self._parts.streams.closing.is_set() or self._loop.time() >= self._check_at:
            self._wake()
