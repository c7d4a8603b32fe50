"""The roster: the agents that are applied and announced, as this worker has read them from their topics."""

import asyncio

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from agents.applied import apply_record
from agents.catalog import Catalog
from agents.directory import ANNOUNCED_WITHIN, Directory
from runtime.following import Followed, Follower
from runtime.settings import Settings
from schemas.topics import AGENT_DIRECTORY, AGENT_SPECS

START_TIMEOUT_S = 60.0
"""Some thousand specs are read in a second; brokers that just started may need most of this."""
MISSED_S = 10.0
"""After so long a wait for an offset, the brokers are asked whether they have it at all."""

log = structlog.get_logger(__name__)


class Roster:
    """Keeps the catalog and the directory as their topics have them."""

    def __init__(self, settings: Settings, catalog: Catalog, directory: Directory) -> None:
        self._catalog = catalog
        self._directory = directory
        self._changed: asyncio.Future[None] | None = None
        self._lost_to = -1
        self._is_started = False
        self._follower = Follower(
            settings,
            (
                Followed(topic=AGENT_SPECS, take=self._apply, reached=self._reach),
                Followed(topic=AGENT_DIRECTORY, take=self._hear, since=ANNOUNCED_WITHIN),
            ),
            client_id="headrace-roster",
        )

    async def start(self) -> None:
        """Read all that there is; raises `NotReadError`."""
        await self._follower.start(START_TIMEOUT_S)
        self._is_started = True
        log.info("agent_specs_read", read_to=self._catalog.read_to, applied=self._catalog.applied())

    async def run(self) -> None:
        """Follow; for ever."""
        await self._follower.run()

    async def stop(self) -> None:
        await self._follower.stop()

    def changed(self) -> asyncio.Future[None]:
        """Done when more of `agent-specs` has been read."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    async def reached(self, offset: int) -> None:
        """Wait until `agent-specs` has been read up to `offset`: another worker had, when it accepted a message."""
        while max(self._catalog.read_to, self._lost_to) < offset:
            done, _ = await asyncio.wait([self.changed()], timeout=MISSED_S)
            if not done and await self._is_lost(offset):
                # The turn is not held up for ever by a topic that was deleted and made again.
                log.error(
                    "agent_specs_lost",
                    expected=offset,
                    read_to=self._catalog.read_to,
                    hint="agent-specs was deleted, or lost records: apply the agents again, and restart the workers",
                )
                self._lost_to = offset

    async def _is_lost(self, offset: int) -> bool:
        try:
            async with asyncio.timeout(MISSED_S):
                return await self._follower.end(AGENT_SPECS) <= offset
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("agent_specs_awaited", offset=offset, error=repr(error))
            return False

    def _apply(self, record: ConsumerRecord) -> None:
        problem = apply_record(self._catalog, record.offset, record.key, record.value)
        if problem is not None:
            # Nothing is buried: each worker reads it at each start, and `headrace agents apply` writes none.
            log.warning("agent_spec_ignored", place=f"{record.topic}/0/{record.offset}", problem=problem)
        elif self._is_started:
            key = (record.key or b"").decode(errors="replace")
            log.info("agent_spec_read", key=key, offset=record.offset, deleted=record.value is None)

    def _reach(self, offset: int) -> None:
        self._catalog.reach(offset)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _hear(self, record: ConsumerRecord) -> None:
        self._directory.take(record.key, record.value)
