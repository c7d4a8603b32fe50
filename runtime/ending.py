"""How work that was told to stop does stop: soon, whatever it waits for."""

import asyncio
import faulthandler
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

AGAIN_S = 0.5
"""Between two cancellations: enough to clean up in, on a machine that has much to do."""
PATIENCE_S = 5.0
"""For connections to close: who does not answer by then is not waited for."""
SAY_WHY_S = 1.0

log = structlog.get_logger(__name__)


async def cancelled(*tasks: "asyncio.Task[Any]", within_s: float = PATIENCE_S) -> None:
    """Cancel tasks until they have ended; what they raised is dropped, and what does not end is left alone.

    Once is not enough. Before Python 3.12, `asyncio.wait_for`, with which redis-py sends, loses a cancellation that
    comes in the very moment in which its work is done: the task goes on as if nobody had wanted it to stop.
    """
    pending = {task for task in tasks if not task.done()}
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while pending and (left_s := until - loop.time()) > 0:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=min(AGAIN_S, left_s))
    for task in set(tasks) - pending:
        if not task.cancelled():
            # Reading it keeps asyncio from reporting it.
            task.exception()
    if pending:
        log.error("tasks_not_ended", tasks=_names(pending), after_s=within_s)


async def ended(work: Coroutine[Any, Any, object], what: str, within_s: float = PATIENCE_S) -> bool:
    """Whether the work has ended in time; it is given up otherwise. What it raises is raised."""
    task = asyncio.create_task(work, name=what)
    try:
        await asyncio.wait({task}, timeout=within_s)
        if not task.done():
            log.warning("not_ended_in_time", what=what, after_s=within_s)
            return False
        task.result()
        return True
    finally:
        await cancelled(task)


async def heeding(work: Coroutine[Any, Any, object], stopping: asyncio.Event, patience_s: float) -> bool:
    """Work until it is done, or `stopping` has been set for so long; whether it is done. What it raises is raised."""
    task = asyncio.create_task(work)
    asked = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=patience_s)
        if task.done():
            task.result()
        return task.done()
    finally:
        await cancelled(task, asked)


def end_process_within(seconds: float) -> None:
    """End this process with status 1 after so long, come what may; call it in the loop that was told to stop.

    The last resort, where a library, a tool or a thread does not let go: what still runs is logged before, and where
    each thread stands is printed. It needs neither the loop nor the interpreter's lock.
    """
    loop = asyncio.get_running_loop()
    loop.call_later(max(seconds - SAY_WHY_S, 0), _say_what_runs, loop)
    faulthandler.dump_traceback_later(seconds, exit=True)


def _say_what_runs(loop: asyncio.AbstractEventLoop) -> None:
    log.error("stop_takes_too_long", tasks=_names(asyncio.all_tasks(loop)), hint="the process is about to be ended")


def _names(tasks: "Iterable[asyncio.Task[Any]]") -> list[str]:
    return sorted(f"{task.get_name()}: {getattr(task.get_coro(), '__qualname__', '')}" for task in tasks)
