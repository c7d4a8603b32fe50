"""`headrace dev`."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from headrace.commands import GlobalContext
from headrace.output import console, print_json

if TYPE_CHECKING:
    from headrace.context import Context
    from headrace.development.options import StackOptions
    from headrace.development.stack import DevelopmentStack


async def dev(
    *,
    workers: Annotated[int, Parameter(validator=Number(gte=1, lte=64))] = 1,
    model_latency: Annotated[float, Parameter(validator=Number(gte=0, lte=600))] = 0.0,
    partitions: int | None = None,
    agents: Path | None = None,
    context: GlobalContext,
) -> int:
    """Run everything on this machine until Ctrl-C: the servers, a model, workers, projections, the gateway.

    Kafka, Valkey and PostgreSQL come with the package, but for Kafka's jars, which are fetched once (45 MB). All listen
    on 127.0.0.1.
    Data stays in `--data-dir`. With `--brokers`, those brokers are used in place of the stack's own Kafka; settings of
    other origin do not change the brokers of a stack. A PostgreSQL or Redis that is set (HEADRACE_POSTGRES,
    HEADRACE_REDIS) is used in place of the stack's own; the database is migrated.
    The gateway lets in everybody on this machine without a key; HEADRACE_GATEWAY_OPEN=false asks for one.
    The model is simulated where neither ANTHROPIC_API_KEY nor ANTHROPIC_BASE_URL is set.
    When all is ready, `endpoints.json` in the data directory says where; it is removed at the end.
    Ctrl-C lets running calls finish; a second one does not.

    Example: `headrace dev --data-dir /tmp/try --workers 2 --model-latency 1.5`

    Parameters
    ----------
    workers
        How many workers to run; one that dies is started again.
    model_latency
        How long a call of the simulated model takes, in seconds.
    partitions
        Partitions of new topics (default 8); cannot be changed later.
    agents
        A TOML file of agents or a directory of them (setting `agents`); by default the shipped ones.
    """
    from headrace.development.progress import reporter_for
    from headrace.development.run import run_stack

    async def wait(stack: "DevelopmentStack") -> None:
        if context.json_asked:
            print_json({"state": "running", "endpoints": stack.endpoints.without_passwords()})
        else:
            console().print(_next_steps(stack))
        await asyncio.Event().wait()

    asked = replace(context, options={**context.options, "partitions": partitions, "agents": agents})
    options = stack_options(asked, workers, model_latency)
    await run_stack(options, reporter_for(console(), json=context.json_asked), wait)
    return 0


def stack_options(context: "Context", workers: int, model_latency_s: float) -> "StackOptions":
    """What the command line asks of the stack; raises `SettingsError`."""
    from headrace.development.options import StackOptions

    settings = context.settings()
    config = context.options.get("config")
    return StackOptions(
        settings=settings,
        own_broker=context.options.get("brokers") is None,
        workers=workers,
        model_latency_s=model_latency_s,
        config=None if config is None else Path(config),
    )


def _next_steps(stack: "DevelopmentStack") -> str:
    from rich.markup import escape

    from runtime.settings.values import user_data_dir

    where = "" if stack.data_dir == user_data_dir() else f" --data-dir {escape(str(stack.data_dir))}"
    if stack.settings.topic_prefix:
        where += f" --topic-prefix {stack.settings.topic_prefix}"
    return (
        f"\nReady. Kafka clients find it at [bold]{stack.endpoints.kafka}[/]. In another terminal:\n\n"
        f"  headrace chat{where}\n"
        f'  headrace send s1 "hi" --wait{where}\n'
        f"  headrace tail agent-events{where}\n\n"
        "Ctrl-C stops everything; data stays.\n\n"
        f"{page_line(stack)}\n"
    )


def page_line(stack: "DevelopmentStack") -> str:
    """Where the page is, and who is let in."""
    who = "open to everybody on this machine" if stack.settings.gateway.open else "which asks for a key"
    return f"The page, {who}: [bold]{stack.endpoints.gateway}/[/]"
