"""What `headrace doctor` finds behind the brokers: the stores, what writes them, and the gateway that reads them."""

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from headrace.check import Check
from headrace.connect import admin
from headrace.development.options import gateway_url
from headrace.errors import HeadraceError
from headrace.projection_status import projection_status
from headrace.stack.endpoints import FILE_NAME, read_endpoints
from projections.catalog import needed
from projections.errors import ProjectionError, StoreUnavailableError
from projections.migrations import require_migrated
from projections.projection import TableProjection
from runtime.kafka import projection_group
from runtime.settings import Settings

TIMEOUT_S = 5.0
FAR_BEHIND = 10_000
"""Records: what the projections of a busy pipeline catch up with in seconds."""


class _Component(Struct, frozen=True):
    name: str
    ready: bool
    latency_ms: float


class _Ready(Struct, frozen=True):
    """What the gateway says of itself, as far as it is shown."""

    ready: bool
    components: tuple[_Component, ...] = ()


async def diagnose_readers(settings: Settings) -> AsyncIterator[Check]:
    """Check Redis, PostgreSQL, the projections and the gateway."""
    yield await _check_redis(settings)
    yield await _check_postgres(settings)
    async for check in _check_projections(settings):
        yield check
    yield await _check_gateway(settings)


async def _check_redis(settings: Settings) -> Check:
    if settings.redis is None:
        return _not_set("redis", "HEADRACE_REDIS", "no feeds")
    began = time.perf_counter()
    client: Redis = Redis.from_url(
        settings.redis.get_secret_value(), socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S
    )
    try:
        info: dict[str, Any] = await client.info("server")
    except (RedisError, OSError) as error:
        to_do = "start it, or correct HEADRACE_REDIS; the pipeline goes on without"
        return Check(level="fail", what="redis", found=f"does not answer: {error}", to_do=to_do)
    finally:
        await client.aclose()
    version = info.get("valkey_version") or info.get("redis_version")
    return Check(level="ok", what="redis", found=f"version {version}, answers in {_ms_since(began):.0f} ms")


async def _check_postgres(settings: Settings) -> Check:
    if settings.postgres is None:
        return _not_set("postgres", "HEADRACE_POSTGRES", "no history")
    began = time.perf_counter()
    try:
        await require_migrated(settings.postgres.get_secret_value())
    except StoreUnavailableError as error:
        to_do = "start it, or correct HEADRACE_POSTGRES; the pipeline goes on without"
        return Check(level="fail", what="postgres", found=str(error), to_do=to_do)
    except ProjectionError as error:
        found, _, to_do = str(error).rpartition(": ")
        return Check(level="fail", what="postgres", found=found, to_do=to_do)
    return Check(level="ok", what="postgres", found=f"every migration is applied, answers in {_ms_since(began):.0f} ms")


async def _check_projections(settings: Settings) -> AsyncIterator[Check]:
    """Of those whose store is set: whether anybody writes them, and how far they are behind."""
    chosen = [
        name
        for name, projection in needed(settings).items()
        if (settings.postgres if isinstance(projection, TableProjection) else settings.redis) is not None
    ]
    if not chosen:
        return
    try:
        behind = dict.fromkeys(chosen, 0)
        for row in await projection_status(settings):
            if row.projection in behind:
                behind[row.projection] += row.lag
        idle = await _idle(settings, chosen)
    except HeadraceError as error:
        found, _, to_do = str(error).partition(": ")
        yield Check(level="fail", what="projections", found=found, to_do=to_do)
        return
    found = f"records behind: {', '.join(f'{name} {lag}' for name, lag in behind.items())}"
    if idle:
        to_do = "start `headrace project`; what is on the topics is written then"
        yield Check(level="warn", what="projections", found=f"nobody writes {', '.join(idle)}; {found}", to_do=to_do)
    elif max(behind.values()) > FAR_BEHIND:
        to_do = "look again in a minute; where it grows, start more of `headrace project`, up to the partitions"
        yield Check(level="warn", what="projections", found=found, to_do=to_do)
    else:
        yield Check(level="ok", what="projections", found=found)


async def _idle(settings: Settings, names: list[str]) -> list[str]:
    """Those of the projections that no process takes part in."""
    idle = []
    async with admin(settings) as client:
        for name in names:
            # One at a time: aiokafka misreads an answer about several groups.
            (response,) = await client.describe_consumer_groups([projection_group(settings, name)])
            if not any(described[5] for described in response.groups):
                idle.append(name)
    return idle


async def _check_gateway(settings: Settings) -> Check:
    url = gateway_url(settings.gateway)
    if (settings.data_dir / FILE_NAME).exists():
        url = read_endpoints(settings.data_dir).gateway or url
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(f"{url}/health/ready") as answer:
            body = await answer.read()
        state = msgspec.json.decode(body, type=_Ready)
    except (aiohttp.ClientError, TimeoutError):
        to_do = "start it with `headrace gateway` where people and services come over HTTP"
        return Check(level="warn", what="gateway", found=f"none answers at {url}", to_do=to_do)
    except msgspec.DecodeError:
        to_do = "another program has its port: set gateway.port"
        return Check(level="warn", what="gateway", found=f"{url} is none of Headrace's", to_do=to_do)
    if not state.ready:
        away = ", ".join(component.name for component in state.components if not component.ready)
        to_do = "start what is missing; the gateway goes on by itself"
        return Check(level="fail", what="gateway", found=f"{url} is not ready: {away or 'it stops'}", to_do=to_do)
    latencies = ", ".join(f"{component.name} {component.latency_ms:.0f} ms" for component in state.components)
    return Check(level="ok", what="gateway", found=f"{url}, from there {latencies}")


def _not_set(what: str, variable: str, without: str) -> Check:
    to_do = f"set {variable} for `headrace project` and the gateway, or use `headrace dev`"
    return Check(level="warn", what=what, found=f"none is set: {without}", to_do=to_do)


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1_000
