"""The process `headrace gateway`: its parts, its listening socket, and its end."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from aiohttp import web
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from agents.directory import Directory
from gateway.agents import follow_agents
from gateway.app import make_app
from gateway.brokers import Brokers
from gateway.database import Database
from gateway.feeds import Feeds
from gateway.keys import Keys
from gateway.metrics import Metrics
from gateway.open_streams import OpenStreams
from gateway.parts import Parts
from gateway.problems import Problem
from gateway.protocol import Runner
from gateway.publisher import Publisher
from gateway.rate_limit import RateLimits
from gateway.routes import ROUTES
from runtime.agent_files import read_catalog
from runtime.ending import end_process_within
from runtime.settings import Settings
from runtime.stores import postgres_url, redis_prefix, redis_url

KEY_USES_S = 60.0
REDIS_TIMEOUT_S = 2.0
"""Somebody waits, and most answers do not need Redis."""
REDIS_CONNECTIONS = 64
BACKLOG = 1_024
"""Connections that wait to be taken: readers come back all at once when another gateway ends."""

STOP_REST_S = 15.0
"""For what comes after its drain timeout: a gateway sends what waits, and closes its connections."""

log = structlog.get_logger(__name__)


async def run_gateway(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; then this process ends in time, come what may.

    Raises `SettingsError`, or OSError where the address is taken.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stopping.set)
    async with opened(settings) as parts, serving(parts):
        ready = settings.data_dir / "gateway.ready"
        ready.parent.mkdir(parents=True, exist_ok=True)
        ready.write_text(str(os.getpid()))
        try:
            await stopping.wait()
        finally:
            end_process_within(settings.gateway.drain_timeout_s + STOP_REST_S)
            ready.unlink(missing_ok=True)
            log.info("gateway_stopping", streams=parts.streams.count)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Parts]:
    """The parts, started; what they connect to may be away. Raises `SetStoreError` where a store is not set."""
    metrics = Metrics()
    database = Database(postgres_url(settings))
    # It does not try again by itself: whoever asks has something better to do than to wait.
    redis = Redis.from_url(
        redis_url(settings),
        socket_connect_timeout=REDIS_TIMEOUT_S,
        socket_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        max_connections=REDIS_CONNECTIONS,
    )
    prefix = redis_prefix(settings)
    publisher = Publisher(settings, metrics)
    brokers = Brokers(settings)
    keys = Keys(database)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        await database.start()
        stack.push_async_callback(database.close)
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        stack.push_async_callback(brokers.stop)
        feeds = await stack.enter_async_context(Feeds(redis, prefix, database))
        catalog, directory = read_catalog(settings), Directory()
        follower = follow_agents(settings, catalog, directory)
        stack.push_async_callback(follower.stop)
        following = asyncio.create_task(follower.run(), name="agents")
        stack.callback(following.cancel)
        using = asyncio.create_task(_write_key_uses(keys), name="key uses")
        stack.callback(using.cancel)
        yield Parts(
            settings=settings,
            catalog=catalog,
            directory=directory,
            database=database,
            redis=redis,
            redis_prefix=prefix,
            publisher=publisher,
            brokers=brokers,
            feeds=feeds,
            keys=keys,
            rate_limits=RateLimits(redis, prefix),
            streams=OpenStreams(settings.gateway.streams, metrics),
            metrics=metrics,
        )


@asynccontextmanager
async def serving(parts: Parts) -> AsyncIterator[str]:
    """Listens, and gives the URL. At the end it takes nothing new, ends streams, and lets requests end."""
    gateway = parts.settings.gateway
    app = make_app(parts, ROUTES)

    async def end_streams(_app: web.Application) -> None:
        parts.streams.closing.set()

    app.on_shutdown.append(end_streams)
    runner = Runner(app, gateway.drain_timeout_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, gateway.host, gateway.port, backlog=BACKLOG).start()
        host, port = runner.addresses[0][:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("gateway_ready", url=url)
        if gateway.open:
            log.warning("gateway_open", hint="anyone on this machine may do everything without a key", host=host)
        yield url
    finally:
        await runner.cleanup()


async def _write_key_uses(keys: Keys) -> None:
    while True:
        await asyncio.sleep(KEY_USES_S)
        try:
            await keys.write_uses()
        except Problem as problem:
            log.warning("key_uses_not_written", error=problem.detail)
