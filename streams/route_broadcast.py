"""route_broadcast: sends a broadcast to each agent that it is for, as a message in a session of its own.

The messages' ids are derived from the broadcast and the agent: a broadcast that is routed twice is answered once.
"""

import asyncio
from collections.abc import Sequence

from agents.catalog import Catalog
from schemas.codec import cloud_event_headers
from schemas.commands import Broadcast, UserMessage
from schemas.dead_letter import Cause, command_id_of
from schemas.ids import derived_message_id
from schemas.refusal import BROADCAST_ID, RefusedError, check_broadcast
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
            broadcast = check_broadcast(delivery.value, self._shell.clock())
        except RefusedError as refused:
            await self._dead_letters.bury_and_finish(
                ticket, processor="route_broadcast", cause=refused.cause, error=str(refused)
            )
            return
        sent = await self._route(broadcast, delivery)
        finish_when_durable(ticket, asyncio.gather(*sent), self._shell.fail)

    async def _route(self, broadcast: Broadcast, delivery: Delivery) -> Sequence[asyncio.Future[int]]:
        """Send the messages, bury what cannot be sent; each result resolves when its record is durable."""
        sent: list[asyncio.Future[int]] = []
        wanted = tuple(self._catalog.agents) if broadcast.audience == "all" else broadcast.audience
        unknown = sorted(name for name in wanted if name not in self._catalog.agents)
        if unknown:
            error = f"expected agents of {sorted(self._catalog.agents)}, got also {unknown}, which did not get it"
            sent.append(
                await self._dead_letters.bury(
                    delivery, processor="route_broadcast", cause=Cause.NO_SUCH_AGENT, error=error
                )
            )
        sent += [await self._send(broadcast, name, delivery) for name in wanted if name in self._catalog.agents]
        return sent

    async def _send(self, broadcast: Broadcast, agent: str, delivery: Delivery) -> asyncio.Future[int]:
        place = derived_message_id(delivery.topic, delivery.partition, delivery.offset)
        broadcast_id = broadcast.id or command_id_of(place, delivery.headers)
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
