"""Writes commands and audit events to the topics. What it says it sent, the brokers have acknowledged."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from msgspec import Struct

from gateway.audits import Audits
from gateway.metrics import Metrics
from gateway.problems import Code, Problem, unavailable
from runtime.ending import cancelled
from runtime.kafka import client_arguments, topic_name
from runtime.sending import STOP_TIMEOUT_S, confirmed, stop
from runtime.settings import Settings
from schemas.audit import AuditEvent
from schemas.codec import cloud_event_headers, encode, type_tag
from schemas.commands import Command
from schemas.topics import AUDIT_EVENTS, MAX_INTERNAL_BYTES, USER_MESSAGES

SOURCE = "/headrace/gateway"
CONNECT_TIMEOUT_S = 15.0
LONGEST_WAIT_S = 5.0
RETRY_AFTER_S = 5

log = structlog.get_logger(__name__)


class Sent(Struct, frozen=True, kw_only=True):
    """A record that the brokers have: its id, and where they keep it."""

    id: str
    partition: int
    offset: int


class Publisher:
    """One producer that neither repeats nor reorders; it connects by itself, and again after a fatal error."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._audits = Audits(topic_name(settings, AUDIT_EVENTS), SOURCE, self, metrics)

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        self._connecting = asyncio.create_task(self._connect(None), name="connect")
        self._audits.start()

    async def stop(self) -> None:
        """Send what waits, as far as the brokers take it in a few seconds, then close."""
        # The writer of audit events first: it has the producer made anew where that has failed.
        await self._audits.stop(STOP_TIMEOUT_S if self.is_connected else 0)
        if self._connecting is not None:
            await cancelled(self._connecting)
        if self._producer is not None:
            await stop(self._producer)

    async def send(self, command: Command, *, traceparent: str | None = None) -> Sent:
        """Write a command that has an id; returns when all replicas have it.

        Raises:
            Problem: `unavailable`: not confirmed, send it again with the same id. `too_large`.
        """
        assert command.id is not None
        headers = cloud_event_headers(
            command,
            id=command.id,
            source=SOURCE,
            at=datetime.now(UTC),
            subject=command.session_id,
            traceparent=traceparent,
        )
        topic = topic_name(self._settings, USER_MESSAGES)
        key = command.session_id.encode()
        sent = await self._publish(topic, key, encode(command), headers, command.id)
        self._metrics.commands.labels(type_tag(command)).inc()
        return sent

    async def resend(self, topic: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]]) -> Sent:
        """Write a record as it is to a topic, named as on the cluster; its id is its place.

        Raises:
            Problem: as `send`.
        """
        sent = await self._publish(topic, key, value, headers, "")
        return Sent(id=f"{topic}/{sent.partition}/{sent.offset}", partition=sent.partition, offset=sent.offset)

    async def check(self) -> None:
        """Return when a broker has answered; raises `Problem(unavailable)` where none does."""
        producer = self._producer
        if producer is None:
            raise unavailable("the brokers", RETRY_AFTER_S)
        try:
            await producer.client.fetch_all_metadata()
        except KafkaError as error:
            raise unavailable("the brokers", RETRY_AFTER_S) from error

    async def audit(self, event: AuditEvent) -> None:
        """Write an audit event soon; where too many wait for the brokers, it is in the log only."""
        self._audits.put(event)

    async def sender(self) -> AIOKafkaProducer:
        """The producer, as soon as it is connected."""
        while (producer := self._producer) is None:
            await self._connected.wait()
        return producer

    def is_in_use(self, sender: object) -> bool:
        """Whether it is still the producer that is written with."""
        return self._producer is sender

    def renew(self, failed: object) -> None:
        """A producer that failed may be of no use any more: its numbering of records is broken, or it is fenced."""
        producer = self._producer
        if producer is not None and producer is failed:
            self._producer = None
            self._connected.clear()
            self._connecting = asyncio.create_task(self._connect(producer), name="connect")

    async def _publish(
        self, topic: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]], id: str
    ) -> Sent:
        producer = self._producer
        if producer is None:
            raise _not_confirmed(id)
        try:
            with self._metrics.publish_seconds.time():
                sent = await confirmed(producer, topic, value, key=key, headers=list(headers))
        except MessageSizeTooLargeError:
            raise Problem(
                Code.TOO_LARGE, f"expected a record that the brokers take, got {len(value):,} bytes: send less"
            ) from None
        except TimeoutError:
            raise _not_confirmed(id) from None
        except KafkaError as error:
            log.warning("publish_failed", topic=topic, error=repr(error))
            self.renew(producer)
            raise _not_confirmed(id) from error
        return Sent(id=id, partition=sent.partition, offset=sent.offset)

    async def _connect(self, failed: AIOKafkaProducer | None) -> None:
        if failed is not None:
            await stop(failed)
        wait_s = 0.1
        while True:
            producer = AIOKafkaProducer(
                **client_arguments(self._settings, "headrace-gateway"),
                acks="all",
                enable_idempotence=True,
                max_request_size=MAX_INTERNAL_BYTES,
            )
            try:
                await asyncio.wait_for(producer.start(), CONNECT_TIMEOUT_S)
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("brokers_unavailable", brokers=self._settings.brokers, error=repr(error), wait_s=wait_s)
                await stop(producer)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
                continue
            self._producer = producer
            self._connected.set()
            return


def _not_confirmed(id: str) -> Problem:
    again = f"send it again with the id {id}, and it is answered once" if id else "look whether it arrived"
    return Problem(
        Code.UNAVAILABLE,
        f"the brokers did not confirm the record: it may have arrived, or may still; {again}",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )
