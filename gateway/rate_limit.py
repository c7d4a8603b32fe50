"""How many requests a key may send: a token bucket in Redis, shared by all gateways; without Redis, one of its own."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from gateway.problems import Code, Problem
from runtime.stores import REDIS_OUTAGES

BURST_S = 2.0
"""A bucket holds so many seconds of its rate: a page that opens asks for several things at once."""
MAX_LOCAL = 10_000
RETRY_REDIS_S = 5.0
"""While Redis is away, it is not asked at each request."""
SCRIPT = (Path(__file__).parent / "lua" / "take.lua").read_text(encoding="utf-8")

log = structlog.get_logger(__name__)


class Allowance(Struct, frozen=True):
    """What is left of a key's bucket after a request, or how long until there is something in it."""

    limit: int
    remaining: int
    wait_s: float

    def headers(self) -> dict[str, str]:
        """As the IETF's draft of `RateLimit` fields has them."""
        return {"RateLimit": f'"key";r={self.remaining}', "RateLimit-Policy": f'"key";q={self.limit};w={BURST_S:g}'}


class RateLimits:
    """Buckets by the ids of keys; `prefix` is what the keys in Redis begin with."""

    def __init__(self, redis: Any, prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._take = redis.register_script(SCRIPT)
        self._prefix = prefix
        self._clock = clock
        self._local: dict[str, tuple[float, float]] = {}
        self._local_until = 0.0

    async def take(self, key_id: str, per_second: float) -> Allowance:
        """Take one request from the key's bucket.

        Raises:
            Problem: `too_many_requests`.
        """
        size = max(1.0, per_second * BURST_S)
        left = await self._left(key_id, per_second, size)
        allowance = Allowance(math.floor(size), max(0, math.floor(left)), max(0.0, -left / per_second))
        if left < 0:
            wait_s = max(1, math.ceil(allowance.wait_s))
            raise Problem(
                Code.TOO_MANY_REQUESTS,
                f"expected at most {per_second:g} requests per second: wait {wait_s} s",
                headers={"Retry-After": str(wait_s), **allowance.headers()},
            )
        return allowance

    async def _left(self, key_id: str, per_second: float, size: float) -> float:
        """What is left after taking one; below 0, nothing was taken, and so much was missing."""
        if self._clock() >= self._local_until:
            try:
                answer = await self._take(keys=[f"{self._prefix}rate:{key_id}"], args=[per_second, size])
                return float(answer)
            except REDIS_OUTAGES as error:
                log.warning("rate_limit_local", error=str(error))
                self._local_until = self._clock() + RETRY_REDIS_S
        return self._left_here(key_id, per_second, size)

    def _left_here(self, key_id: str, per_second: float, size: float) -> float:
        now = self._clock()
        if len(self._local) >= MAX_LOCAL:
            self._local.clear()
        held, at = self._local.get(key_id, (size, now))
        held = min(size, held + (now - at) * per_second)
        left = held - 1
        self._local[key_id] = (left if left >= 0 else held, now)
        return left
