"""`headrace agents`."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter

from headrace.commands import GlobalContext
from headrace.output import console, print_json

if TYPE_CHECKING:
    from agents.directory import ServedAgent
    from headrace.context import Context
    from headrace.directory import Known, Plan, SpecEntry

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Days = Annotated[float, Parameter(help="Forget versions that were replaced longer ago: no turn has them any more.")]
KEEP_DAYS = 30.0
"""As long as the session log is kept, so that what can be folded again finds its agents; no approval waits so long."""

agents = App(
    name="agents",
    help="The agents: see who there is and who serves them; add, change and remove some while workers run.",
)


@agents.command(name="list")
async def list_(*, context: GlobalContext) -> int:
    """List the agents that workers serve now, and those that were applied and nobody serves.

    `load` counts model calls in flight. While a change spreads, some workers still have another version: `(mixed)`.

    Example: `headrace agents list --json | jq -r .name`
    """
    from headrace.directory import read_known

    known = await read_known(context.client_settings())
    served = known.directory.agents(known.at)
    idle = _not_served(known, served)
    if context.json:
        for agent in served:
            print_json({**_object(agent), "state": "served"})
        for entry in idle:
            print_json({**_entry_object(entry), "state": "not served"})
    elif served or idle:
        _print_agents(served, idle)
    else:
        console().print("No worker has announced an agent: start one with `headrace worker` or `headrace dev`.")
    return 0


@agents.command
async def show(name: str, *, context: GlobalContext) -> int:
    """Show one agent: what was applied about it, oldest first, and which workers serve what.

    Turns that run keep the version that stood when their message was accepted; `offset` is where it stands.

    Example: `headrace agents show researcher`

    Parameters
    ----------
    name
        The agent.
    """
    from headrace.directory import NoSuchAgentError, read_known

    known = await read_known(context.client_settings())
    history = known.history(name)
    announced = [one for one in known.directory.announced(known.at) if one.agent == name]
    if not history and not announced:
        raise NoSuchAgentError(f"no worker serves `{name}`, and it was not applied: `headrace agents list` has those")
    if context.json:
        print_json(
            {
                "name": name,
                "applied": [_entry_object(entry) for entry in history],
                "served": [msgspec.to_builtins(one) for one in announced],
            }
        )
        return 0
    for entry in history:
        _print_entry(entry)
    for one in announced:
        line = f"served by {one.worker}: {one.version}, {one.model}, since {one.since:%Y-%m-%d %H:%M:%S}"
        console().print(f"{line}, {one.calls_in_flight} calls in flight", markup=False)
    return 0


@agents.command
async def apply(
    path: Path,
    *,
    dry_run: Flag = False,
    prune: Flag = False,
    keep_days: Days = KEEP_DAYS,
    context: GlobalContext,
) -> int:
    """Add or change the agents that are declared in a TOML file, or in a folder of them; workers need no restart.

    A turn that runs, or whose message was accepted before, ends with what it began with; later messages get the new
    agent. What is applied overrides the workers' own files, also after they restart. What is the same already is left
    alone, so it can be applied again and again. A tool that a running worker does not have is refused.

    Example: `headrace agents apply agents/ --prune --dry-run`

    Parameters
    ----------
    path
        A TOML file, or a folder with `*.toml`: one table for each agent.
    dry_run
        Only say what would change.
    prune
        Remove the agents that were applied before and are not declared here; those of the workers' files stay.
    """
    from agents.catalog import AgentsFileError
    from headrace.directory import CorrectAgentsError, carry_out, plan_apply, read_known
    from runtime.agent_files import read_agents

    try:
        wanted = read_agents(path)
    except AgentsFileError as error:
        raise CorrectAgentsError(str(error)) from None
    settings = context.client_settings()
    known = await read_known(settings)
    plan = plan_apply(known, wanted, prune=prune, keep=timedelta(days=keep_days))
    if not dry_run:
        await carry_out(settings, plan)
    _tell(context, plan, dry_run=dry_run)
    return 0


@agents.command
async def remove(*names: str, dry_run: Flag = False, keep_days: Days = KEEP_DAYS, context: GlobalContext) -> int:
    """Remove agents, also those of the workers' files; apply one again to have it back.

    Turns that run end as they would have; a message that is accepted later fails with `unknown_agent`.

    Example: `headrace agents remove researcher`

    Parameters
    ----------
    names
        The agents.
    dry_run
        Only say what would change.
    """
    from headrace.directory import carry_out, plan_remove, read_known
    from headrace.errors import UsageError

    if not names:
        raise UsageError("expected the agents to remove, as in `headrace agents remove researcher`")
    settings = context.client_settings()
    plan = plan_remove(await read_known(settings), names, keep=timedelta(days=keep_days))
    if not dry_run:
        await carry_out(settings, plan)
    _tell(context, plan, dry_run=dry_run)
    return 0


@agents.command
async def graph(name: str, *, file: Path | None = None, context: GlobalContext) -> int:
    """Draw an agent with all that it may ask: Mermaid text, which Markdown pages show as a picture.

    The agents are those of the settings, and over them those that were applied.

    Example: `headrace agents graph jury --file examples/patterns.toml`

    Parameters
    ----------
    name
        The agent.
    file
        A TOML file, or a folder with `*.toml`, to read the agents from; the brokers are not asked then.
    """
    from agents.catalog import AgentsFileError
    from headrace.agent_graph import as_mermaid, draw
    from headrace.directory import CorrectAgentsError, NoSuchAgentError, read_known
    from runtime.agent_files import read_agents

    settings = context.client_settings()
    try:
        found = read_agents(file or settings.agents)
    except AgentsFileError as error:
        raise CorrectAgentsError(str(error)) from None
    if file is None:
        found = (await read_known(settings)).over(found)
    if name not in found:
        raise NoSuchAgentError(f"expected one of the agents {', '.join(sorted(found))}, got `{name}`")
    drawn = draw(name, found.get)
    if context.json_asked:
        print_json(drawn)
    else:
        print(as_mermaid(drawn))
    return 0


def _not_served(known: "Known", served: "Iterable[ServedAgent]") -> "list[SpecEntry]":
    from schemas.directory import AgentApplied

    names = {agent.name for agent in served}
    standing = known.standing().values()
    return [one for one in standing if isinstance(one.record, AgentApplied) and one.record.agent not in names]


def _object(agent: "ServedAgent") -> dict[str, Any]:
    return {field: getattr(agent, field) for field in agent.__struct_fields__}


def _entry_object(entry: "SpecEntry") -> dict[str, Any]:
    record: dict[str, Any] = msgspec.to_builtins(entry.record)
    return {"name": record.pop("agent"), "offset": entry.offset, **record}


def _print_agents(served: "list[ServedAgent]", idle: "list[SpecEntry]") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("agent", "version", "model", "workers", "load", "since", "can", "", header_style="bold", box=None)
    for agent in served:
        cells = (
            agent.name,
            agent.version + (" (mixed)" if agent.other_versions else ""),
            agent.model,
            str(len(agent.workers)),
            str(agent.calls_in_flight),
            f"{agent.since:%Y-%m-%d %H:%M}",
            ", ".join(agent.capabilities),
            agent.description,
        )
        table.add_row(*(escape(cell) for cell in cells))
    for entry in idle:
        table.add_row(entry.record.agent, getattr(entry.record, "version", ""), "", "0", "", "", "", "nobody serves it")
    console().print(table)


def _print_entry(entry: "SpecEntry") -> None:
    record = _entry_object(entry)
    by = f" by {record['by']}" if record.get("by") else ""
    what = "removed" if record["type"] == "agent_removed" else f"applied {record['version']}"
    console().print(f"{what} at {entry.written_at:%Y-%m-%d %H:%M:%S}{by}, offset {entry.offset}", markup=False)
    for field, value in record.get("spec", {}).items():
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        console().print(f"  {field} = {shown}", markup=False)


def _tell(context: "Context", plan: "Plan", *, dry_run: bool) -> None:
    if context.json:
        for change in plan.changes:
            fields = {name: value for name, value in msgspec.to_builtins(change).items() if name != "spec"}
            print_json({**fields, "dry_run": dry_run})
        return
    for change in plan.changes:
        versions = " ".join(
            version for version in (change.before, "→" if change.before else "", change.version) if version
        )
        would = "would be " if dry_run and change.what != "unchanged" else ""
        console().print(f"{would}{change.what} {change.agent} {versions}".rstrip(), markup=False)
    if plan.unchecked:
        console().print("No worker is announced, so nobody knows whether it has the tools.", style="yellow")
