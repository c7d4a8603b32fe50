"""The outbox on Kafka: one idempotent producer for all that a worker writes."""

import asyncio
from collections import deque
from functools import lru_cache, partial
from typing import Any

import aiokafka
import structlog

from runtime.kafka import partition_for
from schemas.codec import Headers
from streams.fence import Fence
from streams.ports import FencedError

log = structlog.get_logger(__name__)
MAX_POSTS_WAITING = 20_000
"""Advisory records that may wait for the broker: some seconds of deltas; beyond that they are dropped."""
REMEMBERED_KEYS = 10_000
"""Keys whose partition is remembered: the hash is computed in Python."""
MAX_REQUEST_BYTES = 8 << 20
REQUEST_TIMEOUT_MS = 60_000
"""For one request. Retries go on until the brokers are back: records that wait are held back meanwhile, not lost."""


class NotWrittenError(Exception):
    """The brokers did not acknowledge a record: nobody knows whether they have it."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(
            f"expected the brokers to acknowledge a record, got {type(cause).__name__} ({cause}): "
            "correct that, and start the worker again; it goes on where it stopped"
        )


class Publisher:
    """Appends are acknowledged by all replicas in sync, keep their order, and are not repeated by retries.

    To `changelog_topic` only those of the partitions that were claimed; see `fence`.
    """

    def __init__(self, client_arguments: dict[str, Any], partitions: int, changelog_topic: str) -> None:
        self.partition_of = lru_cache(REMEMBERED_KEYS)(partial(partition_for, count=partitions))
        self._error: BaseException | None = None
        self._producer = aiokafka.AIOKafkaProducer(
            **client_arguments,
            acks="all",
            enable_idempotence=True,
            max_batch_size=256 * 1024,
            max_request_size=MAX_REQUEST_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        self._changelog_topic = changelog_topic
        self.fence = Fence(self._producer, changelog_topic)
        # A producer of its own: an answer need not wait until the broker has acknowledged the deltas before it.
        self._advisory = aiokafka.AIOKafkaProducer(**client_arguments, acks=1, max_request_size=MAX_REQUEST_BYTES)
        self._posts: deque[tuple[str, bytes, bytes | None, Headers, int]] = deque()
        self._posting: asyncio.Task[None] | None = None
        self.dropped_posts = 0

    async def start(self) -> None:
        """Connect; raises aiokafka's `KafkaConnectionError` where no broker answers."""
        await self._producer.start()
        await self._advisory.start()

    async def stop(self) -> None:
        """Send what waits, then close."""
        if self._posting is not None:
            await self._posting
        await self._advisory.stop()
        await self._producer.stop()

    async def append(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> asyncio.Future[int]:
        if self._error is not None:
            raise self._error
        if topic == self._changelog_topic:
            self.fence.check(partition)
        try:
            sent = await self._producer.send(topic, value=value, key=key, partition=partition, headers=headers)
        except aiokafka.errors.KafkaError as error:
            # It is not even on its way: too large, or no room for it in REQUEST_TIMEOUT_MS.
            self._error = self._error or NotWrittenError(error)
            raise self._error from error
        offset: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        sent.add_done_callback(lambda done: self._resolve(offset, done))
        return offset

    def _resolve(self, offset: "asyncio.Future[int]", sent: "asyncio.Future[Any]") -> None:
        cause = None if sent.cancelled() else sent.exception()
        if isinstance(cause, aiokafka.errors.ProducerFenced):
            self._refuse(offset, cause)
            return
        error = None if cause is None else NotWrittenError(cause)
        if error is not None:
            # Nothing may be appended after a record that may be lost.
            self._error = self._error or error
        if offset.cancelled() or sent.cancelled():
            return
        if error is not None:
            offset.set_exception(error)
        else:
            offset.set_result(sent.result().offset)

    def _refuse(self, offset: "asyncio.Future[int]", cause: BaseException) -> None:
        """The record is not in its changelog, and must not be: everything else goes on."""
        if offset.cancelled():
            return
        error = FencedError(self._changelog_topic, None)
        error.__cause__ = cause
        offset.set_exception(error)
        # The recorder hears of the first one and stops; asyncio would report the others as unheard.
        offset.exception()

    def post(
        self, topic: str, *, key: bytes, value: bytes | None, headers: Headers, partition: int | None = None
    ) -> None:
        if len(self._posts) >= MAX_POSTS_WAITING:
            self.dropped_posts += 1
            return
        to = self.partition_of(key) if partition is None else partition
        self._posts.append((topic, key, value, headers, to))
        if self._posting is None:
            self._posting = asyncio.create_task(self._post_all(), name="post")

    async def _post_all(self) -> None:
        while self._posts:
            topic, key, value, headers, partition = self._posts.popleft()
            try:
                sent = await self._advisory.send(topic, value=value, key=key, partition=partition, headers=headers)
            except aiokafka.errors.KafkaError as error:
                log.warning("post_dropped", topic=topic, error=str(error))
            else:
                sent.add_done_callback(_ignore)
        self._posting = None


def _ignore(sent: "asyncio.Future[Any]") -> None:
    """An advisory record that is lost is lost; reading the exception keeps asyncio from reporting it."""
    if not sent.cancelled():
        sent.exception()
