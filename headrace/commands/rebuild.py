"""`headrace rebuild`."""

from typing import TYPE_CHECKING

from headrace.commands import GlobalContext
from headrace.output import console, print_json

if TYPE_CHECKING:
    from projections.rebuild import Progress


async def rebuild(name: str, *, context: GlobalContext) -> int:
    """Make a projection in PostgreSQL again from its topics, beside the old one, and put it in its place.

    It begins with the oldest records that the topics have. Readers see the old rows until the new ones are complete,
    and `headrace project` may go on. Rows of records that the topics no longer have are kept. Tells how the new rows
    differ from the old ones.

    Example: `headrace rebuild usage`

    Parameters
    ----------
    name
        events, usage, dead_letters or audit_log.
    """
    from headrace.commands.project import require_names
    from projections.catalog import TABLE_PROJECTIONS
    from projections.rebuild import rebuild as make_again

    require_names((name,), TABLE_PROJECTIONS)

    def tell(progress: "Progress") -> None:
        if context.json:
            print_json(progress)
        else:
            console().print(f"{progress.done} of {progress.total} records, {progress.per_second:.0f} per second")

    result = await make_again(context.client_settings(), TABLE_PROJECTIONS[name], tell)
    if context.json:
        print_json(result)
        return 0
    console().print(f"{result.records} records in {result.seconds:.1f} s, {result.skipped} left out")
    for table in result.tables:
        console().print(f"{table.table}: {table.same} rows as before, {table.added} new, {table.removed} gone")
    return 0
