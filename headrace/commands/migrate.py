"""`headrace migrate`."""

from headrace.commands import GlobalContext
from headrace.output import console, print_json


async def migrate(*, context: GlobalContext) -> int:
    """Bring PostgreSQL to what this version needs; what was applied before is left as it is.

    Run it before the first `headrace project`, and after an upgrade. It can run many times, also at the same time.

    Example: `HEADRACE_POSTGRES=postgresql://headrace:PASSWORD@127.0.0.1:5432/headrace headrace migrate`
    """
    from projections.migrations import migrate as apply
    from runtime.stores import postgres_url

    applied = await apply(postgres_url(context.client_settings()))
    if context.json:
        print_json({"applied": applied})
    elif applied:
        for name in applied:
            console().print(f"[green]applied[/] {name}")
    else:
        console().print("Nothing to do: every migration is applied.")
    return 0
