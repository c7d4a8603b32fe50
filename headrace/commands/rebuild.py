"""`headrace rebuild`."""

from typing import TYPE_CHECKING

from headrace.commands import GlobalContext
from headrace.output import console, print_json

if TYPE_CHECKING:
    from projections.rebuild import Rebuilt
    from projections.rebuild_redis import RebuiltKeys
    from projections.reread import Progress, Tell
    from runtime.settings import Settings


async def rebuild(name: str, *, context: GlobalContext) -> int:
    """Make a projection again from its topics, beside the old one, and put it in its place.

    It begins with the oldest records that the topics have. Readers see the old rows or keys until the new ones are
    complete, and `headrace project` may go on. What was made of records that the topics no longer have is kept. Tells
    how the new ones differ from the old ones.

    Example: `headrace rebuild usage`

    Parameters
    ----------
    name
        A projection in PostgreSQL or in Redis, as `headrace project --status` shows them.
    """
    from headrace.commands.project import require_names
    from projections.catalog import PROJECTIONS

    require_names((name,), PROJECTIONS)

    def tell(progress: "Progress") -> None:
        if context.json:
            print_json(progress)
        else:
            console().print(f"{progress.done} of {progress.total} records, {progress.per_second:.0f} per second")

    result = await _make_again(context.client_settings(), name, tell)
    if context.json:
        print_json(result)
        return 0
    console().print(f"{result.records} records in {result.seconds:.1f} s, {result.skipped} left out")
    for line in _differences(result):
        console().print(line)
    return 0


async def _make_again(settings: "Settings", name: str, tell: "Tell") -> "Rebuilt | RebuiltKeys":
    from projections.calls import CallProjection
    from projections.catalog import PROJECTIONS, TABLE_PROJECTIONS
    from projections.rebuild import rebuild as rebuild_tables
    from projections.rebuild_redis import rebuild_keys

    projection = PROJECTIONS[name]
    if isinstance(projection, CallProjection):
        return await rebuild_keys(settings, projection, tell)
    return await rebuild_tables(settings, TABLE_PROJECTIONS[name], tell)


def _differences(result: "Rebuilt | RebuiltKeys") -> list[str]:
    from projections.rebuild import Rebuilt

    if isinstance(result, Rebuilt):
        return [f"{one.table}: {one.same} rows as before, {one.added} new, {one.removed} gone" for one in result.tables]
    return [
        *(
            f"{one.kind}: {one.same} as before, {one.new} new, {one.changed} changed, {one.gone} gone, {one.kept} kept"
            for one in result.kinds
        ),
        f"`headrace project` was paused for {result.paused_seconds:.2f} s",
    ]
