"""route_broadcast: sends a broadcast to each agent that it is for, as a message in a session of its own.

The messages' ids are derived from the broadcast and the agent: a broadcast that is routed twice is answered once. One
that gathers replies becomes a fact of the session that gathers them, which asks the agents itself.
"""

import asyncio
from collections.abc import Sequence

from agents.audience import Reached, each_share, reached, visible
from agents.catalog import Catalog
from schemas.commands import Broadcast
from schemas.dead_letter import Cause, command_id_of
from schemas.gather import MAX_GATHERED_AGENTS, own_broadcast_id
from schemas.ids import derived_message_id
from schemas.refusal import RefusedError, check_broadcast
from schemas.topics import USER_MESSAGES
from streams.acknowledge import Acknowledger, finish_when_durable
from streams.broadcast_records import accepted, headers_of, message_of
from streams.dead_letter import DeadLetters
from streams.ports import Delivery, Shell
from streams.session_log import SessionLog
from streams.storms import DEFAULT_BROADCASTS_PER_MINUTE, Storms


class RouteBroadcasts:
    """The processor."""

    def __init__(
        self,
        shell: Shell,
        dead_letters: DeadLetters,
        catalog: Catalog,
        session_log: SessionLog,
        broadcasts_per_minute: int = DEFAULT_BROADCASTS_PER_MINUTE,
    ) -> None:
        self._shell = shell
        self._dead_letters = dead_letters
        self._catalog = catalog
        self._session_log = session_log
        self._storms = Storms(broadcasts_per_minute)
        self.acknowledger = Acknowledger()
        self.is_full = False

    async def take(self, delivery: Delivery) -> None:
        ticket = self.acknowledger.take(delivery)
        try:
            broadcast = check_broadcast(delivery.value, self._shell.clock())
            found = self._reached(broadcast)
            self._storms.check(broadcast, _place(delivery), delivery.at)
        except RefusedError as refused:
            await self._dead_letters.bury_and_finish(
                ticket, processor="route_broadcast", cause=refused.cause, error=str(refused)
            )
            return
        sent = await self._route(broadcast, found, delivery)
        finish_when_durable(ticket, asyncio.gather(*sent), self._shell.fail)

    def _reached(self, broadcast: Broadcast) -> Reached:
        found = reached(self._catalog.agents, broadcast.audience, broadcast.tenant)
        if broadcast.gather != "none" and len(found.agents) > MAX_GATHERED_AGENTS:
            error = f"expected at most {MAX_GATHERED_AGENTS} agents to gather replies of, got {len(found.agents)}: "
            raise RefusedError(Cause.NOT_VALID, f"{error}name fewer, or a capability, or leave `gather` out")
        return found

    async def _route(self, broadcast: Broadcast, found: Reached, delivery: Delivery) -> Sequence[asyncio.Future[int]]:
        """Send the messages, bury what cannot be sent; each result resolves when its record is durable."""
        sent: list[asyncio.Future[int]] = []
        if found.unknown or not found.agents:
            got = f"also {list(found.unknown)}, which did not get it" if found.unknown else "an audience of none"
            known = sorted(visible(self._catalog.agents, broadcast.tenant))
            sent.append(
                await self._dead_letters.bury(
                    delivery,
                    processor="route_broadcast",
                    cause=Cause.NO_SUCH_AGENT,
                    error=f"expected agents of {known}, got {got}",
                )
            )
        given = broadcast.id or command_id_of(_place(delivery), delivery.headers)
        broadcast_id = own_broadcast_id(given, broadcast.tenant)
        if broadcast.gather != "none":
            sent.append(await self._gather(broadcast, broadcast_id, delivery))
        else:
            share = each_share(broadcast.budget_micros, len(found.agents))
            sent += [await self._send(broadcast, broadcast_id, name, share, delivery) for name in found.agents]
        return sent

    async def _send(
        self, broadcast: Broadcast, broadcast_id: str, agent: str, budget_micros: int | None, delivery: Delivery
    ) -> asyncio.Future[int]:
        message = message_of(broadcast, broadcast_id, agent, budget_micros)
        headers = headers_of(message, message.session_id, delivery, broadcast_id, self._shell.clock())
        return await self._shell.append(USER_MESSAGES, message, message.session_id, headers)

    async def _gather(self, broadcast: Broadcast, broadcast_id: str, delivery: Delivery) -> asyncio.Future[int]:
        at = self._shell.clock()
        event = accepted(broadcast, broadcast_id, delivery, at, specs_offset=self._catalog.read_to)
        headers = headers_of(event, _place(delivery), delivery, broadcast_id, at)
        partition = self._shell.outbox.partition_of(event.session_id.encode())
        return await self._session_log.append(event, headers, partition)


def _place(delivery: Delivery) -> str:
    return derived_message_id(delivery.topic, delivery.partition, delivery.offset)
