"""Reads from Redis: an error of it is a problem that passes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from redis.exceptions import RedisError

from gateway.parts import Parts
from gateway.problems import unavailable

CHUNK = 200
MAX_SCANNED = 5_000
"""Of a user's conversations that are not the caller's: more than that are left for the next page."""

log = structlog.get_logger(__name__)
Place = tuple[int, str]
"""Of a session in a list: the time of its last activity in milliseconds, and its id."""


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns errors of Redis into `Problem(unavailable)`."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("redis_failed", error=str(error), kind=type(error).__name__)
        raise unavailable("Redis") from error


async def newest(
    parts: Parts, key: str, after: Place | None, count: int, is_wanted: Callable[[str], bool]
) -> tuple[list[Place], Place | None]:
    """The newest sessions of a list behind `after`, and the place to go on from where there may be more."""
    found: list[Place] = []
    top = "+inf" if after is None else str(after[0])
    for start in range(0, MAX_SCANNED, CHUNK):
        with redis_errors():
            chunk: Any = await parts.redis.zrevrangebyscore(
                parts.redis_prefix + key, top, "-inf", start=start, num=CHUNK, withscores=True
            )
        for member, score in chunk:
            place = (int(score), member.decode())
            # Sessions of the same millisecond come in falling order of their ids.
            if after is not None and place >= after:
                continue
            if len(found) == count:
                return found, found[-1]
            if is_wanted(place[1]):
                found.append(place)
        if len(chunk) < CHUNK:
            return found, None
    return found, place
