"""announce: tells everybody on `agent-directory` which agents this worker serves, again and again, until it leaves."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from agents.applied import spec_version
from agents.catalog import Catalog
from agents.spec import AgentSpec
from schemas.codec import cloud_event_headers, encode
from schemas.directory import AgentAnnounced, announcement_key
from schemas.topics import AGENT_DIRECTORY
from streams.ports import Shell

HEARTBEAT_S = 10.0
"""A record for each agent in each worker: with 20 agents in 50 workers, 100 small records a second."""
EXPIRES_AFTER = timedelta(seconds=3 * HEARTBEAT_S)
"""Longer than a session of the group (10 s), so that a worker that is replaced by then is not missed twice; one
heartbeat may be lost and one be late. Clocks of workers may differ by less than this."""


class Announce:
    """This worker's entries. `tools` are all that it has now; `calls_in_flight` counts those of an agent."""

    def __init__(
        self,
        shell: Shell,
        catalog: Catalog,
        worker: str,
        tools: Callable[[], Iterable[str]],
        calls_in_flight: Callable[[str], int],
    ) -> None:
        self._shell = shell
        self._catalog = catalog
        self._worker = worker
        self._tools = tools
        self._calls_in_flight = calls_in_flight
        self._since: dict[str, tuple[str, datetime]] = {}

    async def run(self, changed: Callable[[], asyncio.Future[None]]) -> None:
        """Announce at once, then at each heartbeat and whenever agents `changed`; for ever."""
        while True:
            news = changed()
            self.announce()
            await asyncio.wait([news], timeout=HEARTBEAT_S)

    def announce(self) -> None:
        """Say what is served now, and take back what is not served any more."""
        now, agents, tools = self._shell.clock(), self._catalog.agents, tuple(sorted(self._tools()))
        for gone in self._since.keys() - agents.keys():
            self._post(gone, None)
        known, self._since = self._since, {}
        for name, spec in agents.items():
            version = spec_version(spec)
            since = known[name][1] if name in known and known[name][0] == version else now
            self._since[name] = (version, since)
            self._post(name, self._announcement(spec, (version, since), now, tools))

    def retire(self) -> None:
        """Take back all that was announced: this worker leaves."""
        for name in self._since:
            self._post(name, None)
        self._since = {}

    def _announcement(
        self, spec: AgentSpec, served: tuple[str, datetime], now: datetime, tools: tuple[str, ...]
    ) -> AgentAnnounced:
        version, since = served
        return AgentAnnounced(
            agent=spec.name,
            worker=self._worker,
            version=version,
            model=spec.model if spec.pattern is None else "",
            since=since,
            at=now,
            expires_at=now + EXPIRES_AFTER,
            description=spec.description,
            capabilities=spec.capabilities,
            tenant=spec.tenant,
            tools=spec.tools,
            input_schema=spec.input_schema,
            output_schema=spec.output_schema,
            calls_in_flight=self._calls_in_flight(spec.name),
            worker_tools=tools,
        )

    def _post(self, agent: str, announced: AgentAnnounced | None) -> None:
        key = announcement_key(agent, self._worker)
        headers = []
        if announced is not None:
            headers = cloud_event_headers(
                announced, id=key.decode(), source="/headrace/announce", at=announced.at, subject=agent
            )
        value = None if announced is None else encode(announced)
        name = self._shell.topic_prefix + AGENT_DIRECTORY.name
        self._shell.outbox.post(name, key=key, value=value, headers=headers, partition=0)
