"""The pipeline as it runs now, for whoever operates it."""

import asyncio
from datetime import UTC, datetime, timedelta

from aiohttp import web

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.reading import answer
from gateway.reads.flow import Flow, flow
from gateway.reads.store import redis_errors
from gateway.route import Route
from gateway.scopes import Scope

ACTIVE = timedelta(minutes=5)
LAST_HOUR = timedelta(hours=1)


async def get_pipeline(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """Topics, rates, lag, calls in flight; a second old at most."""
    del request
    caller.require_operator()
    now = datetime.now(UTC)
    (earlier, latest), letters, active = await asyncio.gather(
        parts.brokers.samples(),
        parts.database.fetchrow("dead_letters_since", now - LAST_HOUR),
        _active_sessions(parts, now),
    )
    assert letters is not None
    return answer(
        flow(earlier, latest, now, dead_letters_last_hour=letters["letters"], active_sessions=active),
        headers={"Cache-Control": "no-store"},
    )


async def _active_sessions(parts: Parts, now: datetime) -> int:
    since = int((now - ACTIVE).timestamp() * 1000)
    with redis_errors():
        return int(await parts.redis.zcount(f"{parts.redis_prefix}sessions", since, "+inf"))


ROUTES = (
    Route(
        method="GET",
        path="/v1/pipeline",
        handler=get_pipeline,
        summary="The pipeline as it runs",
        tag="pipeline",
        scope=Scope.STATS_READ,
        answers={200: Flow},
    ),
)
