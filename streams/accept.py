"""accept: takes commands from `user-messages`, refuses what is malformed, appends the rest to the session log."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import assert_never

from schemas.codec import cloud_event_headers
from schemas.commands import (
    ApprovalDecision,
    CancelTurn,
    Command,
    EndSession,
    ReleaseSession,
    UserMessage,
)
from schemas.dead_letter import command_id_of
from schemas.ids import derived_message_id
from schemas.log import (
    ApprovalDecided,
    CancelRequested,
    MessageAccepted,
    SessionEndRequested,
    SessionEvent,
    SessionReleaseRequested,
)
from schemas.refusal import RefusedError, check_command
from streams.acknowledge import Acknowledger, finish_when_durable
from streams.dead_letter import DeadLetters
from streams.ports import Delivery, Shell
from streams.session_log import SessionLog
from streams.trace import traceparent_of


class Accept:
    """The processor. Records are taken in order and acknowledged when they are in the session log, or buried."""

    def __init__(
        self,
        shell: Shell,
        dead_letters: DeadLetters,
        session_log: SessionLog,
        specs_offset: Callable[[], int] = lambda: -1,
    ) -> None:
        self._shell = shell
        self._specs_offset = specs_offset
        self._session_log = session_log
        self._dead_letters = dead_letters
        self.acknowledger = Acknowledger()
        self.is_full = False

    async def take(self, delivery: Delivery) -> None:
        ticket = self.acknowledger.take(delivery)
        try:
            event = read_command(delivery, self._shell.clock(), self._specs_offset())
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


def read_command(delivery: Delivery, at: datetime, specs_offset: int = -1) -> SessionEvent:
    """The fact that the record is, once it is in the log.

    Args:
        delivery: the record.
        at: when it is accepted.
        specs_offset: how far this worker has read the agents that were applied.

    Raises:
        RefusedError: it is not a command, or its key contradicts it.
    """
    return _fact(check_command(delivery.value, delivery.key), delivery, at, specs_offset)


def _fact(command: Command, delivery: Delivery, at: datetime, specs_offset: int) -> SessionEvent:
    place = derived_message_id(delivery.topic, delivery.partition, delivery.offset)
    command_id = command.id or command_id_of(place, delivery.headers)
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
                specs_offset=specs_offset,
                hops=command.hops,
                budget_micros=command.budget_micros,
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
                input=command.input,
            )
        case EndSession():
            return SessionEndRequested(
                session_id=command.session_id, command_id=command_id, at=at, reason=command.reason
            )
        case ReleaseSession():
            return SessionReleaseRequested(
                session_id=command.session_id, command_id=command_id, at=at, reason=command.reason, by=command.by
            )
        case _:
            assert_never(command)
