"""accept: takes commands from `user-messages`, refuses what is malformed, appends the rest to the session log."""

import asyncio
import json
from datetime import datetime
from typing import assert_never

import msgspec

from schemas.codec import cloud_event_headers, decode_command
from schemas.commands import (
    MAX_MESSAGE_BYTES,
    ApprovalDecision,
    CancelTurn,
    Command,
    EndSession,
    UserMessage,
)
from schemas.dead_letter import Cause
from schemas.ids import derived_message_id
from schemas.log import ApprovalDecided, CancelRequested, MessageAccepted, SessionEndRequested, SessionEvent
from streams.acknowledge import Acknowledger, finish_when_durable
from streams.dead_letter import UNREADABLE, DeadLetters
from streams.ports import Delivery, Shell
from streams.session_log import SessionLog
from streams.trace import traceparent_of

EXCERPT_BYTES = 60
"""Enough to recognise a record by."""


class RefusedError(Exception):
    """The record is not a command: its sender must change it."""

    def __init__(self, cause: Cause, error: str, session_id: str | None = None) -> None:
        super().__init__(error)
        self.cause = cause
        self.session_id = session_id


class Accept:
    """The processor. Records are taken in order and acknowledged when they are in the session log, or buried."""

    def __init__(self, shell: Shell, dead_letters: DeadLetters, session_log: SessionLog) -> None:
        self._shell = shell
        self._session_log = session_log
        self._dead_letters = dead_letters
        self.acknowledger = Acknowledger()
        self.is_full = False

    async def take(self, delivery: Delivery) -> None:
        ticket = self.acknowledger.take(delivery)
        try:
            event = read_command(delivery, self._shell.clock())
        except RefusedError as refused:
            await self._dead_letters.bury_and_finish(
                ticket, processor="accept", cause=refused.cause, error=str(refused), session_id=refused.session_id
            )
        else:
            finish_when_durable(ticket, await self._append(event, delivery), self._shell.fail)

    async def _append(self, event: SessionEvent, delivery: Delivery) -> asyncio.Future[int]:
        record_id = derived_message_id(delivery.topic, delivery.partition, delivery.offset)
        headers = cloud_event_headers(
            event,
            id=record_id,
            source="/headrace/accept",
            at=event.at,
            subject=event.session_id,
            traceparent=event.traceparent if isinstance(event, MessageAccepted) else None,
        )
        # Of the session, not of the delivery: a record without a key lies anywhere.
        partition = self._shell.outbox.partition_of(event.session_id.encode())
        return await self._session_log.append(event, headers, partition)


def read_command(delivery: Delivery, at: datetime) -> SessionEvent:
    """The fact that the record is, once it is in the log; `at`: when it is accepted.

    Raises:
        RefusedError: it is not a command, or its key contradicts it.
    """
    value = delivery.value or b""
    if len(value) > MAX_MESSAGE_BYTES:
        error = f"expected at most {MAX_MESSAGE_BYTES} bytes, got {len(value)}: send less, or a link to it"
        raise RefusedError(Cause.TOO_LARGE, error)
    try:
        command = decode_command(value)
    except msgspec.ValidationError as invalid:
        raise RefusedError(Cause.NOT_VALID, f"expected a command, got JSON of another shape: {invalid}") from None
    except UNREADABLE as malformed:
        raise RefusedError(Cause.NOT_JSON, f"expected a JSON object, got {_excerpt(value)}: {malformed}") from None
    key = delivery.key
    if key is not None and key != command.session_id.encode():
        error = (
            f"expected the key to be the session_id `{command.session_id}` or none, got {_excerpt(key)}: "
            "leave the key out, or make them equal"
        )
        raise RefusedError(Cause.WRONG_KEY, error, command.session_id)
    return _fact(command, delivery, at)


def _fact(command: Command, delivery: Delivery, at: datetime) -> SessionEvent:
    command_id = command.id or derived_message_id(delivery.topic, delivery.partition, delivery.offset)
    match command:
        case UserMessage():
            return MessageAccepted(
                session_id=command.session_id,
                message_id=command_id,
                content=command.blocks,
                at=at,
                sent_at=delivery.at,
                agent=command.agent,
                user_id=command.user_id,
                tenant=command.tenant,
                metadata=command.metadata,
                traceparent=traceparent_of(delivery.headers, command_id),
            )
        case CancelTurn():
            return CancelRequested(
                session_id=command.session_id,
                command_id=command_id,
                at=at,
                message_id=command.message_id,
                reason=command.reason,
                by=command.by,
            )
        case ApprovalDecision():
            return ApprovalDecided(
                session_id=command.session_id,
                command_id=command_id,
                call_id=command.call_id,
                decision=command.decision,
                at=at,
                reason=command.reason,
                by=command.by,
            )
        case EndSession():
            return SessionEndRequested(
                session_id=command.session_id, command_id=command_id, at=at, reason=command.reason
            )
        case _:
            assert_never(command)


def _excerpt(value: bytes) -> str:
    """What came, short and printable."""
    if not value:
        return "nothing"
    text = json.dumps(value[:EXCERPT_BYTES].decode("utf-8", "replace"))
    return text if len(value) <= EXCERPT_BYTES else f"{text}…"
