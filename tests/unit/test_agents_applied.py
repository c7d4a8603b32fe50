"""Agents that are applied while turns run: the catalog as of an offset, and its records."""

from typing import Any

import msgspec
import pytest
from histories import NOW, History, agent, catalog, encode_step, use

from agents.applied import apply_record, read_spec_record, spec_fields, spec_of, spec_version
from agents.approval_rule import ApprovalRule
from agents.catalog import Catalog
from agents.reducer import reduce
from agents.spec import AgentSpec
from schemas.codec import encode
from schemas.directory import AgentApplied, AgentRemoved, spec_key
from schemas.events import TurnCompleted, TurnFailed
from schemas.failure import FailureCode


def applied(spec: AgentSpec) -> bytes:
    """The record of an agent."""
    record = AgentApplied(agent=spec.name, version=spec_version(spec), spec=spec_fields(spec), at=NOW)
    return encode(record)


def test_the_past_does_not_change() -> None:
    """What the catalog says as of an offset is the same however much was applied after it."""
    files = catalog(agent("assistant", turn_seconds=1))
    specs = {offset: agent("assistant", turn_seconds=offset) for offset in (3, 7, 8)}
    for offset, spec in specs.items():
        files.apply(offset, "assistant", spec)
    files.apply(9, "assistant", None)
    files.apply(12, "assistant", specs[3])

    found = [files.get("assistant", offset) for offset in range(-1, 14)]

    assert [spec and spec.limits.turn_seconds for spec in found] == [1] * 4 + [3] * 4 + [7, 8] + [None] * 3 + [3, 3]
    assert files.get("assistant") is specs[3]
    assert list(files.as_of(9)) == []


def test_a_turn_keeps_the_agent_that_it_began_with() -> None:
    """Its agent is replaced, then removed, while the model works; the next message finds nobody."""
    history = History(catalog(agent("assistant", tool_calls_per_turn=1)))
    history.say("m1")
    history.catalog.apply(0, "assistant", agent("assistant", tool_calls_per_turn=0))
    history.catalog.apply(1, "assistant", None)
    history.say("m2", specs_offset=1)
    history.model_says(use("add", "t1"))
    history.tool_returns(history.pending()[0])
    step = history.model_says("done")
    assert [type(event) for event in step.events] == [TurnCompleted, TurnFailed]
    assert history.failure().code == FailureCode.UNKNOWN_AGENT


def test_a_message_that_waited_has_the_agent_of_when_it_was_accepted() -> None:
    """Not that of when its turn begins."""
    history = History(catalog(agent("assistant", tool_calls_per_turn=1)))
    history.say("m1")
    history.say("m2", specs_offset=4)
    history.catalog.apply(5, "assistant", agent("assistant", tool_calls_per_turn=0))
    history.say("m3", specs_offset=5)
    history.model_says("done")
    history.model_says(use("add", "t1"))
    history.tool_returns(history.pending()[0])
    history.model_says("done")
    history.model_says(use("add", "t2"))
    assert [type(end) for end in history.ends()] == [TurnCompleted, TurnCompleted, TurnFailed]
    assert history.failure().code == FailureCode.LIMIT_TOOL_CALLS


def test_a_log_that_is_folded_later_gives_the_same() -> None:
    """With a catalog that has read further: each message has the agents of its own offset."""
    history = History()
    history.catalog.apply(5, "helper", agent("helper"))
    history.say("m1", agent="helper", specs_offset=4)
    history.say("m2", agent="helper", specs_offset=5)
    history.catalog.apply(9, "helper", None)
    history.model_says("done")
    assert [type(end) for end in history.ends()] == [TurnFailed, TurnCompleted]
    session = None
    for (offset, event, _), step in zip(history.log, history.steps, strict=True):
        again = reduce(history.catalog, session, event, offset)
        assert encode_step(again) == encode_step(step)
        session = again.session


def test_a_version_is_of_what_an_agent_is() -> None:
    """Not of how it is written down; a field that has its default is not part of it."""
    spec = AgentSpec(name="a", instructions="x", capabilities=("b",), input_schema={"type": "object", "x": 1})
    same = AgentSpec(name="a", instructions="x", capabilities=("b",), input_schema={"x": 1, "type": "object"})
    assert spec_version(spec) == spec_version(same)
    assert spec_version(AgentSpec(name="a", instructions="x")) == "c6dcc1b8d3c3"
    others: list[dict[str, Any]] = [{"instructions": "y"}, {"name": "b"}, {"tenant": "t"}, {"capabilities": ()}]
    assert spec_version(spec) not in {spec_version(msgspec.structs.replace(spec, **other)) for other in others}


