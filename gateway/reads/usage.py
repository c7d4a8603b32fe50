"""What was consumed: per day, tenant, agent and model, or by one session."""

from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.problems import Code, Problem
from gateway.reading import answer, read_query, read_session_id
from gateway.reads.paging import NextCursor, PageQuery, PlainText, page, read_cursor, write_cursor
from gateway.route import Route
from gateway.scopes import Scope

DEFAULT_DAYS = 30
MAX_DAYS = 400
FIRST = (date.min, "", "", "")


class UsageQuery(PageQuery, frozen=True, kw_only=True):
    """Which days."""

    from_: Annotated[
        date | None, msgspec.Meta(description="The first day (UTC); 30 days before the last where it is left out.")
    ] = msgspec.field(name="from", default=None)
    to: Annotated[date | None, msgspec.Meta(description="The last day; today where it is left out.")] = None


class Consumed(Struct, frozen=True, kw_only=True):
    """Calls of a model, and what they took; a call that was made twice was paid for twice, and counts twice."""

    calls: int
    failed_calls: int
    input_tokens: Annotated[int, msgspec.Meta(description="At the full price: not from the cache.")]
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_micros: Annotated[int, msgspec.Meta(description="In micro-dollars (0.000001 USD).")]


class DayUsage(Consumed, frozen=True, kw_only=True):
    """Of one day, tenant, agent and model; tenant and agent are none where they are not known."""

    day: date
    tenant: str | None
    agent: str | None
    model: str


class Usages(Struct, frozen=True, kw_only=True):
    """What was consumed, oldest day first."""

    items: tuple[DayUsage, ...]
    next_cursor: NextCursor


class AgentUsage(Consumed, frozen=True, kw_only=True):
    """Of one agent and model."""

    agent: str | None
    model: str


class SessionUsage(Struct, frozen=True, kw_only=True):
    """What a session consumed, by agent and model."""

    items: tuple[AgentUsage, ...]
    cost_micros: Annotated[int, msgspec.Meta(description="All of it, in micro-dollars (0.000001 USD).")]


async def get_usage(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """What was consumed each day; a tenant's key sees its own."""
    query = read_query(request, UsageQuery)
    begin, end = _days(query)
    place = tuple[date, PlainText, PlainText, PlainText]
    after = read_cursor(query.cursor, place, FIRST)
    rows = await parts.database.fetch("usage", begin, end, caller.tenant, *after, query.limit + 1)
    shown, last = page(rows, query.limit)
    return answer(
        Usages(
            items=tuple(
                DayUsage(**_consumed(row), day=row["day"], tenant=row["tenant"], agent=row["agent"], model=row["model"])
                for row in shown
            ),
            next_cursor=None
            if last is None
            else write_cursor(last["day"], last["tenant"] or "", last["agent"] or "", last["model"]),
        )
    )


async def get_session_usage(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """What the session consumed."""
    session_id = read_session_id(request, caller)
    rows = await parts.database.fetch("session_usage", session_id)
    items = tuple(AgentUsage(**_consumed(row), agent=row["agent"], model=row["model"]) for row in rows)
    return answer(SessionUsage(items=items, cost_micros=sum(item.cost_micros for item in items)))


def _days(query: UsageQuery) -> tuple[datetime, datetime]:
    """When the first day begins and the last one ends; raises `Problem(not_valid)`."""
    last = query.to or datetime.now(UTC).date()
    try:
        end = _midnight(last) + timedelta(days=1)
        begin = end - timedelta(days=DEFAULT_DAYS) if query.from_ is None else _midnight(query.from_)
    except OverflowError:
        raise _not_days("expected days in the years 1 to 9999") from None
    if not timedelta(0) < end - begin <= timedelta(days=MAX_DAYS):
        raise _not_days(f"expected `from` not after `to`, and at most {MAX_DAYS} days, got {begin:%Y-%m-%d} to {last}")
    return begin, end


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time_of_day(), UTC)


def _not_days(error: str) -> Problem:
    return Problem(Code.NOT_VALID, f"the query is not as it must be: {error}", errors=[error])


def _consumed(row: Any) -> dict[str, int]:
    return {name: row[name] for name in Consumed.__struct_fields__}


ROUTES = (
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/usage",
        handler=get_session_usage,
        summary="What a session consumed, by agent and model",
        tag="sessions",
        scope=Scope.SESSIONS_READ,
        answers={200: SessionUsage},
    ),
    Route(
        method="GET",
        path="/v1/usage",
        handler=get_usage,
        summary="Tokens and cost per day, tenant, agent and model",
        tag="usage",
        scope=Scope.STATS_READ,
        query=UsageQuery,
        answers={200: Usages},
    ),
)
