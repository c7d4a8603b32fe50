"""`headrace worker`."""

import asyncio

from headrace.commands import GlobalContext


def worker(*, name: str | None = None, context: GlobalContext) -> int:
    """Run one worker: it answers messages until it is stopped (Ctrl-C, SIGTERM).

    A stopped worker takes nothing new, lets running calls finish (`drain_timeout_s`, 30 s), and leaves; 25 s later its
    process has ended in any case.
    Start as many as there are partitions, each with a data directory of its own.

    Example: `headrace worker --name mill-1 --data-dir /var/lib/headrace-1`

    Parameters
    ----------
    name
        This worker's own name; a named one that comes back after a crash goes on at once (static membership).
    """
    from dataclasses import replace

    from headrace.topics import require_topics
    from streams.worker import run_worker

    settings = replace(context, options={**context.options, "name": name}).settings()
    # On its own, a worker would wait in silence for topics that are not there, and say little of why it is not let in.
    asyncio.run(require_topics(settings))
    return run_worker(settings)
