"""`headrace doctor`."""

from headrace.commands import GlobalContext
from headrace.output import console, print_json

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


async def doctor(*, context: GlobalContext) -> int:
    """Check what can be wrong, and say what to do; exit status 1 when something fails.

    Settings, versions, model, brokers, topics, workers; Redis, PostgreSQL, projections, gateway.

    Example: `headrace doctor --brokers redpanda:9092`
    """
    from rich.markup import escape

    from headrace.diagnosis import diagnose

    failed = False
    async for check in diagnose(context):
        failed = failed or check.level == "fail"
        if context.json:
            print_json(check)
            continue
        to_do = f"\n     {' ':11} → {escape(check.to_do)}" if check.to_do else ""
        console().print(f"[{COLOURS[check.level]}]{check.level:4}[/] {check.what:11} {escape(check.found)}{to_do}")
    return int(failed)
