"""The keys of a projection that is made again in Redis: in a shadow first, then in the place of the live ones.

The live projection is paused while keys change places, and every change asks whether it still is: a rebuild that was
held up for longer than its pause changes nothing any more.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from msgspec import Struct
from redis import exceptions
from redis.asyncio import Redis

from projections.errors import RebuildRunsError, StoreUnavailableError
from projections.key_layouts import SHIFT_MS, Kind, Layout
from projections.live import MAX_ENTRIES
from projections.loop import Progress as Places
from projections.redis_calls import CONNECT_TIMEOUT_S, TIMEOUT_S, script
from runtime.stores import REDIS_OUTAGES

WORK_MS = 10_000
"""Who does not say for so long that it is at work was killed."""
CLAIM_PATIENCE_S = 12.0
CLAIM_POLL_S = 0.5
PAUSE_MS = 10_000
"""From the last change of a key: the live projection goes on so long after a rebuild was killed in the middle."""
SCAN_COUNT = 1_000
BATCH = 200

OUTCOMES = ("same", "new", "changed", "gone", "kept")

log = structlog.get_logger()

Pair = tuple[Kind, str]
"""A kind, and the rest of the name of a key."""


class Lost(Struct, frozen=True):
    """What topics no longer have: records up to `oldest_ms` (0: none), offsets below `first_offset`."""

    oldest_ms: int = 0
    first_offset: int = 0


class ShadowKeys:
    """The shadow of one projection; `prefix` is what the live keys begin with."""

    def __init__(self, redis: Any, name: str, layout: Layout, prefix: str) -> None:
        self.token = secrets.token_hex(8)
        self.prefix = f"{prefix}rebuild:{name}:{self.token}:"
        self.counts: Counter[tuple[str, str]] = Counter()
        """By kind of key and outcome."""
        self._redis = redis
        self._layout = layout
        self._live_prefix = prefix
        self._all_prefix = f"{prefix}rebuild:{name}:"
        self._work_key = f"{prefix}rebuilding:{name}"
        self._pause_key = f"{prefix}pause:{name}"
        self._progress_key = f"{prefix}progress:{name}"

    async def claim(self) -> None:
        """Be the one rebuild at work, and remove what a killed one left; raises `TimeoutError` where another one is."""
        async with asyncio.timeout(CLAIM_PATIENCE_S):
            while not await self._redis.set(self._work_key, self.token, nx=True, px=WORK_MS):  # noqa: ASYNC110  # It is in Redis.
                await asyncio.sleep(CLAIM_POLL_S)
        # In this order: one that was only held up must find its pause ended before its shadow is gone.
        await self._redis.delete(self._pause_key)
        await self._remove(self._all_prefix)

    async def stay(self) -> None:
        """Say that we are at work, until cancelled."""
        while True:
            await asyncio.sleep(WORK_MS / 1000 / 4)
            try:
                await self._eval("extend", (self._work_key,), (self.token, WORK_MS))
            except REDIS_OUTAGES as error:
                log.warning("store_unavailable", error=str(error))

    async def live_progress(self) -> Places:
        """How far the live projection is."""
        found: dict[bytes, bytes] = await self._redis.hgetall(self._progress_key)
        places = {tuple(place.decode().rsplit("/", 1)): int(offset) for place, offset in found.items()}
        return {(topic, int(partition)): offset for (topic, partition), offset in places.items()}

    async def sweep(self) -> None:
        """Remove what has expired already."""
        async for keys in self._scan(self.prefix):
            names = [self.prefix + key for key in keys]
            await self._eval("sweep", names, (SHIFT_MS,))

    async def pause(self) -> None:
        """Let the live projection write nothing from now on; raises `RebuildRunsError` where we are not at work."""
        if not await self._eval("pause", (self._work_key, self._pause_key), (self.token, PAUSE_MS)):
            raise RebuildRunsError("this rebuild was held up, and took too long to say that it goes on: try again")

    async def swap(self, lost: Lost) -> None:
        """Put the shadow in the place of the live keys, in a pause."""
        async for keys in self._scan(self._live_prefix):
            await self._swap("gone", lost, await self._without_shadow(keys))
        for name in self._layout.members:
            await self._swap_members("gone", lost, name, self._live_prefix)
        together = [pair async for keys in self._scan(self.prefix) for pair in _pairs(keys, self._layout.together)]
        if together:
            await self._swap("put", lost, [together])
        async for keys in self._scan(self.prefix):
            groups = [
                [(kind, rest) for kind in group] for group in self._layout.groups for _, rest in _pairs(keys, group[:1])
            ]
            await self._swap("put", lost, groups)
        for name in self._layout.members:
            await self._swap_members("put", lost, name, self.prefix)

    async def resume(self, places: Places) -> None:
        """Let the live projection go on; one that starts later begins at these offsets."""
        offsets = [part for (topic, number), offset in places.items() for part in (f"{topic}/{number}", offset)]
        await self._eval("resume", (self._pause_key, self._progress_key), (self.token, *offsets))

    async def leave(self) -> None:
        """Remove the shadow, and let others do as we did."""
        with suppress(*REDIS_OUTAGES):
            await self._eval("resume", (self._pause_key, self._progress_key), (self.token,))
            await self._remove(self.prefix)
            await self._eval("leave", (self._work_key,), (self.token,))

    async def _remove(self, prefix: str) -> None:
        async for keys in self._scan(prefix):
            await self._redis.unlink(*[prefix + key for key in keys])

    async def _scan(self, prefix: str) -> AsyncIterator[list[str]]:
        """Names without the prefix, some at a time; a name may come twice. The prefix has no character of a pattern."""
        cursor = 0
        while True:
            cursor, found = await self._redis.scan(cursor, match=f"{prefix}*", count=SCAN_COUNT)
            if found:
                yield [key.decode("utf-8", "surrogateescape").removeprefix(prefix) for key in found]
            if not cursor:
                return

    async def _without_shadow(self, keys: Sequence[str]) -> list[list[Pair]]:
        pairs = _pairs(keys, self._layout.kinds)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for kind, rest in pairs:
                pipeline.exists(f"{self.prefix}{kind.prefix}{rest}")
            there = await pipeline.execute()
        return [[pair] for pair, is_there in zip(pairs, there, strict=True) if not is_there]

    async def _swap(self, how: str, lost: Lost, groups: Sequence[Sequence[Pair]]) -> None:
        text, digest = script("rebuild/swap")
        for begin in range(0, len(groups), BATCH):
            some = groups[begin : begin + BATCH]
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.script_load(text)
                for group in some:
                    keys, arguments = [self._pause_key], [self.token, PAUSE_MS, SHIFT_MS, how, *_facts(lost)]
                    for kind, rest in group:
                        keys += [f"{self._live_prefix}{kind.prefix}{rest}", f"{self.prefix}{kind.prefix}{rest}"]
                        arguments += [kind.lifetime_ms, kind.rule]
                    pipeline.evalsha(digest, len(keys), *keys, *arguments)
                _, *found = await pipeline.execute()
            for group, outcomes in zip(some, found, strict=True):
                for (kind, _), outcome in zip(group, outcomes, strict=True):
                    if outcome:
                        self.counts[kind.counted, outcome.decode()] += 1

    async def _swap_members(self, how: str, lost: Lost, name: str, scanned: str) -> None:
        keys = (self._pause_key, self._live_prefix + name, self.prefix + name)
        cursor = 0
        while True:
            cursor, found = await self._redis.zscan(scanned + name, cursor, count=SCAN_COUNT)
            members = [member for member, _ in found]
            counts = await self._eval("members", keys, (self.token, PAUSE_MS, how, lost.oldest_ms, *members))
            for outcome, count in zip(OUTCOMES, counts, strict=True):
                self.counts[name, outcome] += count
            if not cursor:
                return

    async def _eval(self, name: str, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        text, digest = script(f"rebuild/{name}")
        try:
            return await self._redis.evalsha(digest, len(keys), *keys, *arguments)
        except exceptions.NoScriptError:
            return await self._redis.eval(text, len(keys), *keys, *arguments)


def _pairs(keys: Iterable[str], kinds: Iterable[Kind]) -> list[Pair]:
    return [(kind, key.removeprefix(kind.prefix)) for kind in kinds for key in keys if key.startswith(kind.prefix)]


def _facts(lost: Lost) -> tuple[int, int, int]:
    return lost.oldest_ms, lost.first_offset, MAX_ENTRIES


@asynccontextmanager
async def shadow_keys(url: str, name: str, layout: Layout, prefix: str) -> AsyncIterator[ShadowKeys]:
    """An empty shadow, which is gone at the end; its keys are written with `prefix`.

    Raises:
        RebuildRunsError: another rebuild of the projection is at work.
        StoreUnavailableError: Redis does not answer, or stopped doing so.
    """
    redis: Any = Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        encoding_errors="surrogateescape",
    )
    shadow = ShadowKeys(redis, name, layout, prefix)
    try:
        try:
            await shadow.claim()
        except TimeoutError:
            raise RebuildRunsError(f"another rebuild of {name} runs: wait until it has ended") from None
        staying = asyncio.create_task(shadow.stay())
        try:
            yield shadow
        finally:
            staying.cancel()
            await shadow.leave()
    except exceptions.RedisError as error:
        raise StoreUnavailableError(f"Redis: {error}") from error
    finally:
        await redis.aclose()
