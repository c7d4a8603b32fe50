"""A stack around some work: started before it, watched during it, stopped after it, whatever happens."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from headrace.development.options import StackOptions
from headrace.development.progress import Reporter
from headrace.development.stack import DevelopmentStack

Work = Callable[[DevelopmentStack], Awaitable[None]]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_stack(options: StackOptions, reporter: Reporter, work: Work) -> None:
    """Start a stack, do `work`, and stop the stack when the work is done or one of `SIGNALS` comes.

    A second signal while it stops ends all roles at once, without letting them finish their calls.

    Raises:
        StackError: a component cannot be started, or is given up.
        HeadraceError: brokers do not answer, or refuse the topics.
        ProjectionError: the database does not answer, or cannot be brought to what this version needs.
    """
    stack = DevelopmentStack(options, reporter)
    running = asyncio.create_task(_start_and_work(stack, reporter, work))
    asked_to_stop = False

    def on_signal() -> None:
        nonlocal asked_to_stop
        if asked_to_stop:
            stack.kill_roles()
        asked_to_stop = True
        running.cancel()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        # Not awaited itself: its cancellation is this function's normal end.
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()
    finally:
        reporter.settle()
        await stack.stop()


async def _start_and_work(stack: DevelopmentStack, reporter: Reporter, work: Work) -> None:
    await stack.start()
    reporter.settle()
    watching = asyncio.create_task(stack.watch())
    working = asyncio.ensure_future(work(stack))
    try:
        done, _ = await asyncio.wait([watching, working], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        watching.cancel()
        working.cancel()
        await asyncio.gather(watching, working, return_exceptions=True)