def test_a_record_holds_the_whole_agent() -> None:
    """What is read back is what was applied, nested limits included."""
    spec = agent("a", turn_seconds=17)
    record = msgspec.json.decode(applied(spec), type=AgentApplied)
    assert spec_of(record) == spec
    assert record.spec["limits"] == {"turn_seconds": 17}
    by_rule = AgentSpec(name="a", instructions="x", tools=("add",), approval={"add": ApprovalRule(approvals=2)})
    record = msgspec.json.decode(applied(by_rule), type=AgentApplied)
    assert spec_of(record) == by_rule
    assert record.spec["approval"] == {"add": {"approvals": 2}}


def test_what_is_deleted_is_forgotten() -> None:
    """A tombstone takes its version out, and no other one; an agent of a file is not forgotten."""
    files = catalog(agent("a", turn_seconds=1))
    keys = [spec_key("a", "v", str(number)) for number in range(3)]
    for offset, key in enumerate(keys):
        assert apply_record(files, offset, key, applied(agent("a", turn_seconds=10 + offset))) is None
    assert apply_record(files, 3, keys[1], None) is None
    seconds = [spec.limits.turn_seconds for offset in range(-1, 4) if (spec := files.get("a", offset))]
    assert seconds == [1, 10, 10, 12, 12]
    assert files.read_to == 3


BAD = [
    (b"a@v-1", b"[]", "Expected `object`"),
    (b"a@v-1", b'{"type": "agent_applied", "agent": "a"}', "missing required field"),
    (b"b@v-1", encode(AgentRemoved(agent="a", at=NOW)), "begins with `a@`"),
    (b"a", encode(AgentRemoved(agent="a", at=NOW)), "begins with `a@`"),
    (None, encode(AgentRemoved(agent="a", at=NOW)), "begins with `a@`"),
    (b"a@v-1", encode(AgentApplied(agent="a", version="v", spec={"model": "m"}, at=NOW)), "instructions"),
    (
        b"a@v-1",
        encode(AgentApplied(agent="a", version="v", spec={"instructions": "x", "n": 1}, at=NOW)),
        "unknown field",
    ),
]


@pytest.mark.parametrize(("key", "value", "says"), BAD)
def test_a_bad_record_changes_nothing(key: bytes | None, value: bytes, says: str) -> None:
    """But it is read: a message that was accepted after it does not wait for it."""
    files = catalog(agent("a"))
    problem = apply_record(files, 4, key, value)
    assert problem is not None
    assert says in problem
    assert files.agents == {"a": agent("a")}
    assert files.read_to == 4


def test_a_record_is_applied_once() -> None:
    """A reader that begins again gives the same records again."""
    files = catalog(agent("a"))
    for _ in range(2):
        apply_record(files, 0, b"b@1", applied(agent("b")))
    assert [entry.offset for entry in files.history("b")] == [0]
    assert isinstance(read_spec_record(b"b@1", applied(agent("b"))), AgentApplied)
    assert isinstance(files, Catalog)


def compacted(records: list[tuple[bytes, bytes]]) -> list[tuple[int, bytes, bytes]]:
    """What compaction leaves: of each key the newest record, at its offset."""
    newest = {key: offset for offset, (key, _) in enumerate(records)}
    return [(offset, key, value) for offset, (key, value) in enumerate(records) if newest[key] == offset]


@pytest.mark.parametrize(
    ("key_of", "is_kept"),
    [
        (lambda spec, _: spec.name.encode(), False),
        (lambda spec, _: f"{spec.name}@{spec_version(spec)}".encode(), False),
        (lambda spec, number: spec_key(spec.name, spec_version(spec), str(number)), True),
    ],
    ids=["agent", "agent and version", "a key of its own"],
)
def test_compaction_keeps_what_a_running_turn_has(key_of: Any, *, is_kept: bool) -> None:
    """Only where each record has a key of its own: else a turn finds another agent after a restart, or none."""
    one, other = agent("a", turn_seconds=1), agent("a", turn_seconds=2)
    records = [(key_of(spec, number), applied(spec)) for number, spec in enumerate((one, other, one))]
    left = catalog(agent("b"))
    for offset, key, value in compacted(records):
        left.apply(offset, "a", spec_of(msgspec.json.decode(value, type=AgentApplied)), key)
    assert ([left.get("a", as_of) for as_of in range(3)] == [one, other, one]) == is_kept
