"""Names and ids: what gets into keys and headers is printable, to its last character."""

from typing import Any

import msgspec
import pytest

from docs.record_schemas import record_schemas
from schemas.commands import ApprovalDecision, CancelTurn
from schemas.ids import (
    AgentName,
    BroadcastId,
    MessageId,
    SessionId,
    TargetCallId,
    TargetMessageId,
    ToolName,
    call_id,
    claim_id,
)

NAMES = {
    "SessionId": SessionId,
    "MessageId": MessageId,
    "TargetMessageId": TargetMessageId,
    "TargetCallId": TargetCallId,
    "BroadcastId": BroadcastId,
    "AgentName": AgentName,
    "ToolName": ToolName,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_ends_in_a_new_line_is_refused(name: str) -> None:
    """Python's `$` also matches before a last new line, which would end a header early."""
    assert msgspec.convert("a", NAMES[name]) == "a"
    for wrong in ("a\n", "a\n\n", "\na", "a\nb", "", "\n"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, NAMES[name])


def test_no_documented_pattern_lets_a_last_new_line_through() -> None:
    """A pattern that ends in `$` alone is a trap for whoever adds the next one."""
    patterns = set(_patterns(record_schemas()))
    assert len(patterns) > 3
    assert [each for each in patterns if each.endswith("$") and not each.endswith(r"(?!\n)$")] == []


def _patterns(node: Any) -> list[str]:
    match node:
        case {"pattern": str(pattern), **others}:
            return [pattern, *_patterns(others)]
        case dict():
            return [pattern for inner in node.values() for pattern in _patterns(inner)]
        case list():
            return [pattern for inner in node for pattern in _patterns(inner)]
        case _:
            return []


@pytest.mark.parametrize(("record", "field"), [(CancelTurn, "message_id"), (ApprovalDecision, "call_id")])
def test_what_a_command_is_about_is_bounded_as_ids_are_and_described_as_itself(
    record: type[msgspec.Struct], field: str
) -> None:
    """The id of the message to cancel is not the id of the command that cancels it."""
    fields = record_schemas()[record.__name__]["properties"]
    about, own = dict(fields[field]), dict(fields["id"])
    assert about.pop("description") != own.pop("description")
    bounds = ("minLength", "maxLength", "pattern")
    assert {bound: about[bound] for bound in bounds} == {bound: own[bound] for bound in bounds}


def test_the_start_of_a_call_is_another_event_than_its_outcome() -> None:
    """No call's own id can be taken for one: those end in a number."""
    call = call_id("s1/1", 2)
    assert claim_id(call) == "s1/1/2/started"
