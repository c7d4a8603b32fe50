"""Makes the calls of a projection in Redis, or Valkey."""

import asyncio
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from projections.calls import Call
from projections.errors import RowsRefusedError, StoreRestartedError, StoreUnavailableError
from projections.loop import Progress
from projections.projection import Row
from runtime.stores import REDIS_OUTAGES

FOLDER = Path(__file__).parent / "lua"
CONNECT_TIMEOUT_S = 5.0
TIMEOUT_S = 30.0
RESTARTED = "Redis was restarted, has lost its data, or another one took its place"
PAUSE_POLL_S = 0.05
PAUSE_PATIENCE_S = 5.0
"""A pause takes up to a second for a thousand sessions; whoever stops us is heard after so long."""


@cache
def script(name: str) -> tuple[str, str]:
    """The text of `lua/<name>.lua`, and the digest that Redis knows it by; `a+b` is one file after the other."""
    text = "".join([(FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in name.split("+")])
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisCalls:
    """A connection to Redis for one projection; `prefix` is what its keys begin with.

    The hash `progress:{name}` says how far it is, so that a Redis that lost some or all of its data is filled again.
    Calls and progress change together. The key `life:{name}` goes with the data, also where the server goes on, as it
    does after FLUSHALL. Nothing is written while the key `pause:{name}` exists: a rebuild then puts other keys in the
    place of ours.
    """

    def __init__(self, name: str, url: str, prefix: str) -> None:
        self._prefix = prefix
        self._progress_key = f"{prefix}progress:{name}"
        self._pause_key = f"{prefix}pause:{name}"
        self._life_key = f"{prefix}life:{name}"
        self._known: tuple[str, bytes] | None = None
        """Which server it is, and which life of its data."""
        self._loaded: set[str] = set()
        # Without retries of its own, which would write to another Redis than the one that was asked for its progress.
        self._redis: Any = Redis.from_url(
            url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )

    async def write(self, rows: Sequence[Row]) -> None:
        """Make the calls in their order; those that were made before change nothing.

        Raises:
            StoreUnavailableError: try again later.
            StoreRestartedError: go on from `progress`; nothing was written.
            RowsRefusedError: at least one of them fails each time.
        """
        calls = [row for row in rows if isinstance(row, Call)]
        try:
            if self._known is not None and self._known != await self._found():
                raise StoreRestartedError(RESTARTED)
            if not calls:
                return
            # Before the first call: one that fails because its script is not there still counts as progress.
            await self._load({call.script for call in calls} - self._loaded)
            results = await self._make(calls)
            if any(isinstance(result, exceptions.NoScriptError) for result in results):
                await self._load({call.script for call in calls})
                results = await self._make(calls)
        except REDIS_OUTAGES as error:
            raise StoreUnavailableError(f"Redis: {error}") from error
        for result in results:
            if isinstance(result, REDIS_OUTAGES):
                raise StoreUnavailableError(f"Redis: {result}") from result
            if isinstance(result, Exception):
                raise RowsRefusedError(f"Redis: {result}") from result

    async def progress(self) -> Progress:
        """How far this Redis is: it is asked, because one that was restarted may have lost what it was told last."""
        try:
            # Before the progress: where all is lost in between, the next write finds it.
            life = await self._life()
            run_id, _ = await self._found()
            found: dict[bytes, bytes] = await self._redis.hgetall(self._progress_key)
        except REDIS_OUTAGES as error:
            raise StoreUnavailableError(f"Redis: {error}") from error
        self._known = (run_id, life)
        self._loaded.clear()
        places = {tuple(place.decode().rsplit("/", 1)): int(offset) for place, offset in found.items()}
        return {(topic, int(partition)): offset for (topic, partition), offset in places.items()}

    async def _found(self) -> tuple[str, bytes | None]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            info, life = await pipeline.info("server").get(self._life_key).execute()
        return str(info["run_id"]), life

    async def _life(self) -> bytes:
        """Of the data that are there; they begin one where they have none."""
        new = secrets.token_hex(8).encode()
        before: bytes | None = await self._redis.set(self._life_key, new, nx=True, get=True)
        return before or new

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    async def _make(self, calls: Sequence[Call]) -> list[Any]:
        for _ in range(int(PAUSE_PATIENCE_S / PAUSE_POLL_S)):
            with suppress(exceptions.WatchError):
                results = await self._make_unpaused(calls)
                if results is not None:
                    return results
            await asyncio.sleep(PAUSE_POLL_S)
        raise StoreUnavailableError("a rebuild puts its keys in the place of ours: wait until it has ended")

    async def _make_unpaused(self, calls: Sequence[Call]) -> list[Any] | None:
        """None in a pause. Raises `WatchError`, and has written nothing, where one began meanwhile.

        And `StoreRestartedError`, where the data were lost after `write` has looked.
        """
        async with self._redis.pipeline(transaction=True) as pipeline:
            await pipeline.watch(self._pause_key, self._life_key)
            pause, life = await pipeline.mget(self._pause_key, self._life_key)
            if pause is not None:
                return None
            if self._known is not None and self._known[1] != life:
                raise StoreRestartedError(RESTARTED)
            pipeline.multi()
            for call in calls:
                keys = [self._prefix + key for key in call.keys]
                pipeline.evalsha(script(call.script)[1], len(keys), *keys, *call.arguments)
            done = {f"{call.topic}/{call.partition}": call.offset + 1 for call in calls}
            pipeline.hset(self._progress_key, mapping=done)
            return list(await pipeline.execute(raise_on_error=False))

    async def _load(self, names: Collection[str]) -> None:
        for name in sorted(names):
            await self._redis.script_load(script(name)[0])
            self._loaded.add(name)
