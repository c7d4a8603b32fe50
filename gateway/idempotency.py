"""Remembers for a day which command an id was used for; the pipeline itself answers each id once, durably."""

from hashlib import sha256

import structlog
from redis.asyncio import Redis

from gateway.problems import Code, Problem
from runtime.stores import REDIS_OUTAGES

REMEMBERED_S = 24 * 3600

log = structlog.get_logger(__name__)


async def remember(redis: Redis, prefix: str, session_id: str, command_id: str, fingerprint: bytes) -> bool:
    """Whether the id is new to Redis; False also where Redis is away, and nobody knows.

    Raises:
        Problem: `other_body`: it was used for a command with another fingerprint.
    """
    key = f"{prefix}command:{session_id}:{sha256(command_id.encode()).hexdigest()}"
    try:
        before = await redis.set(key, fingerprint, nx=True, get=True, ex=REMEMBERED_S)
    except REDIS_OUTAGES as error:
        log.warning("idempotency_unchecked", error=str(error))
        return False
    if before is not None and before != fingerprint:
        raise Problem(
            Code.OTHER_BODY,
            f"the id {command_id} was used in this session for another command: take a new one, or send the same again",
        )
    return before is None
