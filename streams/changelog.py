"""From the changelog into the table: what a worker does not know yet of the sessions that it is given, or follows."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any

from faust.tables.recovery import Recovery
from faust.types import TP

Restore = Callable[[int, Sequence[tuple[bytes, bytes | None]], int], None]


def read_changelog(recovery: Recovery, restore: Restore, tp: TP, batch: Sequence[Any]) -> None:
    """Records of a changelog go to the table at once; Faust's recovery hears how far it is.

    Its own way, an event and a queue for each record, reads a tenth as many in a second. A table that is recovered
    is written by this worker: what it wrote must not come back over what it wrote since.
    """
    if tp in recovery.active_tps and recovery.in_recovery:
        offsets, heard = recovery.active_offsets, recovery._active_events_received_at  # noqa: SLF001  # Its watch.
    elif tp in recovery.standby_tps:
        offsets, heard = recovery.standby_offsets, recovery._standby_events_received_at  # noqa: SLF001
    else:
        return
    known = offsets.get(tp)
    fresh = [record for record in batch if known is None or record.offset > known]
    if fresh:
        restore(tp.partition, [(record.key, record.value) for record in fresh], fresh[-1].offset)
        offsets[tp] = fresh[-1].offset
    heard[tp] = monotonic()
    if recovery.in_recovery and not recovery.need_recovery():
        recovery._set_recovery_ended()  # noqa: SLF001  # What its own loop does after the last record.
        recovery.signal_recovery_end.set()


class Recovered:
    """In place of Faust's event that a recovery has ended: it looks whether this one has.

    Faust's stays set until its own loop turns, up to five seconds later. A recovery that began within them was taken
    for ended, and the worker went on with tables whose changelogs it had not read.
    """

    def __init__(self, is_needed: Callable[[], bool]) -> None:
        self._is_needed = is_needed
        self._look = asyncio.Event()

    def set(self) -> None:
        self._look.set()

    def clear(self) -> None:
        """Nothing: what counts is how far the tables are."""

    async def wait(self) -> None:
        while self._is_needed():
            self._look.clear()
            await self._look.wait()


def mend_recovery(recovery: Recovery) -> None:
    """Make Faust's recovery wait for the changelogs, end with an error where it fails, and survive rebalances."""
    recovery._signal_recovery_end = Recovered(recovery.need_recovery)  # noqa: SLF001  # It has no other way to order it.
    seek, wait = recovery._seek_offsets, recovery._wait  # noqa: SLF001

    async def seek_known(consumer: Any, tps: Collection[TP], offsets: Mapping[TP, int | None], title: str) -> None:
        # A rebalance that begins meanwhile takes offsets away, and begins a recovery of its own.
        await seek(consumer, {tp for tp in tps if offsets.get(tp) is not None}, offsets, title)

    async def wait_for_error(waited_for: Any, **_: Any) -> None:
        # A time limit would look like a worker that stops, and end the recovery for good without an error. What is
        # waited for has time limits of its own.
        await wait(waited_for)

    recovery._seek_offsets, recovery._wait = seek_known, wait_for_error  # noqa: SLF001
