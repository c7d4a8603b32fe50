"""The audit log: one row for each act, whoever did it: people at the door, the pipeline, and what it could not process.

A command that came through the gateway is two acts, `command_sent` as the gateway saw it (address, key), and the fact
that it became when it was accepted. They are joined by `command_id` in their details.
"""

from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address
from typing import Any, assert_never

import msgspec

from projections.projection import Row, Table, TableProjection
from projections.record import Record, utc, without_nul
from schemas.audit import Outcome
from schemas.codec import decode_audit_event, decode_dead_letter, decode_session_event, type_tag
from schemas.failure import FailureCode
from schemas.ids import tenant_of_session
from schemas.log import (
    ApprovalDecided,
    BroadcastAccepted,
    CancelRequested,
    ChildEnded,
    MessageAccepted,
    ModelCompleted,
    ModelFailed,
    SessionEndRequested,
    SessionEvent,
    SessionExpired,
    SessionReleaseRequested,
    SpendingRefused,
    TimerFired,
    ToolCompleted,
    ToolFailed,
    ToolStarted,
)
from schemas.topics import AUDIT_EVENTS, DEAD_LETTERS, SESSION_LOG


class AuditRow(Row, frozen=True):
    """Identified by `id`: that of an audit event, or the place of the fact, or that of a record that failed."""

    id: str
    event_type: str
    user_id: str | None
    session_id: str | None
    tenant: str | None
    ip_address: str | None
    key_id: str | None
    details: str
    outcome: str
    outcome_details: str


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a fact says about its act."""

    user_id: str | None = None
    outcome: Outcome = Outcome.SUCCESS
    outcome_details: str = ""
    details: dict[str, Any]


def rows(record: Record) -> Iterator[AuditRow]:
    """One row for each act; none for a model's answer, whose cost is in `usage` and whose text is in `events`."""
    body = without_nul(record.value)
    if record.topic == AUDIT_EVENTS.name:
        yield _done_at_the_door(body, record)
    elif record.topic == DEAD_LETTERS.name:
        yield _dead_lettered(body, record)
    else:
        fact = decode_session_event(body)
        said = _said(fact)
        if said is not None:
            yield _row(
                record,
                fact.at,
                record.place,
                type_tag(fact),
                said,
                session_id=fact.session_id,
                tenant=tenant_of_session(fact.session_id, _tenant(fact)),
            )


def _done_at_the_door(body: bytes, record: Record) -> AuditRow:
    event = decode_audit_event(body)
    details, address = event.details, _address(event.ip_address)
    if event.ip_address is not None and address is None:
        # A proxy can say anything: what is no address must not keep the act out of the log.
        details = details | {"ip_address": event.ip_address}
    return AuditRow(
        utc(event.at),
        record.topic,
        record.partition,
        record.offset,
        event.id,
        event.event_type,
        event.user_id,
        event.session_id,
        event.tenant,
        address,
        event.key_id,
        msgspec.json.encode(details).decode(),
        str(event.outcome),
        event.outcome_details,
    )


def _address(said: str | None) -> str | None:
    """The address without its zone, which PostgreSQL cannot keep; None where it is none."""
    try:
        return None if said is None else str(ip_address(said.partition("%")[0]))
    except ValueError:
        return None


def _dead_lettered(body: bytes, record: Record) -> AuditRow:
    letter = decode_dead_letter(body)
    session_id = letter.session_id
    return AuditRow(
        utc(letter.at),
        record.topic,
        record.partition,
        record.offset,
        f"{record.topic}/{letter.id}",
        "record_dead_lettered",
        None,
        session_id,
        None if session_id is None else tenant_of_session(session_id),
        None,
        None,
        msgspec.json.encode({"id": letter.id, "processor": letter.processor, "cause": letter.cause}).decode(),
        str(Outcome.FAILED),
        letter.error,
    )


