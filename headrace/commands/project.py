"""`headrace project`."""

from collections.abc import Iterable

from headrace.commands import GlobalContext
from headrace.errors import UsageError
from headrace.output import console, print_json


async def project(*names: str, status: bool = False, context: GlobalContext) -> int:
    """Write what readers see until it is stopped (Ctrl-C, SIGTERM).

    Into PostgreSQL: events, usage, dead_letters, audit_log. Into Redis: live, sessions, summaries, statistics; budgets,
    where shared ones are declared.

    Several may run: they share the partitions. Each projection goes on where it was; a new one begins with the oldest
    records that the topics still have. A store or brokers that are away are waited for.

    Example: `headrace project --status`

    Parameters
    ----------
    names
        Only these projections; by default all whose store is set.
    status
        Show how far each projection is behind its topics, and end.
    """
    from projections.catalog import PROJECTIONS

    require_names(names, PROJECTIONS)
    settings = context.client_settings()
    if status:
        return await _show_status(context)

    from headrace.topics import require_topics
    from projections.run import run_projections
    from runtime.log import setup_logging

    setup_logging(settings)
    await require_topics(settings)
    await run_projections(settings, names)
    return 0


def require_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Raises `UsageError` for a name that is not known."""
    for name in names:
        if name not in known:
            raise UsageError(f"expected one of {', '.join(known)}, got {name}")


async def _show_status(context: GlobalContext) -> int:
    from headrace.projection_status import projection_status

    rows = await projection_status(context.client_settings())
    if context.json:
        for row in rows:
            print_json(row)
        return 0

    from rich.table import Table

    table = Table("projection", "topic", "partition", "done", "end", "behind", header_style="bold", box=None)
    for row in rows:
        done = "-" if row.committed is None else str(row.committed)
        table.add_row(row.projection, row.topic, str(row.partition), done, str(row.end), str(row.lag))
    console().print(table)
    return 0
