"""Audit events on their way to the brokers: none is lost without a word, whatever becomes of one of them."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from multidict import CIMultiDict
from structlog.testing import capture_logs

from gateway import audits as audits_module
from gateway.audit import client_address
from gateway.audits import AT_ONCE, Audits
from gateway.metrics import Metrics
from schemas.audit import Act, AuditEvent, Outcome
from schemas.codec import Headers, decode_audit_event

AT = datetime(2026, 5, 1, tzinfo=UTC)
DEADLINE_S = 20


def event(number: int, **sides: Any) -> AuditEvent:
    return AuditEvent(id=str(number), at=AT, event_type=Act.COMMAND_SENT, outcome=Outcome.SUCCESS, **sides)


class Kafka:
    """Stands for the brokers and who sends to them; `answer` says what becomes of the n-th record that is handed over.

    None: nothing, until somebody ends the wait.
    """

    def __init__(self, answer: Callable[[int], BaseException | bool | None] = lambda _: True) -> None:
        self.handed: list[str] = []
        self.open: list[asyncio.Future[Any]] = []
        self.renewed = 0
        self.is_there = asyncio.Event()
        self.is_there.set()
        self._answer = answer
        self.is_given_up = False

    async def sender(self) -> Any:
        await self.is_there.wait()
        return self

    def is_in_use(self, sender: object) -> bool:
        return sender is self and not self.is_given_up

    def renew(self, failed: object) -> None:
        assert failed is self
        self.renewed += 1

    async def send(self, topic: str, value: bytes, *, key: bytes | None, headers: Headers) -> "asyncio.Future[Any]":
        assert topic == "audit-events"
        assert key is None
        self.handed.append(decode_audit_event(value).id)
        assert dict(headers)["ce_id"].decode() == self.handed[-1]
        sending: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        match self._answer(len(self.handed)):
            case None:
                self.open.append(sending)
            case True:
                sending.set_result(None)
            case BaseException() as error:
                sending.set_exception(error)
        return sending

    async def has(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.handed) < count:
                await asyncio.sleep(0)


def begun(kafka: Kafka) -> tuple[Audits, Metrics]:
    metrics = Metrics()
    audits = Audits("audit-events", "/test", kafka, metrics)
    audits.start()
    return audits, metrics


def dropped(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("headrace_gateway_audits_dropped_total") or 0


async def test_one_that_cannot_be_written_ends_nothing() -> None:
    """An event that has no encoding, or that the brokers never take, is counted and in the log; the next ones go on."""
    too_large = MessageSizeTooLargeError()
    kafka = Kafka(lambda number: {2: too_large, 3: RuntimeError("a bug")}.get(number, True))
    audits, metrics = begun(kafka)
    with capture_logs() as logs:
        audits.put(event(0, details={"user_agent": "a\udcffb"}))
        audits.put(event(0, details={"what": object()}))
        for number in range(1, 5):
            audits.put(event(number))
        await audits.stop(DEADLINE_S)
    assert kafka.handed == ["1", "2", "3", "4"]
    assert dropped(metrics) == 4
    lost = [line["audit"] for line in logs if line["event"] == "audit_event_lost"]
    assert "a\\udcffb" in lost[0]
    assert [json.loads(text)["id"] for text in lost[2:]] == ["2", "3"]


async def test_many_are_on_their_way_at_once() -> None:
    """The next is sent before the first is acknowledged, up to a bound, so that a busy gateway's audit keeps up."""
    kafka = Kafka(lambda number: None if number <= AT_ONCE else True)
    audits, metrics = begun(kafka)
    for number in range(AT_ONCE + 10):
        audits.put(event(number))
    await kafka.has(AT_ONCE)
    assert len(kafka.open) == len(kafka.handed) == AT_ONCE
    for sending in kafka.open:
        sending.set_result(None)
    await audits.stop(DEADLINE_S)
    assert kafka.handed == [str(number) for number in range(AT_ONCE + 10)]
    assert dropped(metrics) == 0


async def test_what_failed_is_sent_again(monkeypatch: Any) -> None:
    """In its order and by another sender, until the brokers have it; what they have already is not repeated."""
    monkeypatch.setattr(audits_module, "PAUSE_S", 0.01)
    kafka = Kafka(lambda number: KafkaConnectionError() if number in (2, 3, 4) else True)
    audits, metrics = begun(kafka)
    for number in range(1, 4):
        audits.put(event(number))
    await audits.stop(DEADLINE_S)
    assert kafka.handed == ["1", "2", "2", "2", "2", "3"]
    assert kafka.renewed == 3
    assert dropped(metrics) == 0


async def test_a_sender_that_somebody_gave_up_is_not_waited_for(monkeypatch: Any) -> None:
    """It may never say what became of a record: that is sent again by the next one."""
    monkeypatch.setattr(audits_module, "PAUSE_S", 0.01)
    kafka = Kafka(lambda number: None if number == 1 else True)
    audits, _ = begun(kafka)
    audits.put(event(1))
    await kafka.has(1)
    kafka.is_given_up = True
    await kafka.has(2)
    await audits.stop(DEADLINE_S)
    assert kafka.handed == ["1", "1"]


async def test_a_stop_without_brokers_loses_nothing_without_a_word() -> None:
    """Each event that waits, and each that was not acknowledged, is in the log then."""
    kafka = Kafka(lambda _: None)
    audits, metrics = begun(kafka)
    audits.put(event(1))
    await kafka.has(1)
    kafka.is_there.clear()
    audits.put(event(2))
    with capture_logs() as logs:
        await audits.stop(0)
    assert [json.loads(line["audit"])["id"] for line in logs if line["event"] == "audit_event_lost"] == ["1", "2"]
    assert dropped(metrics) == 2


def test_no_address_is_anything_else() -> None:
    """The zone of an IPv6 address could be any text: one that is not ASCII is no address."""
    headers = CIMultiDict({"X-Forwarded-For": "fe80::1%\udcff"})
    request = cast("web.Request", SimpleNamespace(headers=headers, remote="::1"))
    assert client_address(request, 1) == "::1"
