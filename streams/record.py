"""The recorder: the second and third step of the rule of durability, for the events that `decide` has handled.

Per partition, in order: wait until the effects of an event are acknowledged, write the session to the changelog, wait
for that, store it in the table, acknowledge the event. Events that wait together are recorded together: of a session
that changed several times only the last head is written.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from streams.acknowledge import Ticket
from streams.ports import Shell, Table
from streams.sessions import Sessions
from streams.store import Write, coalesced

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
    """One queue and one task per partition."""

    def __init__(self, shell: Shell, table: Table, sessions: Sessions) -> None:
        self._shell = shell
        self._table = table
        self._sessions = sessions
        self._waiting: defaultdict[int, list[Handled]] = defaultdict(list)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def submit(self, handled: Handled) -> None:
        """Record `handled` after all that came before it in its partition."""
        partition = handled.ticket.delivery.partition
        self._waiting[partition].append(handled)
        if partition not in self._tasks:
            self._tasks[partition] = asyncio.create_task(self._run(partition), name=f"record-{partition}")

    async def idle(self, timeout_s: float) -> bool:
        """Wait until all is recorded, `timeout_s` at most; whether it is."""
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        return not self._tasks

    async def stop(self) -> None:
        """Drop what is not recorded: it is not acknowledged either, so it is delivered again."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._waiting.clear()

    async def _run(self, partition: int) -> None:
        try:
            while batch := self._waiting[partition][:MAX_BATCH]:
                del self._waiting[partition][: len(batch)]
                await self._record(partition, batch)
        except Exception as error:  # noqa: BLE001  # Whatever it is, what follows must not be recorded.
            self._shell.fail(error)
        else:
            del self._tasks[partition]

    async def _record(self, partition: int, batch: list[Handled]) -> None:
        for handled in batch:
            for emitted in handled.emitted:
                await emitted
        items = coalesced(write for handled in batch for write in handled.writes)
        if items:
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
