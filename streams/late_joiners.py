"""Which broadcasts an agent gets that was applied after them, and how: as it would have got them in time.

Ids are derived from the broadcast and the agent, so one that it has got, then or now, it does not answer again, as long
as its session is remembered. Older ones it does not get.
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from agents.audience import each_share, reached
from agents.catalog import Catalog
from agents.spec import AgentSpec
from schemas.commands import Broadcast
from schemas.dead_letter import command_id_of
from schemas.gather import own_broadcast_id
from schemas.ids import derived_message_id
from schemas.refusal import RefusedError, check_broadcast
from schemas.topics import SESSION_LOG, USER_MESSAGES
from streams.broadcast_records import accepted, deadline_of, headers_of, message_of
from streams.ports import Delivery, Shell
from streams.storms import Storms

SETTLED_AFTER = timedelta(seconds=5)
"""So long after an agent was applied every worker has read it: what is routed from then on reaches it anyway."""
UNTIL_AFTER = timedelta(minutes=1)
"""Clocks of producers may differ: a broadcast that is so much later than the agent may have come before it."""
REMEMBERED_LESS = timedelta(minutes=10)
"""Sessions may be forgotten while broadcasts are given out again."""


class Joiner(NamedTuple):
    """An agent that gets the broadcasts between two times."""

    agent: str
    since: datetime
    until: datetime


def joiner(spec: AgentSpec, applied_at: datetime, now: datetime, retention: timedelta) -> Joiner | None:
    """What an agent gets that was applied at `applied_at`; None: nothing.

    Args:
        spec: the agent.
        applied_at: when it was.
        now: when it is given what it missed.
        retention: how long an idle session is remembered.
    """
    wanted = applied_at - timedelta(seconds=spec.broadcast_replay_seconds)
    since, until = max(wanted, now - retention + REMEMBERED_LESS), applied_at + UNTIL_AFTER
    return Joiner(spec.name, since, until) if spec.broadcast_replay_seconds and since < until else None


class LateJoiners:
    """Gives out broadcasts again, in one pass over their topic. What was too much for one sender stays refused."""

    def __init__(self, shell: Shell, catalog: Catalog, joiners: Iterable[Joiner]) -> None:
        self._shell = shell
        self._catalog = catalog
        self._joiners = tuple(joiners)
        self._storms = Storms()

    async def give(self, delivery: Delivery) -> list[asyncio.Future[int]]:
        """Send a broadcast to those that missed it; each result resolves when its record is durable."""
        now = self._shell.clock()
        place = derived_message_id(delivery.topic, delivery.partition, delivery.offset)
        try:
            broadcast = check_broadcast(delivery.value, now)
            self._storms.check(broadcast, place, delivery.at)
        except RefusedError:
            return []
        if broadcast.gather != "none" and deadline_of(broadcast, delivery.at) <= now:
            return []
        all_reached = reached(self._catalog.agents, broadcast.audience, broadcast.tenant).agents
        missed = {one.agent for one in self._joiners if one.since <= delivery.at <= one.until} & set(all_reached)
        if not missed:
            return []
        given = broadcast.id or command_id_of(place, delivery.headers)
        broadcast_id = own_broadcast_id(given, broadcast.tenant)
        if broadcast.gather != "none":
            return [await self._gather(broadcast, broadcast_id, sorted(missed), delivery)]
        share = each_share(broadcast.budget_micros, len(all_reached))
        return [await self._send(broadcast, broadcast_id, name, share, delivery) for name in sorted(missed)]

    async def _send(
        self, broadcast: Broadcast, broadcast_id: str, agent: str, budget_micros: int | None, delivery: Delivery
    ) -> asyncio.Future[int]:
        message = message_of(broadcast, broadcast_id, agent, budget_micros)
        headers = headers_of(message, message.session_id, delivery, broadcast_id, self._shell.clock())
        return await self._shell.append(USER_MESSAGES, message, message.session_id, headers)

    async def _gather(
        self, broadcast: Broadcast, broadcast_id: str, missed: Iterable[str], delivery: Delivery
    ) -> asyncio.Future[int]:
        """Tell the session that gathers: it knows whether it waits, and whom it has asked."""
        event = accepted(
            broadcast,
            broadcast_id,
            delivery,
            self._shell.clock(),
            specs_offset=self._catalog.read_to,
            audience=tuple(missed),
            for_late_joiners=True,
        )
        event_id = f"{derived_message_id(delivery.topic, delivery.partition, delivery.offset)}@{event.specs_offset}"
        headers = headers_of(event, event_id, delivery, broadcast_id, self._shell.clock())
        return await self._shell.append(SESSION_LOG, event, event.session_id, headers)
