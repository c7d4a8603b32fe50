"""What endpoints work with."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from redis.asyncio import Redis

from gateway.database import Database
from gateway.keys import Keys
from gateway.metrics import Metrics
from gateway.open_streams import OpenStreams
from gateway.publisher import Publisher
from gateway.rate_limit import RateLimits
from runtime.settings import Settings


class FeedsPort(Protocol):
    """Follows sessions; see `gateway.feeds.Feeds`."""

    def follow(self, session_id: str, after: Any) -> AbstractAsyncContextManager[AsyncIterator[Any]]: ...


@dataclass(kw_only=True)
class Parts:
    """One of each for a gateway. `redis` answers in bytes; all its keys and channels begin with `redis_prefix`."""

    settings: Settings
    database: Database
    redis: Redis
    redis_prefix: str
    publisher: Publisher
    feeds: FeedsPort
    keys: Keys
    rate_limits: RateLimits
    streams: OpenStreams
    metrics: Metrics
