"""What `headrace agents apply` and `remove` would write, for what is there."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from histories import NOW, agent

from agents.applied import apply_record, spec_fields, spec_version
from agents.catalog import Catalog
from agents.directory import Directory
from agents.spec import AgentSpec
from headrace.directory import CorrectAgentsError, Known, NoSuchAgentError, Plan, SpecEntry, plan_apply, plan_remove
from schemas.codec import encode
from schemas.directory import AgentAnnounced, AgentApplied, AgentRemoved, announcement_key, spec_key

KEEP = timedelta(days=30)


def known(*history: tuple[float, str, AgentSpec | None], workers: Sequence[tuple[str, tuple[str, ...]]] = ()) -> Known:
    """What was applied so many days ago, and workers that serve `assistant` with their tools."""
    entries = []
    for offset, (days, name, spec) in enumerate(history):
        at = NOW - timedelta(days=days)
        version = "removed" if spec is None else spec_version(spec)
        key = spec_key(name, version, str(offset))
        record: AgentApplied | AgentRemoved = AgentRemoved(agent=name, at=at)
        if spec is not None:
            record = AgentApplied(agent=name, version=version, spec=spec_fields(spec), at=at)
        entries.append(SpecEntry(offset=offset, key=key, written_at=at, record=record))
    directory = Directory()
    for worker, tools in workers:
        said: dict[str, Any] = {"since": NOW, "at": NOW, "expires_at": NOW + timedelta(seconds=30)}
        one = AgentAnnounced(agent="assistant", worker=worker, version="v", model="m", worker_tools=tools, **said)
        directory.take(announcement_key("assistant", worker), encode(one))
    return Known(at=NOW, entries=tuple(entries), directory=directory)


def apply(there: Known, *specs: AgentSpec, prune: bool = False) -> Plan:
    return plan_apply(there, {spec.name: spec for spec in specs}, prune=prune, keep=KEEP)


def said(plan: Plan) -> list[tuple[str, str]]:
    return [(change.agent, change.what) for change in plan.changes]


def test_only_what_differs_is_written() -> None:
    """Applying again is nothing; an agent that was removed is added again."""
    there = known((3, "same", agent("same")), (2, "new", agent("new")), (2, "gone", agent("gone")), (1, "gone", None))
    plan = apply(there, agent("same"), agent("new", turn_seconds=7), agent("gone"), agent("first"))
    assert said(plan) == [("same", "unchanged"), ("new", "changed"), ("gone", "added"), ("first", "added")]
    assert plan.changes[1].before == spec_version(agent("new"))
    assert [change.spec is None for change in plan.changes] == [True, False, False, False]


def test_prune_removes_what_was_applied_and_is_not_declared() -> None:
    """Not what was removed already, and nothing that only a worker's file has."""
    there = known(
        (3, "old", agent("old")),
        (2, "gone", agent("gone")),
        (1, "gone", None),
        workers=[("w1", ("add", "send"))],
    )
    assert said(apply(there, agent("new"), prune=True)) == [("new", "added"), ("old", "removed")]
    assert said(apply(there, agent("new"))) == [("new", "added")]


def test_an_agent_of_a_file_can_be_removed() -> None:
    """It is served, so it is known; twice is nothing; a name that nobody knows is refused."""
    there = known((1, "gone", None), workers=[("w1", ())])
    assert said(plan_remove(there, ["assistant", "gone"], keep=KEEP)) == [
        ("assistant", "removed"),
        ("gone", "unchanged"),
    ]
    with pytest.raises(NoSuchAgentError, match="among assistant, gone, got nobody: nothing was removed"):
        plan_remove(there, ["assistant", "nobody"], keep=KEEP)


def test_a_tool_that_a_worker_lacks_is_refused() -> None:
    """Any worker may get the session; without a worker, nobody can know."""
    there = known(workers=[("w1", ("add", "send")), ("w2", ("add",))])
    with pytest.raises(CorrectAgentsError, match=r"\[helper\]: .* got send, which w2 has not \(add\)"):
        apply(there, agent("helper"))
    assert not apply(there, AgentSpec(name="helper", instructions="x", tools=("add",))).unchecked
    assert apply(known(), agent("helper")).unchecked


def test_an_agent_that_asks_nobody_is_refused() -> None:
    """Those that it asks are applied with it, or before, or in a worker's file; not removed by the same act."""
    there = known((1, "old", agent("old")), workers=[("w1", ("add", "send"))])
    asking = AgentSpec(name="asking", instructions="x", agents=("helper", "assistant"), handoffs=("old",))
    with pytest.raises(CorrectAgentsError, match=r"\[asking\]: .* among asking, assistant, old, got helper"):
        apply(there, asking)
    assert said(apply(there, asking, agent("helper"))) == [("asking", "added"), ("helper", "added")]
    with pytest.raises(CorrectAgentsError, match="got old"):
        apply(there, asking, agent("helper"), prune=True)


def test_versions_are_kept_while_a_turn_may_have_them() -> None:
    """Counted from when they were replaced, not from when they were applied; the newest stays for ever."""
    specs = [agent("a", turn_seconds=number + 1) for number in range(3)]
    there = known(
        (400, "a", specs[0]),
        (31, "a", specs[1]),
        (29, "a", specs[2]),
        (400, "b", agent("b")),
        (300, "c", agent("c")),
        (200, "c", None),
    )
    keys = [entry.key for entry in there.entries]
    forgotten = apply(there).forgotten
    assert forgotten == (keys[0], keys[4])
    before, after = Catalog({"d": agent("d")}, "d"), Catalog({"d": agent("d")}, "d")
    for catalog, without in ((before, ()), (after, forgotten)):
        for entry in there.entries:
            apply_record(catalog, entry.offset, entry.key, None if entry.key in without else encode(entry.record))
    assert before.agents == after.agents
    assert after.get("a", 1) == specs[1], "a turn that began 30 days ago still has its agent"
