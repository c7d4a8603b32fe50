"""What endpoints work with."""

from dataclasses import dataclass, field

from redis.asyncio import Redis

from agents.catalog import Catalog
from agents.directory import Directory
from gateway.brokers import Brokers
from gateway.database import Database
from gateway.feeds import Feeds
from gateway.keys import Keys
from gateway.metrics import Metrics
from gateway.open_streams import OpenStreams
from gateway.publisher import Publisher
from gateway.rate_limit import RateLimits
from runtime.settings import Settings


@dataclass(kw_only=True)
class Parts:
    """One of each for a gateway. `redis` answers in bytes; all its keys and channels begin with `redis_prefix`."""

    settings: Settings
    catalog: Catalog
    directory: Directory = field(default_factory=Directory)
    database: Database
    redis: Redis
    redis_prefix: str
    publisher: Publisher
    brokers: Brokers
    feeds: Feeds
    keys: Keys
    rate_limits: RateLimits
    streams: OpenStreams
    metrics: Metrics
