"""`headrace topics`."""

from cyclopts import App

from headrace.commands import GlobalContext
from headrace.output import console, print_json

topics = App(name="topics", help="Create the topics, or compare them with what they must be.")


@topics.command
async def apply(*, context: GlobalContext) -> int:
    """Create the topics that are missing; those that exist are left as they are.

    Run it once before the first worker, and after an upgrade. It can run many times, also at the same time.

    Example: `HEADRACE_PARTITIONS=24 HEADRACE_REPLICATION=3 headrace topics apply`
    """
    from headrace.topics import apply_topics

    created = await apply_topics(context.client_settings())
    if context.json:
        print_json({"created": created})
    elif created:
        for name in created:
            console().print(f"[green]created[/] {name}")
    else:
        console().print("All topics exist. `headrace topics check` compares them with what they must be.")
    return 0


@topics.command
async def check(*, context: GlobalContext) -> int:
    """Compare the topics with what they must be, and say what to do; exit status 1 when the pipeline cannot work so.

    Example: `headrace topics check --brokers redpanda:9092`
    """
    from headrace.topics import check_topics

    findings = await check_topics(context.client_settings())
    for finding in findings:
        if context.json:
            print_json(finding)
        else:
            colour = "red" if finding.level == "fail" else "yellow"
            differs = f"{finding.what}: expected {finding.expected}, found {finding.found}"
            console().print(f"[{colour}]{finding.level}[/] {finding.topic} {differs}; {finding.to_do}")
    if not findings and not context.json:
        console().print("[green]ok[/] All topics are as they must be.")
    return int(any(finding.level == "fail" for finding in findings))
