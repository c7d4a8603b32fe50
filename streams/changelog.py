"""From the changelog into the table: what a worker does not know yet of the sessions that it is given, or follows."""

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


def seek_what_is_known(recovery: Recovery) -> None:
    """Let the recovery leave out partitions of which it does not know where to begin.

    A rebalance that begins while it is about to seek takes its offsets away; it begins anew then, by itself. But it
    sought None, which aiokafka refuses, and crashed.
    """
    seek = recovery._seek_offsets  # noqa: SLF001  # Faust has no other way to order it.

    async def seek_known(consumer: Any, tps: Collection[TP], offsets: Mapping[TP, int | None], title: str) -> None:
        await seek(consumer, {tp for tp in tps if offsets.get(tp) is not None}, offsets, title)

    recovery._seek_offsets = seek_known  # noqa: SLF001
