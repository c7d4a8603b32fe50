"""Retention that removes records at the worst moment."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from headrace.connect import admin
from projections.loop import Writer
from projections.record import Record
from projections.reread import Reread
from runtime.settings import Settings

ONE_BYTE = 1
"""A batch of it has one record."""
LEFT = 3
"""Records of each partition."""
MOMENTS = pytest.mark.parametrize(
    "moment", [Reread.read, Writer.write], ids=["before-the-first-is-read", "after-some-were-read"]
)


def remove_before(moment: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings, records: Sequence[Record]) -> None:
    """Before the first call of this method, most records of the topics go; `records` is all that they have.

    A rebuild reads one batch of a partition at a time then, and is one ahead: publish them in batches of `ONE_BYTE`.
    """
    monkeypatch.setattr("projections.reread.MAX_INTERNAL_BYTES", 1)
    ends = Counter(TopicPartition(settings.topic_prefix + one.topic, one.partition) for one in records)
    removed = {one: RecordsToDelete(max(end - LEFT, 0)) for one, end in ends.items()}

    async def after_removing(*arguments: Any) -> None:
        if removed:
            async with admin(settings) as client:
                await client.delete_records(removed)
            removed.clear()
        await moment(*arguments)

    where = {Reread.read: Reread, Writer.write: Writer}[moment]
    monkeypatch.setattr(where, moment.__name__, after_removing)
