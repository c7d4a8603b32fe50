"""expire: sessions to which nothing happened for their retention time leave the tables, by an event of their log."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

from schemas.codec import cloud_event_headers
from schemas.log import SessionExpired
from schemas.topics import SESSION_LOG
from streams.ports import Shell, Table
from streams.store import decode_head

HEADS_PER_SLICE = 100
"""Heads looked at before other work gets its turn: under a millisecond."""


async def expire_idle(shell: Shell, table: Table, partitions: Iterable[int], retention: timedelta) -> int:
    """Order the expiry of idle sessions of `partitions`; how many. The reducer decides, with what happened since."""
    now = shell.clock()
    idle_since = now - retention
    ordered = 0
    for partition in partitions:
        for seen, value in enumerate(table.heads(partition)):
            if seen % HEADS_PER_SLICE == 0:
                await asyncio.sleep(0)
            head = decode_head(value)
            if head.is_busy or head.updated_at > idle_since:
                continue
            event = SessionExpired(session_id=head.session_id, idle_since=idle_since, at=now)
            headers = cloud_event_headers(
                event,
                id=f"{head.session_id}@{head.log_offset}",
                source="/headrace/expire",
                at=now,
                subject=head.session_id,
            )
            await (await shell.append(SESSION_LOG, event, head.session_id, headers))
            ordered += 1
    return ordered
