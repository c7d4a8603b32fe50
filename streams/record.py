"""The recorder: the second and third step of the rule of durability, for the events that `decide` has handled.

Per partition, in order: wait until the effects of an event are acknowledged, write the session to the changelog, wait
for that, store it in the table, acknowledge the event. Events that wait together are recorded together: of a session
that changed several times only the last head is written.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from streams.acknowledge import Ticket
from streams.ports import FencedError, Shell, Table
from streams.sessions import Sessions
from streams.store import Write, coalesced

log = structlog.get_logger(__name__)
FENCED_S = 30.0
"""A worker whose partition was claimed by another hears within its session timeout, 10 s, that it must begin anew. If
it does not, the claim was of one that was itself too late: then it must be claimed back, by a restart."""
MAX_BATCH = 500
"""Enough events that the round trip to the broker does not count, few enough that commits stay near."""


@dataclass(slots=True, frozen=True, eq=False)
class Handled:
    """An event that `decide` has handled: what was emitted for it, and what is to be recorded."""

    ticket: Ticket
    session_id: str | None
    emitted: Sequence[asyncio.Future[int]]
    writes: Sequence[Write]


class Recorder:
    """Events wait in the order of their partition; what waits in all partitions is recorded together."""

    def __init__(self, shell: Shell, table: Table, sessions: Sessions, *, linger_s: float = 0.0) -> None:
        self._shell = shell
        self._table = table
        self._sessions = sessions
        self._linger_s = linger_s
        self._hurry = asyncio.Event()
        self._waiting: defaultdict[int, list[Handled]] = defaultdict(list)
        self._task: asyncio.Task[None] | None = None
        self._fenced: dict[int, asyncio.TimerHandle] = {}

    @property
    def is_fenced(self) -> bool:
        """Whether another worker has claimed a partition that this one still takes for its own."""
        return bool(self._fenced)

    def submit(self, handled: Handled) -> None:
        """Record `handled` after all that came before it in its partition."""
        if handled.ticket.delivery.partition in self._fenced:
            return  # It is the other worker's to record, and to acknowledge.
        self._waiting[handled.ticket.delivery.partition].append(handled)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="record")

    async def idle(self, timeout_s: float) -> bool:
        """Wait until all is recorded, `timeout_s` at most; whether it is."""
        if self._task is not None:
            self._hurry.set()
            await asyncio.wait([self._task], timeout=timeout_s)
            self._hurry.clear()
        return self._task is None

    async def stop(self) -> None:
        """Drop what is not recorded: it is not acknowledged either, so it is delivered again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._waiting.clear()
        for timer in self._fenced.values():
            timer.cancel()
        self._fenced.clear()

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._linger()
                batches = {partition: waiting[:MAX_BATCH] for partition, waiting in self._waiting.items()}
                for partition, batch in batches.items():
                    del self._waiting[partition][: len(batch)]
                    if not self._waiting[partition]:
                        del self._waiting[partition]
                await asyncio.gather(*(self._record(partition, batch) for partition, batch in batches.items()))
        except Exception as error:  # noqa: BLE001  # Whatever it is, what follows must not be recorded.
            self._shell.fail(error)
        else:
            self._task = None

    async def _linger(self) -> None:
        """Let events come together: nobody waits for their record, and of a session only the last head is written."""
        if self._linger_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._linger_s):
                    await self._hurry.wait()

    async def _record(self, partition: int, batch: list[Handled]) -> None:
        try:
            await self._record_as_owner(partition, batch)
        except FencedError as error:
            log.warning("partition_fenced", partition=partition)
            self._waiting.pop(partition, None)
            timer = asyncio.get_running_loop().call_later(FENCED_S, self._shell.fail, error)
            self._fenced[partition] = timer

    async def _record_as_owner(self, partition: int, batch: list[Handled]) -> None:
        for handled in batch:
            for emitted in handled.emitted:
                await emitted
        items = coalesced(write for handled in batch for write in handled.writes)
        if items:
            # The fence is the brokers'. Redpanda, by its source, compares a late batch's number instead of its epoch,
            # and could let one through; a worker that was paused finds out here that it must ask first.
            await self._shell.lease.held()
            written = [
                await self._shell.outbox.append(
                    self._table.changelog_topic, key=key, value=value, headers=[], partition=partition
                )
                for key, value in items
            ]
            offsets = [await future for future in written]
            self._table.put(partition, items, offsets[-1])
        for handled in batch:
            if handled.session_id is not None:
                self._sessions.stored(partition, handled.session_id)
            handled.ticket.done()
