"""The simulated model as a running server: inside a test, or as a process of its own."""

import asyncio
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from headrace.simulated_model.options import ModelOptions
from headrace.simulated_model.server import create_app

BACKLOG_CONNECTIONS = 8_192
"""More than the 5,000 calls that a worker may start at once."""

OPEN_FILES = 32_768

SHUTDOWN_S = 1.0
"""How long calls in flight may go on after SIGTERM."""


@asynccontextmanager
async def running_server(
    options: ModelOptions | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve while the context is open; yields the base URL for the SDK. Port 0 takes a free one.

    Raises OSError when the port is taken.
    """
    # A caller that goes away ends its handler, so stalled and paced calls do not outlive it.
    runner = web.AppRunner(create_app(options), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG_CONNECTIONS)
        await site.start()
        bound_host, bound_port = runner.addresses[0][:2]
        yield f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
    finally:
        await runner.cleanup()


def run(host: str = "127.0.0.1", port: int = 8081, options: ModelOptions | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the port is taken."""
    _raise_open_files_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(host, port, options))


async def _serve(host: str, port: int, options: ModelOptions | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running_server(options, host=host, port=port) as url:
        print(f"simulated model (no real model, no cost): {url}", flush=True)
        await stopped.wait()


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def _raise_open_files_limit() -> None:
    """Each call in flight is a connection: 5,000 of them need more than the usual soft limit of 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
