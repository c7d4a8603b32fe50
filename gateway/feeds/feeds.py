"""All followed sessions of a gateway: one connection that wakes, one that reads, whatever the number of readers.

Redis says on a channel that a session has news. Sessions with news are collected while a read is under way, and the
next one reads all of them: the more there is to do, the more is done at once. A wake-up that is missed is made up for
within seconds. When Redis comes back, with or without what it had, everything is read again from the beginning, and
each reader's cursors let through what is new to it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from types import TracebackType
from typing import NamedTuple, Self

import structlog
from redis.asyncio import Redis

from gateway.feeds.follower import Follower
from gateway.feeds.past import Rows, StoredPast
from gateway.feeds.position import Position
from gateway.feeds.streams import START, StreamId, Streams, stream_id
from gateway.feeds.subscription import Subscription
from gateway.problems import Code, Problem, unavailable
from runtime.ending import cancelled
from runtime.stores import REDIS_OUTAGES

READ_AT_ONCE = 200
"""Sessions in one read."""
JOIN_AT_ONCE = 20
"""Sessions whose whole feed is read at once: 2,000 entries each at most."""
READ_ENTRIES = 500
JOIN_ENTRIES = 2_000
REREAD_S = 5.0
"""A wake-up that was missed costs twice as much at most; so long a session is followed after its last reader left."""
REREAD_PARTS = 25
JOIN_TIMEOUT_S = 10.0
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
ANEW = b"anew"

log = structlog.get_logger(__name__)


class Feed:
    """A session that somebody follows."""

    __slots__ = (
        "channel",
        "followers",
        "idle_rounds",
        "is_forced",
        "key",
        "last",
        "lives",
        "said",
        "subscribed",
        "users",
    )

    def __init__(self, key: str, channel: str) -> None:
        self.key = key.encode()
        self.channel = channel
        self.users = 0
        self.followers: set[Follower] = set()
        self.subscribed = asyncio.Event()
        self.last: StreamId = START
        self.said: StreamId = START
        self.is_forced = False
        self.lives = 0
        self.idle_rounds = 0

    def begin_again(self) -> None:
        """Read from the beginning; what a read brings that is under way now counts no more."""
        self.last = self.said = START
        self.lives += 1
        self.is_forced = True

    @property
    def has_news(self) -> bool:
        return bool(self.followers) and (self.is_forced or self.said > self.last)


class Joining(NamedTuple):
    """A follower that waits for the feed as it is."""

    follower: Follower
    done: "asyncio.Future[None]"


class Feeds:
    """Follows sessions in Redis, and further back in PostgreSQL; `prefix` is what keys and channels begin with.

    `async with` it: it connects by itself, and again when it must.
    """

    def __init__(self, redis: Redis, prefix: str, database: Rows | None) -> None:
        self._redis = redis
        self._prefix = prefix
        self._past = None if database is None else StoredPast(database)
        self._feeds: dict[str, Feed] = {}
        self._news: dict[Feed, None] = {}
        self._joining: dict[Feed, list[Joining]] = {}
        self._is_needed = asyncio.Event()
        self._subscription: Subscription | None = None
        self._streams = Streams(redis)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(work) for work in (self._listen(), self._read(), self._look_again())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whoever still follows is told that the gateway stops."""
        await cancelled(*self._tasks)
        for feed in self._feeds.values():
            for follower in feed.followers:
                follower.end(Problem(Code.STOPPING, "this gateway stops: connect again, and resume where you are"))
        await self._streams.close()

    @asynccontextmanager
    async def follow(self, session_id: str, after: Position | None) -> AsyncIterator[Follower]:
        """What is new in a session after a position; None: from now on; `BEGINNING`: from its first event.

        Raises:
            Problem: `unavailable`: Redis does not answer. The follower raises what `Follower.take` says.
        """
        feed = self._feed(session_id)
        feed.users += 1
        follower = Follower(session_id, after, self._past)
        try:
            try:
                async with asyncio.timeout(JOIN_TIMEOUT_S):
                    # Subscribed first, then read: what comes in between is announced.
                    await feed.subscribed.wait()
                    await self._join(feed, follower)
            except TimeoutError:
                raise unavailable("Redis") from None
            await follower.place()
            yield follower
        finally:
            feed.users -= 1
            feed.followers.discard(follower)

    def _feed(self, session_id: str) -> Feed:
        channel = f"{self._prefix}feed:{session_id}"
        feed = self._feeds.get(channel)
        if feed is None:
            feed = self._feeds[channel] = Feed(f"{self._prefix}live:{session_id}", channel)
            if self._subscription is not None:
                self._subscription.want(channel)
        return feed

    async def _join(self, feed: Feed, follower: Follower) -> None:
        """Give the feed as it is now to the follower; what comes later is offered to it."""
        if any(task.done() for task in self._tasks):
            raise unavailable("the reader of feeds")
        joining = Joining(follower, asyncio.get_running_loop().create_future())
        self._joining.setdefault(feed, []).append(joining)
        self._is_needed.set()
        await joining.done

    # What is said.

    async def _listen(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                async with Subscription.opened(self._redis) as subscription:
                    self._subscription = subscription
                    for feed in self._feeds.values():
                        subscription.want(feed.channel)
                    while True:
                        self._hear(*await subscription.next())
                        wait_s = FIRST_WAIT_S
            except REDIS_OUTAGES as error:
                log.warning("feeds_redis_lost", error=str(error), wait_s=wait_s)
            finally:
                self._subscription = None
                for feed in self._feeds.values():
                    feed.subscribed.clear()
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _hear(self, channel: str, said: bytes | None) -> None:
        feed = self._feeds.get(channel)
        if feed is None:
            return
        if said is None:
            # Subscribed, for the first time or again: nobody knows what was said before.
            feed.subscribed.set()
            feed.begin_again()
        elif said == ANEW:
            feed.begin_again()
        else:
            feed.said = max(feed.said, stream_id(said))
        if feed.has_news:
            self._news[feed] = None
            self._is_needed.set()

    # What is read.

    async def _read(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            await self._is_needed.wait()
            self._is_needed.clear()
            try:
                while self._joining or self._news:
                    await self._read_joining()
                    await self._read_news()
                wait_s = FIRST_WAIT_S
            except REDIS_OUTAGES as error:
                log.warning("feeds_not_read", error=str(error), wait_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
                self._is_needed.set()

    async def _read_joining(self) -> None:
        feeds = list(islice(self._joining, JOIN_AT_ONCE))
        if not feeds:
            return
        # Those who come while it is read get the next read.
        joining = {feed: self._joining.pop(feed) for feed in feeds}
        try:
            found = await self._streams.read({feed.key: START for feed in feeds}, JOIN_ENTRIES)
        except BaseException:
            for feed, waiting in joining.items():
                self._joining.setdefault(feed, []).extend(waiting)
            raise
        for feed, waiting in joining.items():
            read = found.get(feed.key)
            if read is not None and not feed.followers:
                feed.last = read.last
            for one in waiting:
                if not one.done.done():
                    one.follower.begin([] if read is None else read.items)
                    feed.followers.add(one.follower)
                    one.done.set_result(None)

    async def _read_news(self) -> None:
        feeds = [feed for feed in islice(self._news, READ_AT_ONCE) if feed.has_news]
        for feed in list(islice(self._news, READ_AT_ONCE)):
            del self._news[feed]
        if not feeds:
            return
        lives = [feed.lives for feed in feeds]
        for feed in feeds:
            feed.is_forced = False
        try:
            found = await self._streams.read({feed.key: feed.last for feed in feeds}, READ_ENTRIES)
        except BaseException:
            for feed in feeds:
                feed.is_forced = True
                self._news[feed] = None
            raise
        for feed, life in zip(feeds, lives, strict=True):
            read = found.get(feed.key)
            if read is None or feed.lives != life:
                continue
            feed.last = read.last
            for follower in feed.followers:
                follower.offer(read.items)
            if read.count == READ_ENTRIES:
                feed.is_forced = True
            if feed.has_news:
                self._news[feed] = None

    async def _look_again(self) -> None:
        """Every few seconds: make up for what was missed, and let go of what nobody follows any more.

        A few sessions at a time: all of them at once would keep what is new waiting.
        """
        while True:
            feeds = list(self._feeds.values())
            for part in range(REREAD_PARTS):
                await asyncio.sleep(REREAD_S / REREAD_PARTS)
                for feed in feeds[part::REREAD_PARTS]:
                    self._look_at(feed)
                self._is_needed.set()
            if self._subscription is not None:
                await self._subscription.check()

    def _look_at(self, feed: Feed) -> None:
        feed.idle_rounds = 0 if feed.users else feed.idle_rounds + 1
        if feed.idle_rounds > 1 and feed.subscribed.is_set():
            del self._feeds[feed.channel]
            if self._subscription is not None:
                self._subscription.forget(feed.channel)
        elif feed.followers:
            feed.is_forced = True
            self._news[feed] = None
