"""Whether this gateway lives, and whether requests should be sent to it: what it needs, with latency."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.problems import Problem
from gateway.reading import answer
from gateway.route import Route
from runtime.stores import REDIS_OUTAGES

CHECK_TIMEOUT_S = 2.0
"""Kubernetes gives a probe 1 s by default, load balancers 2 to 5 s."""


class Live(Struct, frozen=True, kw_only=True):
    """The process answers."""

    live: bool = True


class Component(Struct, frozen=True, kw_only=True):
    """A part of Headrace that the gateway needs."""

    name: Annotated[str, msgspec.Meta(description="`brokers`, `postgres` or `redis`.")]
    ready: Annotated[bool, msgspec.Meta(description="Whether it answered.")]
    latency_ms: Annotated[float, msgspec.Meta(description="How long it took to answer, or to find that it does not.")]


class Ready(Struct, frozen=True, kw_only=True):
    """Whether requests should be sent here."""

    ready: Annotated[bool, msgspec.Meta(description="Whether all components answer, and the gateway does not stop.")]
    stopping: Annotated[bool, msgspec.Meta(description="Whether the gateway was told to stop.")]
    components: Annotated[tuple[Component, ...], msgspec.Meta(description="What it needs, each with its state.")]


async def get_live(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    del request, parts, caller
    return answer(Live())


async def get_ready(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    del request, caller
    components = await asyncio.gather(
        _component("brokers", parts.publisher.check),
        _component("postgres", lambda: parts.database.fetchrow("check")),
        _component("redis", parts.redis.ping),
    )
    stopping = parts.streams.closing.is_set()
    ready = not stopping and all(component.ready for component in components)
    return answer(Ready(ready=ready, stopping=stopping, components=components), 200 if ready else 503)


async def get_metrics(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    del request, caller
    return web.Response(body=parts.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _component(name: str, check: Callable[[], Awaitable[object]]) -> Component:
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check()
        ready = True
    except (Problem, TimeoutError, *REDIS_OUTAGES):
        ready = False
    return Component(name=name, ready=ready, latency_ms=round((time.perf_counter() - begin) * 1_000, 1))


ROUTES = (
    Route(
        method="GET",
        path="/health/live",
        handler=get_live,
        summary="Whether the gateway answers",
        tag="gateway",
        needs_key=False,
        answers={200: Live},
    ),
    Route(
        method="GET",
        path="/health/ready",
        handler=get_ready,
        summary="Whether requests should be sent here",
        tag="gateway",
        needs_key=False,
        answers={200: Ready, 503: Ready},
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=get_metrics,
        summary="Metrics for Prometheus",
        tag="gateway",
        needs_key=False,
        answers={200: None},
        media_type="text/plain",
    ),
)
