"""The directory: which agents workers have announced, as a table of the topic `agent-directory`."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from msgspec import Struct

from schemas.directory import AgentAnnounced, announcement_key, decode_announcement
from schemas.refusal import UNREADABLE

ANNOUNCED_WITHIN = timedelta(minutes=5)
"""Who is there has said so since, as it is said several times a minute: nobody needs to read the whole topic."""
FORGOTTEN_AFTER = timedelta(hours=1)
"""An entry that has expired leaves the memory so much later: clocks of workers differ, by less than that."""


class ServedAgent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent with all workers that serve it. While a new version spreads, it is what the newest of them says.

    `calls_in_flight` are those of all workers; `since` is when the first of them began to serve this version.
    """

    name: str
    version: str
    model: str
    since: datetime
    workers: tuple[str, ...]
    description: str = ""
    capabilities: tuple[str, ...] = ()
    tenant: str | None = None
    tools: tuple[str, ...] = ()
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    calls_in_flight: int = 0
    other_versions: tuple[str, ...] = ()


class Directory:
    """What was announced, by the records' keys."""

    def __init__(self) -> None:
        self._announced: dict[bytes, AgentAnnounced] = {}

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """A record of the topic; one that is no announcement changes nothing."""
        if key is None:
            return
        if value is None:
            self._announced.pop(key, None)
            return
        try:
            announced: AgentAnnounced = decode_announcement(value)
        except UNREADABLE:
            return
        if announcement_key(announced.agent, announced.worker) != key:
            return
        # Put at the end, so that those who have been silent longest are first.
        self._announced.pop(key, None)
        self._announced[key] = announced
        forgotten = announced.at - FORGOTTEN_AFTER
        for old, _ in tuple(takewhile(lambda item: item[1].expires_at < forgotten, self._announced.items())):
            del self._announced[old]

    def announced(self, now: datetime) -> list[AgentAnnounced]:
        """What has not expired, by agent, then by worker."""
        live = (one for one in self._announced.values() if one.expires_at > now)
        return sorted(live, key=lambda one: (one.agent, one.worker))

    def agents(self, now: datetime) -> list[ServedAgent]:
        """The agents that somebody serves, by name."""
        by_agent = defaultdict(list)
        for one in self.announced(now):
            by_agent[one.agent].append(one)
        return [_served(announced) for announced in by_agent.values()]

    def find(
        self, now: datetime, *, query: str = "", capability: str | None = None, tenant: str | None = None
    ) -> list[ServedAgent]:
        """The agents that somebody of this tenant may call, best first.

        Args:
            now: what has expired by then is not there.
            query: words; the more of them an agent has in its name, description and capabilities, the better.
            capability: only agents that have it.
            tenant: None: only everybody's agents.
        """
        words = query.lower().split()
        allowed = [
            agent
            for agent in self.agents(now)
            if agent.tenant in {None, tenant} and (capability is None or capability in agent.capabilities)
        ]
        scored = [(sum(word in _text(agent) for word in words), agent) for agent in allowed]
        return [agent for score, agent in sorted(scored, key=lambda pair: -pair[0]) if score or not words]


def _text(agent: ServedAgent) -> str:
    return " ".join((agent.name, agent.description, *agent.capabilities)).lower()


def _served(announced: Iterable[AgentAnnounced]) -> ServedAgent:
    """One agent from what its workers say."""
    by_age = sorted(announced, key=lambda one: one.since)
    newest = by_age[-1]
    return ServedAgent(
        name=newest.agent,
        version=newest.version,
        model=newest.model,
        since=next(one.since for one in by_age if one.version == newest.version),
        workers=tuple(sorted(one.worker for one in by_age)),
        description=newest.description,
        capabilities=newest.capabilities,
        tenant=newest.tenant,
        tools=newest.tools,
        input_schema=newest.input_schema,
        output_schema=newest.output_schema,
        calls_in_flight=sum(one.calls_in_flight for one in by_age),
        other_versions=tuple(sorted({one.version for one in by_age} - {newest.version})),
    )
