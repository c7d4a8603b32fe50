"""A short one of `make chaos`, and its judge: what it must find, it finds."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chaos.findings import Evidence, Outage, check_arrived, check_malformed, check_notes, check_paid_once
from chaos.run import perform
from chaos.scenarios import SCENARIOS
from msgspec import Struct

from agents.catalog import Catalog
from agents.spec import AgentSpec
from schemas.codec import encode
from schemas.content import TextBlock
from schemas.log import MessageAccepted, ModelCompleted
from schemas.topics import TOPICS
from schemas.usage import Usage

SHORT = ("brokers: black hole, 5 s",)


@pytest.mark.parametrize("name", SHORT)
async def test_a_scenario_breaks_no_promise(name: str, tmp_path: Path) -> None:
    """Conversations go on meanwhile, and afterwards every promise is held against the topics."""
    (scenario,) = [scenario for scenario in SCENARIOS if scenario.name == name]
    row = await perform(scenario, tmp_path)
    assert not row.findings.problems
    assert row.findings.lost == 0
    assert row.findings.turns > 0


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ACCEPTED = MessageAccepted(session_id="s1", message_id="m1", content=(TextBlock(text="hi"),), at=NOW)
COMPLETED = ModelCompleted(
    session_id="s1",
    call_id="s1/1/1",
    model="m",
    content=(TextBlock(text="Hello."),),
    stop_reason="end_turn",
    usage=Usage(output_tokens=1),
    cost_micros=2,
    at=NOW,
)


def record(offset: int, fact: Struct) -> Any:
    return SimpleNamespace(partition=3, offset=offset, value=encode(fact))


def evidence(**fields: Any) -> Evidence:
    known: dict[str, Any] = {
        "sent": [("s1", "m1")],
        "malformed": 0,
        "records": {topic.name: [] for topic in TOPICS} | {"session-log": [record(0, ACCEPTED), record(7, COMPLETED)]},
        "changelog": "changelog",
        "calls": {"s1/1/1": {"started": 1, "completed": 1}},
        "outages": [],
        "model_fails": False,
        "notes": [],
        "catalog": Catalog({"assistant": AgentSpec(name="assistant", instructions="Be brief.")}, "assistant"),
    }
    return Evidence(**known | fields)


def test_what_was_acknowledged_and_is_nowhere_is_lost() -> None:
    """The broker said that it has the message, and the log does not."""
    check_arrived(evidence())
    with pytest.raises(AssertionError, match="m2"):
        check_arrived(evidence(sent=[("s1", "m1"), ("s1", "m2")]))


def test_a_malformed_message_that_nobody_was_told_of_is_found() -> None:
    """One was sent, and no dead letter is there."""
    with pytest.raises(AssertionError, match="0 dead letters"):
        check_malformed(evidence(malformed=1))


@pytest.mark.parametrize(
    ("log_end", "begun"),
    [(8, "s1/1/1"), (7, "s1/2/1")],
    ids=["its outcome was in the log before", "it had not begun"],
)
def test_a_call_that_is_made_again_needs_an_excuse(log_end: int, begun: str) -> None:
    """It may be, where it ran and its outcome was not in the log when its worker died; and not otherwise."""
    again = {"s1/1/1": {"started": 2, "completed": 2}}
    check_paid_once(evidence(calls=again, outages=[Outage({3: 7}, frozenset({"s1/1/1"}))]))
    with pytest.raises(AssertionError, match="s1/1/1"):
        check_paid_once(evidence(calls=again, outages=[Outage({3: log_end}, frozenset({begun}))]))


def test_a_tool_that_ran_twice_is_found() -> None:
    """It left two lines."""
    check_notes(evidence(notes=["m1", "m2"]))
    with pytest.raises(AssertionError, match="'m1': 2"):
        check_notes(evidence(notes=["m1", "m1"]))
