"""`headrace budgets`."""

from headrace.commands import GlobalContext
from headrace.output import console, print_json


async def budgets(*, context: GlobalContext) -> int:
    """Show what is left today (UTC) of the budgets that agents, users and tenants share.

    An account is there from its first call of the day on.

    Example: `HEADRACE_BUDGETS=budgets.toml headrace budgets`
    """
    from agents.shared_budgets import BudgetsFileError
    from headrace.budget_status import budget_status
    from headrace.errors import UsageError
    from streams.agent_files import read_budgets

    settings = context.client_settings()
    if settings.budgets is None:
        raise UsageError("expected a file of shared budgets, got none: name it in HEADRACE_BUDGETS")
    try:
        declared = read_budgets(settings.budgets)
    except BudgetsFileError as error:
        raise UsageError(str(error)) from None
    rows = await budget_status(settings, declared)
    if context.json:
        for row in rows:
            print_json(row)
        return 0

    from rich.table import Table
    from rich.text import Text

    from headrace.replay.show import printable

    table = Table("account", "unit", "limit", "spent", "reserved", "left", header_style="bold", box=None)
    for row in rows:
        amounts = (f"{amount:,}" for amount in (row.limit, row.spent, row.reserved, row.left))
        table.add_row(Text(printable(row.account)), row.unit, *amounts)
    console().print(table)
    return 0
