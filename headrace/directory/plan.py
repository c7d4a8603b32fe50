"""What applying or removing agents changes, before anything is written. Pure."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from agents.applied import spec_version
from agents.spec import AgentSpec, addressed_by_name
from headrace.directory.errors import CorrectAgentsError, NoSuchAgentError
from headrace.directory.reading import Known
from schemas.directory import AgentApplied, AgentRemoved


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes of one agent; `spec` where it is applied."""

    agent: str
    what: Literal["added", "changed", "unchanged", "removed"]
    version: str | None = None
    before: str | None = None
    spec: AgentSpec | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """`changes` to write, and the keys of versions that no turn can have any more.

    `unchecked` says that no worker is announced, so nobody knows which tools there are.
    """

    changes: tuple[Change, ...]
    forgotten: tuple[bytes, ...] = ()
    unchecked: bool = False


def plan_apply(known: Known, wanted: Mapping[str, AgentSpec], *, prune: bool, keep: timedelta) -> Plan:
    """Apply `wanted`; with `prune`, remove all other agents that were applied before.

    Args:
        known: what there is.
        wanted: agents by name.
        prune: agents of the workers' files are not touched by it.
        keep: what was replaced or removed longer ago is forgotten.

    Raises:
        CorrectAgentsError: a worker that serves them would not have a tool that one names, or an agent.
    """
    changes = [_change(known, spec) for spec in wanted.values()]
    unchecked = _check_tools(known, list(wanted.values()))
    if prune:
        standing = known.standing()
        gone = [name for name, entry in standing.items() if isinstance(entry.record, AgentApplied)]
        changes += [_removal(known, name) for name in gone if name not in wanted]
    if not unchecked:
        _check_others(known, wanted, {change.agent for change in changes if change.what == "removed"})
    return Plan(changes=tuple(changes), forgotten=_forgotten(known, keep), unchecked=unchecked)


def plan_remove(known: Known, names: Collection[str], *, keep: timedelta) -> Plan:
    """Remove agents, whether they were applied or are in the workers' files.

    Raises:
        NoSuchAgentError: one of them is nowhere.
    """
    standing = known.standing()
    served = {agent.name for agent in known.directory.agents(known.at)}
    unknown = [name for name in names if name not in standing and name not in served]
    if unknown:
        there_are = ", ".join(sorted(served | standing.keys())) or "none"
        raise NoSuchAgentError(f"expected agents among {there_are}, got {', '.join(unknown)}: nothing was removed")
    return Plan(changes=tuple(_removal(known, name) for name in names), forgotten=_forgotten(known, keep))


def _change(known: Known, spec: AgentSpec) -> Change:
    version, before = spec_version(spec), _version(known, spec.name)
    if before == version:
        return Change(agent=spec.name, what="unchanged", version=version)
    what: Literal["added", "changed"] = "added" if before is None else "changed"
    return Change(agent=spec.name, what=what, version=version, before=before, spec=spec)


def _removal(known: Known, name: str) -> Change:
    entry = known.standing().get(name)
    if entry is not None and isinstance(entry.record, AgentRemoved):
        return Change(agent=name, what="unchanged")
    return Change(agent=name, what="removed", before=_version(known, name))


def _version(known: Known, name: str) -> str | None:
    """The version that stands, as far as it was applied."""
    entry = known.standing().get(name)
    return entry.record.version if entry is not None and isinstance(entry.record, AgentApplied) else None


def _check_tools(known: Known, wanted: Collection[AgentSpec]) -> bool:
    """Whether it could not be checked."""
    announced = known.directory.announced(known.at)
    tools = {one.worker: set(one.worker_tools) for one in announced}
    for spec in wanted:
        for worker, there in tools.items():
            missing = [tool for tool in spec.tools if tool not in there]
            if missing:
                raise CorrectAgentsError(
                    f"agent [{spec.name}]: expected tools that every worker has, got {', '.join(missing)}, which "
                    f"{worker} has not ({', '.join(sorted(there))}): correct the name, or start the workers with it"
                )
    return not tools


def _check_others(known: Known, wanted: Mapping[str, AgentSpec], removed: Collection[str]) -> None:
    """Those that an agent asks or hands over to must be there: the model is not offered one that is not."""
    applied = {name for name, entry in known.standing().items() if isinstance(entry.record, AgentApplied)}
    there = ({agent.name for agent in known.directory.agents(known.at)} | applied | wanted.keys()) - set(removed)
    for spec in wanted.values():
        missing = [name for name in (*spec.asked, *spec.handoffs, *addressed_by_name(spec)) if name not in there]
        if missing:
            names = ", ".join(sorted(there))
            raise CorrectAgentsError(
                f"agent [{spec.name}]: expected those it asks, hands over or broadcasts to among {names}, "
                f"got {', '.join(missing)}: correct the name, or apply that agent too"
            )


def _forgotten(known: Known, keep: timedelta) -> tuple[bytes, ...]:
    """The keys of what was followed by something else so long ago that every turn that had it has ended."""
    forgotten = []
    followed_at: dict[str, datetime] = {}
    for entry in reversed(known.entries):
        later = followed_at.get(entry.record.agent)
        if later is not None and later < known.at - keep:
            forgotten.append(entry.key)
        followed_at[entry.record.agent] = entry.written_at
    return tuple(reversed(forgotten))
