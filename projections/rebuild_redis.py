"""Makes a projection in Redis again: into a shadow of its keys, compared with the live ones, then swapped.

The shadow is made of exactly the records that the live keys were made of: it is read up to where the live projection
is, which then pauses for a moment, while the last records are read and the keys change places. What belongs to one
session does so at once, and whatever is swapped already when a rebuild is killed is whole: records that come again
change nothing in it. Keys made of records that the topics no longer have are kept.
"""

import asyncio
from collections.abc import Iterator
from time import monotonic, time

from aiokafka import TopicPartition
from msgspec import Struct
from msgspec.structs import replace

from projections.calls import Call, CallProjection, milliseconds
from projections.errors import StoreUnavailableError
from projections.key_layouts import LAYOUTS, SHIFT_MS
from projections.loop import Writer
from projections.projection import Row
from projections.record import Record
from projections.redis_calls import RedisCalls
from projections.reread import Reread, Spans, Tell, reread
from projections.shadow_keys import OUTCOMES, Lost, ShadowKeys, shadow_keys
from projections.source import MAX_RECORDS
from runtime.kafka import topic_name
from runtime.settings import Settings
from runtime.stores import redis_prefix, redis_url

CATCH_UP_ROUNDS = 10
"""The live projection is followed so often, until it is less than a batch ahead."""


class KeyDifference(Struct, frozen=True, kw_only=True):
    """How the rebuilt keys of a kind differ from the live ones; `kept` are made of records that no topic has."""

    kind: str
    same: int
    new: int
    changed: int
    gone: int
    kept: int


class RebuiltKeys(Struct, frozen=True, kw_only=True):
    """What a rebuild did; the live projection was paused for `paused_seconds` of it."""

    records: int
    skipped: int
    seconds: float
    paused_seconds: float
    kinds: tuple[KeyDifference, ...]


async def rebuild_keys(settings: Settings, projection: CallProjection, tell: Tell) -> RebuiltKeys:
    """Make the projection again and put it in the place of the old one.

    Raises:
        ProjectionError: Redis does not answer, or another rebuild runs.
    """
    started, url, prefix = monotonic(), redis_url(settings), redis_prefix(settings)
    async with (
        shadow_keys(url, projection.name, LAYOUTS[projection.name], prefix) as shadow,
        reread(settings, projection) as topics,
    ):
        store = RedisCalls(projection.name, url, shadow.prefix)
        writer = Writer(shadowed(projection), store, asyncio.Event())
        try:
            await store.progress()
            paused = await _Rebuild(settings, projection, topics, shadow).run(store, writer, tell)
        finally:
            await store.close()
    return RebuiltKeys(
        records=writer.records,
        skipped=writer.skipped,
        seconds=monotonic() - started,
        paused_seconds=paused,
        kinds=_differences(projection.name, shadow),
    )


def shadowed(projection: CallProjection) -> CallProjection:
    """The same projection, whose calls take the time from the records."""

    def rows(record: Record) -> Iterator[Row]:
        for row in projection.rows(record):
            assert isinstance(row, Call)
            yield replace(
                row,
                script=f"rebuild/shadow+{row.script}",
                arguments=(*row.arguments, SHIFT_MS, milliseconds(row.at)),
            )

    return CallProjection(name=projection.name, topics=projection.topics, rows=rows)


class _Rebuild:
    """One run; `spans` is what was read of each partition, or is read next."""

    def __init__(self, settings: Settings, projection: CallProjection, topics: Reread, shadow: ShadowKeys) -> None:
        self._settings = settings
        self._main_topic = topic_name(settings, projection.topics[0])
        self._topics = topics
        self._shadow = shadow
        self._spans: Spans = {}

    async def run(self, store: RedisCalls, writer: Writer, tell: Tell) -> float:
        """Gives how long the live projection was paused (s)."""
        self._spans = await self._up_to_live()
        await self._topics.read(self._spans, writer, tell)
        for _ in range(CATCH_UP_ROUNDS):
            more = await self._follow()
            await self._topics.read(self._spans, writer, tell)
            if more < MAX_RECORDS:
                break
        await self._shadow.sweep()
        await self._shadow.pause()
        paused = monotonic()
        await self._follow()
        await self._topics.read(self._spans, writer, tell)
        self._require_untorn()
        # A server that was restarted may have lost the shadow: this asks whether it is the same one.
        await store.write(())
        await self._shadow.swap(self._lost())
        await self._shadow.resume({self._place(one): span.end for one, span in self._spans.items()})
        return monotonic() - paused

    async def _up_to_live(self) -> Spans:
        """From the oldest records to where the live projection is; to the end where it never was."""
        spans = await self._topics.spans()
        progress = await self._shadow.live_progress()
        found = {one: max(progress.get(self._place(one), 0), span.live) or span.end for one, span in spans.items()}
        return {one: replace(span, end=max(span.begin, min(found[one], span.end))) for one, span in spans.items()}

    async def _follow(self) -> int:
        """Go on to where the live projection is by now; gives how many records that is."""
        progress = await self._shadow.live_progress()
        ends = await self._topics.ends()
        self._spans = {
            one: replace(span, begin=span.end, end=max(span.end, min(progress.get(self._place(one), 0), ends[one])))
            for one, span in self._spans.items()
        }
        return sum(span.end - span.begin for span in self._spans.values())

    def _place(self, partition: TopicPartition) -> tuple[str, int]:
        return partition.topic.removeprefix(self._settings.topic_prefix), partition.partition

    def _require_untorn(self) -> None:
        """What was made of records around a gap looks whole, and is not."""
        if any(one.topic == self._main_topic for one in self._topics.torn):
            raise StoreUnavailableError(
                f"{self._main_topic} lost records to its retention while it was read: nothing was changed, try again"
            )

    def _lost(self) -> Lost:
        begins = {one: begin for one, begin in self._topics.begins.items() if begin and one.topic == self._main_topic}
        if not begins:
            return Lost()
        # Of a partition without a record, all are lost.
        now = int(time() * 1000)
        return Lost(max(self._topics.oldest_ms.get(one, now) for one in begins), max(begins.values()))


def _differences(name: str, shadow: ShadowKeys) -> tuple[KeyDifference, ...]:
    return tuple(
        KeyDifference(kind=kind, **{outcome: shadow.counts[kind, outcome] for outcome in OUTCOMES})
        for kind in LAYOUTS[name].counted
    )
