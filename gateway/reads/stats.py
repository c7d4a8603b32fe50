"""What agents and tools did: in total, and in each of the last minutes."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.reading import answer, read_query
from gateway.reads.store import redis_errors
from gateway.reads.times import At
from gateway.route import Route
from gateway.scopes import Scope

MAX_MINUTES = 240
DEFAULT_MINUTES = 60


class StatsQuery(Struct, frozen=True, kw_only=True):
    """How far back."""

    minutes: Annotated[int, msgspec.Meta(ge=1, le=MAX_MINUTES, description="How many minutes, this one included.")] = (
        DEFAULT_MINUTES
    )


class AgentCounts(Struct, frozen=True, kw_only=True):
    """What an agent did."""

    agent: str
    turns_started: int = 0
    turns_completed: int = 0
    turns_failed: int = 0
    turns_cancelled: int = 0
    tool_calls: int = 0
    approvals_requested: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0


class ToolCounts(Struct, frozen=True, kw_only=True):
    """What a tool did."""

    tool: str
    calls: int = 0
    results: int = 0
    errors: int = 0


class Counts(Struct, frozen=True, kw_only=True):
    """What all agents and tools did."""

    agents: tuple[AgentCounts, ...]
    tools: tuple[ToolCounts, ...]


class MinuteCounts(Counts, frozen=True, kw_only=True):
    """In one minute."""

    at: Annotated[datetime, msgspec.Meta(description="When the minute began, in UTC.")]


class Stats(Struct, frozen=True, kw_only=True):
    """What was counted."""

    at: At
    total: Annotated[Counts, msgspec.Meta(description="Since Redis was empty.")]
    minutes: Annotated[tuple[MinuteCounts, ...], msgspec.Meta(description="Oldest first.")]


async def get_stats(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """Counters of all tenants together."""
    caller.require_operator()
    query = read_query(request, StatsQuery)
    now = datetime.now(UTC)
    this = now.replace(second=0, microsecond=0)
    minutes = [this - timedelta(minutes=back) for back in reversed(range(query.minutes))]
    with redis_errors():
        async with parts.redis.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(f"{parts.redis_prefix}statistics:total")
            for minute in minutes:
                pipeline.hgetall(f"{parts.redis_prefix}statistics:minute:{minute:%Y-%m-%dT%H:%M}")
            total, *counted = await pipeline.execute()
    return answer(
        Stats(
            at=now,
            total=Counts(**counts(total)),
            minutes=tuple(
                MinuteCounts(at=minute, **counts(found)) for minute, found in zip(minutes, counted, strict=True)
            ),
        )
    )


def counts(counters: Mapping[bytes, bytes]) -> dict[str, Any]:
    """By agent and by tool, of a hash of counters: `agent/{agent}/{counter}` and `tool/{tool}/{counter}`.

    A model can make up a tool's name with anything in it, so the counter is what is behind the last `/`.
    """
    found: dict[str, dict[str, dict[str, int]]] = {"agent": {}, "tool": {}}
    for name, value in counters.items():
        kind, _, rest = name.decode().partition("/")
        who, _, counter = rest.rpartition("/")
        found[kind].setdefault(who, {})[counter] = int(value)
    return {
        "agents": tuple(
            msgspec.convert({"agent": agent, **found["agent"][agent]}, AgentCounts) for agent in sorted(found["agent"])
        ),
        "tools": tuple(
            msgspec.convert({"tool": tool, **found["tool"][tool]}, ToolCounts) for tool in sorted(found["tool"])
        ),
    }


ROUTES = (
    Route(
        method="GET",
        path="/v1/stats",
        handler=get_stats,
        summary="What agents and tools did, in total and by the minute",
        tag="pipeline",
        scope=Scope.STATS_READ,
        query=StatsQuery,
        answers={200: Stats},
    ),
)
