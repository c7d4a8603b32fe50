"""route_broadcast: sends a broadcast to each agent that it is for, as a message in a session of its own.

The messages' ids are derived from the broadcast and the agent: a broadcast that is routed twice is answered once.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from agents.catalog import Catalog
from schemas.codec import cloud_event_headers, decode_broadcast
from schemas.commands import MAX_MESSAGE_BYTES, MAX_METADATA_ENTRIES, Broadcast, UserMessage
from schemas.dead_letter import Cause
from schemas.topics import USER_MESSAGES
from streams.acknowledge import Acknowledger, finish_when_durable
from streams.dead_letter import UNREADABLE, DeadLetters
from streams.ports import Delivery, Shell
from streams.trace import traceparent_of

MAX_BROADCAST_BYTES = MAX_MESSAGE_BYTES - 4_096
"""What each agent's message adds, ids and names, still fits a message."""
BROADCAST_ID = "broadcast_id"


class RouteBroadcasts:
    """The processor."""

    def __init__(self, shell: Shell, dead_letters: DeadLetters, catalog: Catalog) -> None:
        self._shell = shell
        self._dead_letters = dead_letters
        self._catalog = catalog
        self.acknowledger = Acknowledger()
        self.is_full = False

    async def take(self, delivery: Delivery) -> None:
        ticket = self.acknowledger.take(delivery)
        try:
            broadcast = decode_broadcast(delivery.value or b"")
        except UNREADABLE as error:
            cause = Cause.NOT_VALID if isinstance(error, msgspec.ValidationError) else Cause.NOT_JSON
            await self._dead_letters.bury_and_finish(
                ticket, processor="route_broadcast", cause=cause, error=f"expected a broadcast: {error}"
            )
            return
        sent = await self._route(broadcast, delivery)
        finish_when_durable(ticket, asyncio.gather(*sent), self._shell.fail)

    async def _route(self, broadcast: Broadcast, delivery: Delivery) -> Sequence[asyncio.Future[int]]:
        """Send the messages, bury what cannot be sent; each result resolves when its record is durable."""
        refusal = _refusal(broadcast, delivery, self._shell.clock())
        if refusal is not None:
            return [await self._bury(delivery, *refusal)]
        sent: list[asyncio.Future[int]] = []
        wanted = tuple(self._catalog.agents) if broadcast.audience == "all" else broadcast.audience
        unknown = sorted(name for name in wanted if name not in self._catalog.agents)
        if unknown:
            error = f"expected agents of {sorted(self._catalog.agents)}, got also {unknown}, which did not get it"
            sent.append(await self._bury(delivery, Cause.NO_SUCH_AGENT, error))
        sent += [await self._send(broadcast, name, delivery) for name in wanted if name in self._catalog.agents]
        return sent

    async def _bury(self, delivery: Delivery, cause: Cause, error: str) -> asyncio.Future[int]:
        return await self._dead_letters.bury(delivery, processor="route_broadcast", cause=cause, error=error)

    async def _send(self, broadcast: Broadcast, agent: str, delivery: Delivery) -> asyncio.Future[int]:
        broadcast_id = broadcast.id or f"{delivery.topic}/{delivery.partition}/{delivery.offset}"
        session_id = f"{broadcast_id}:{agent}"
        message = UserMessage(
            session_id=session_id,
            id=session_id,
            text=broadcast.text,
            agent=agent,
            user_id=broadcast.sender,
            tenant=broadcast.tenant,
            metadata={**broadcast.metadata, BROADCAST_ID: broadcast_id},
        )
        headers = cloud_event_headers(
            message,
            id=session_id,
            source="/headrace/route_broadcast",
            at=self._shell.clock(),
            subject=session_id,
            traceparent=traceparent_of(delivery.headers, broadcast_id),
        )
        return await self._shell.append(USER_MESSAGES, message, session_id, headers)


def _refusal(broadcast: Broadcast, delivery: Delivery, now: datetime) -> tuple[Cause, str] | None:
    """Why the broadcast goes to nobody, if it does not."""
    size = len(delivery.value or b"")
    if size > MAX_BROADCAST_BYTES:
        return Cause.TOO_LARGE, f"expected at most {MAX_BROADCAST_BYTES} bytes, got {size}: send less, or a link to it"
    if len(broadcast.metadata) >= MAX_METADATA_ENTRIES and BROADCAST_ID not in broadcast.metadata:
        return Cause.NOT_VALID, f"expected fewer than {MAX_METADATA_ENTRIES} `metadata` entries: one is for its id"
    expires_at = broadcast.expires_at
    if expires_at is not None and expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=UTC)
    if expires_at is not None and expires_at <= now:
        return Cause.EXPIRED, f"expected to route the broadcast before {expires_at}: send it again with a later time"
    return None