def _said(fact: SessionEvent) -> _Said | None:
    said: _Said | None
    match fact:
        case MessageAccepted():
            said = _Said(user_id=fact.user_id, details=_given(command_id=fact.message_id, agent=fact.agent))
        case BroadcastAccepted():
            said = _Said(user_id=fact.user_id, details=_given(command_id=fact.broadcast_id))
        case CancelRequested():
            details = _given(command_id=fact.command_id, message_id=fact.message_id, reason=fact.reason)
            said = _Said(user_id=fact.by, details=details)
        case ApprovalDecided():
            said = _decided(fact)
        case SessionEndRequested():
            said = _Said(details=_given(command_id=fact.command_id, reason=fact.reason))
        case SessionReleaseRequested():
            said = _Said(user_id=fact.by, details=_given(command_id=fact.command_id, reason=fact.reason))
        case SessionExpired():
            said = _Said(details={"idle_since": utc(fact.idle_since)})
        case ToolStarted():
            said = _Said(details={"call_id": fact.call_id})
        case ToolCompleted():
            said = _Said(details=_call(fact))
        case ModelFailed() | ToolFailed():
            said = _failed(fact)
        case ChildEnded():
            details = _given(call_id=fact.call_id, child_session_id=fact.child_session_id)
            said = _Said(details=details, outcome=Outcome.FAILED if fact.is_error else Outcome.SUCCESS)
        case SpendingRefused():
            details = _given(call_id=fact.call_id, budget=f"{fact.budget}_{fact.unit}", on_breach=fact.on_breach)
            said = _Said(details=details, outcome=Outcome.DENIED)
        case TimerFired():
            said = _Said(details={"call_id": fact.call_id, "due": utc(fact.due)})
        case ModelCompleted():
            said = None
        case _:
            assert_never(fact)
    return said


def _tenant(fact: SessionEvent) -> str | None:
    return fact.tenant if isinstance(fact, MessageAccepted | BroadcastAccepted) else None


def _decided(fact: ApprovalDecided) -> _Said:
    denied = fact.decision == "deny"
    return _Said(
        user_id=fact.by,
        outcome=Outcome.DENIED if denied else Outcome.SUCCESS,
        outcome_details=fact.reason if denied else "",
        details=_given(command_id=fact.command_id, call_id=fact.call_id, decision=fact.decision, reason=fact.reason),
    )


def _failed(fact: ModelFailed | ToolFailed) -> _Said:
    details = _call(fact) | {"code": fact.failure.code, "retryable": fact.failure.retryable}
    if isinstance(fact, ModelFailed):
        details["model"] = fact.model
    denied = fact.failure.code in (FailureCode.DENIED, FailureCode.PERMISSION_DENIED)
    return _Said(
        outcome=Outcome.DENIED if denied else Outcome.FAILED, outcome_details=fact.failure.message, details=details
    )


def _call(fact: ToolCompleted | ToolFailed | ModelFailed) -> dict[str, Any]:
    return {"call_id": fact.call_id, "attempts": fact.attempts, "duration_ms": fact.duration_ms}


def _given(**details: str | None) -> dict[str, Any]:
    """What is there of these."""
    return {name: value for name, value in details.items() if value}


def _row(
    record: Record, at: datetime, id: str, event_type: str, said: _Said, *, session_id: str, tenant: str | None
) -> AuditRow:
    return AuditRow(
        utc(at),
        record.topic,
        record.partition,
        record.offset,
        id,
        event_type,
        said.user_id,
        session_id,
        tenant,
        None,
        None,
        msgspec.json.encode(said.details).decode(),
        str(said.outcome),
        said.outcome_details,
    )


AUDIT_LOG = TableProjection(
    name="audit_log",
    topics=(AUDIT_EVENTS, SESSION_LOG, DEAD_LETTERS),
    rows=rows,
    tables=(Table(name="audit_log", row=AuditRow, insert="insert_audit_log"),),
    retain="retain_audit_log",
    keep_days=lambda settings: settings.audit_days,
)
