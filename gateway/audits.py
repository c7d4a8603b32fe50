"""Writes audit events to their topic, many at once; one that cannot be written is in the log, and counted."""

import asyncio
from collections import deque
from typing import Any, Protocol

import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from msgspec import Struct

from gateway.metrics import Metrics
from runtime.ending import cancelled
from schemas.audit import AuditEvent, audit_key
from schemas.codec import Headers, cloud_event_headers, encode

MAX_WAITING = 10_000
"""Audit events that wait for the brokers, about 1 KB each; beyond that they go to the log only."""
AT_ONCE = 500
"""On their way to the brokers before the first of them is acknowledged."""
LOGGED_BYTES = 10_000
PAUSE_S = 1.0

log = structlog.get_logger(__name__)


class Sender(Protocol):
    """What is needed of a producer."""

    async def send(self, topic: str, value: bytes, *, key: bytes | None, headers: Headers) -> "asyncio.Future[Any]": ...


class Senders(Protocol):
    """One sender at a time; one that has failed is replaced."""

    async def sender(self) -> Sender:
        """The one that is in use, as soon as there is one."""
        ...

    def is_in_use(self, sender: Sender) -> bool: ...

    def renew(self, failed: Sender) -> None: ...


class AuditRecord(Struct, frozen=True):
    """An event as it is on the topic."""

    key: bytes | None
    value: bytes
    headers: Headers


class Audits:
    """Audit events on their way to the brokers: in their order, and as long as it takes."""

    def __init__(self, topic: str, source: str, senders: Senders, metrics: Metrics) -> None:
        self._topic = topic
        self._source = source
        self._senders = senders
        self._metrics = metrics
        self._waiting: deque[AuditRecord] = deque()
        self._under_way: list[AuditRecord] = []
        self._has_news = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._writing = asyncio.create_task(self._write(), name="audit")

    async def stop(self, patience_s: float) -> None:
        """What the brokers have not acknowledged by then is in the log."""
        try:
            async with asyncio.timeout(patience_s):
                await self._is_idle.wait()
        except TimeoutError:
            pass
        if self._writing is not None:
            await cancelled(self._writing)
        for record in (*self._under_way, *self._waiting):
            self._lose(record.value, "the gateway stops")
        self._waiting.clear()

    def put(self, event: AuditEvent) -> None:
        """Write it soon; where too many wait for the brokers, it is in the log only."""
        try:
            record = self._record(event)
        except (TypeError, ValueError, OverflowError) as error:
            self._lose(repr(event).encode(), repr(error))
            return
        if len(self._waiting) >= MAX_WAITING:
            self._lose(record.value, "too many wait")
            return
        self._waiting.append(record)
        self._is_idle.clear()
        self._has_news.set()

    def _record(self, event: AuditEvent) -> AuditRecord:
        key = audit_key(event)
        subject = event.id if key is None else key.decode()
        headers = cloud_event_headers(event, id=event.id, source=self._source, at=event.at, subject=subject)
        return AuditRecord(key, encode(event), headers)

    async def _write(self) -> None:
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            while self._under_way or self._waiting:
                while self._waiting and len(self._under_way) < AT_ONCE:
                    self._under_way.append(self._waiting.popleft())
                sender = await self._senders.sender()
                self._under_way = await self._sent(sender, self._under_way)
                if self._under_way:
                    self._senders.renew(sender)
                    await asyncio.sleep(PAUSE_S)
            self._is_idle.set()

    async def _sent(self, sender: Sender, records: list[AuditRecord]) -> list[AuditRecord]:
        """Send all of them, then wait for what becomes of each; returns those that are to be sent again."""
        sendings: list[asyncio.Future[Any]] = []
        for record in records:
            sendings.append(await self._handed(sender, record))
            if _is_outage(sendings[-1]):
                break
        # A sender that somebody else gave up may never say what became of its records.
        while self._senders.is_in_use(sender) and not all(sending.done() for sending in sendings):
            await asyncio.wait(sendings, timeout=PAUSE_S)
        if not all(sending.done() for sending in sendings):
            # The next one is there when the last is closed: until then records may still be acknowledged.
            await self._senders.sender()
        again = []
        for record, sending in zip(records, sendings, strict=False):
            if not sending.done() or _is_outage(sending):
                again.append(record)
            elif (error := sending.exception()) is not None:
                self._lose(record.value, repr(error))
        if again:
            log.warning("audit_failed", count=len(again), errors=sorted({_why(sending) for sending in sendings} - {""}))
        return again + records[len(sendings) :]

    async def _handed(self, sender: Sender, record: AuditRecord) -> "asyncio.Future[Any]":
        """The record's acknowledgement, or why there will be none."""
        try:
            sending = await sender.send(self._topic, record.value, key=record.key, headers=record.headers)
        except Exception as error:  # noqa: BLE001 - one that nothing can be done with must not end the others
            refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            sending = refused
        sending.add_done_callback(_is_outage)
        return sending

    def _lose(self, value: bytes, why: str) -> None:
        self._metrics.audits_dropped.inc()
        log.error("audit_event_lost", audit=value[:LOGGED_BYTES].decode(errors="replace"), why=why)


def _is_outage(sending: "asyncio.Future[Any]") -> bool:
    """Whether the brokers did not take it, and may take it later; asyncio reports no exception that was read here."""
    if not sending.done():
        return False
    if sending.cancelled():
        return True
    error = sending.exception()
    return isinstance(error, KafkaError) and not isinstance(error, MessageSizeTooLargeError)


def _why(sending: "asyncio.Future[Any]") -> str:
    return repr(sending.exception()) if _is_outage(sending) and not sending.cancelled() else ""
