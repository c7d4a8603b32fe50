"""Dead letters: what cannot be processed goes to `dead-letters` with its cause, and its partition goes on."""

import asyncio

from schemas.codec import cloud_event_headers, encode
from schemas.dead_letter import Cause, DeadLetter
from schemas.effects import Effect
from schemas.topics import DEAD_LETTERS
from streams.acknowledge import Ticket, finish_when_durable
from streams.ports import Delivery, Shell

MAX_ERROR_CHARS = 4_000
MAX_VALUE_BYTES = 2_500_000
"""In base64, with the rest of the letter, this still fits a record of `dead-letters` (4 MiB)."""


class DeadLetters:
    """Writes dead letters for the processors."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def bury(
        self, delivery: Delivery, *, processor: str, cause: Cause, error: str, session_id: str | None = None
    ) -> asyncio.Future[int]:
        """Append the record's dead letter; the result resolves when it is durable."""
        value = delivery.value
        error = error[:MAX_ERROR_CHARS]
        if value is not None and len(value) > MAX_VALUE_BYTES:
            error += f" (its value, {len(value)} bytes, is left out here: read it where it is)"
            value = None
        letter = DeadLetter(
            id=f"{delivery.topic}/{delivery.partition}/{delivery.offset}",
            topic=delivery.topic,
            partition=delivery.partition,
            offset=delivery.offset,
            at=self._shell.clock(),
            processor=processor,
            cause=cause,
            error=error,
            key=delivery.key,
            value=value,
            headers=tuple((name, value or b"") for name, value in delivery.headers),
            record_at=delivery.at,
            session_id=session_id,
        )
        headers = cloud_event_headers(
            letter,
            id=letter.id,
            source=f"/headrace/{processor}",
            at=letter.at,
            subject=session_id or letter.id,
        )
        key = session_id.encode() if session_id else delivery.key
        topic = self._shell.topic_prefix + DEAD_LETTERS.name
        return await self._shell.outbox.append(topic, key=key, value=encode(letter), headers=headers)

    async def bury_order_of_nobody(self, ticket: Ticket, order: Effect, *, processor: str) -> None:
        """Bury an order that names an event which the session log does not have."""
        error = (
            f"expected the order to name an event of the session log, got offset {order.log_offset} of partition "
            f"{ticket.delivery.partition}, which ends before: `decide` did not write it, find out who did"
        )
        await self.bury_and_finish(
            ticket, processor=processor, cause=Cause.NOT_IN_LOG, error=error, session_id=order.session_id
        )

    async def bury_and_finish(
        self, ticket: Ticket, *, processor: str, cause: Cause, error: str, session_id: str | None = None
    ) -> None:
        """Bury the ticket's record; the ticket is done when that is durable."""
        buried = await self.bury(ticket.delivery, processor=processor, cause=cause, error=error, session_id=session_id)
        finish_when_durable(ticket, buried, self._shell.fail)
