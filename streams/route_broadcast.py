"""route_broadcast: sends a broadcast to each agent that it is for, as a message in a session of its own.

The messages' ids are derived from the broadcast and the agent: a broadcast that is routed twice is answered once.
"""

import asyncio

import msgspec

from agents.catalog import Catalog
from schemas.codec import cloud_event_headers, decode_broadcast
from schemas.commands import Broadcast, UserMessage
from schemas.dead_letter import Cause
from schemas.topics import USER_MESSAGES
from streams.acknowledge import Acknowledger, finish_when_durable
from streams.dead_letter import DeadLetters
from streams.ports import Delivery, Shell
from streams.trace import traceparent_of


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
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            cause = Cause.NOT_VALID if isinstance(error, msgspec.ValidationError) else Cause.NOT_JSON
            await self._dead_letters.bury_and_finish(
                ticket, processor="route_broadcast", cause=cause, error=f"expected a broadcast: {error}"
            )
            return
        durable = asyncio.ensure_future(self._route(broadcast, delivery))
        finish_when_durable(ticket, durable, self._shell.fail)

    async def _route(self, broadcast: Broadcast, delivery: Delivery) -> int:
        """Send the messages, bury what cannot be sent; how many were sent."""
        if broadcast.expires_at is not None and broadcast.expires_at <= self._shell.clock():
            error = f"expected to route the broadcast before {broadcast.expires_at}: send it again with a later time"
            await self._bury(delivery, Cause.EXPIRED, error)
            return 0
        wanted = tuple(self._catalog.agents) if broadcast.audience == "all" else broadcast.audience
        unknown = sorted(name for name in wanted if name not in self._catalog.agents)
        if unknown:
            error = f"expected agents of {sorted(self._catalog.agents)}, got also {unknown}, which did not get it"
            await self._bury(delivery, Cause.NO_SUCH_AGENT, error)
        sent = [await self._send(broadcast, name, delivery) for name in wanted if name in self._catalog.agents]
        for future in sent:
            await future
        return len(sent)

    async def _bury(self, delivery: Delivery, cause: Cause, error: str) -> None:
        await (await self._dead_letters.bury(delivery, processor="route_broadcast", cause=cause, error=error))

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
            metadata={**broadcast.metadata, "broadcast_id": broadcast_id},
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
