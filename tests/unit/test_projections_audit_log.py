"""The audit log: each act is a row that says who did what, and how it ended."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from histories import History, use
from projection_records import Topics, audited, conversation, letter

from projections.audit_log import AUDIT_LOG, AuditRow
from schemas.audit import Act, Outcome, audit_key
from schemas.failure import FailureCode
from schemas.ids import tenant_of_session
from schemas.topics import AUDIT_EVENTS, DEAD_LETTERS


def rows_of(topics: Topics) -> list[AuditRow]:
    wanted = topics.of(*(topic.name for topic in AUDIT_LOG.topics))
    rows = [row for record in wanted for row in AUDIT_LOG.rows(record)]
    assert all(isinstance(row, AuditRow) for row in rows)
    return rows  # type: ignore[return-value]  # Just asserted.


def told(history: History) -> list[AuditRow]:
    topics = Topics()
    topics.tell(history)
    return rows_of(topics)


def details(row: AuditRow) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(row.details)
    return found


def test_a_conversation_leaves_its_acts() -> None:
    """Messages, tools and failures are acts; what was said, and the model's answers, are not in the log."""
    rows = told(conversation("acme:1"))
    assert [(row.id, row.event_type, row.outcome) for row in rows] == [
        ("session-log/0/0", "message_accepted", "success"),
        ("session-log/0/2", "tool_completed", "success"),
        ("session-log/0/4", "message_accepted", "success"),
        ("session-log/0/5", "model_failed", "failed"),
    ]
    assert [row.user_id for row in rows] == ["ann", None, None, None]
    assert {row.tenant for row in rows} == {"acme"}
    assert (rows[3].outcome_details, details(rows[3])["code"]) == ("why", "overloaded")
    assert not any("1 + 2" in row.details for row in rows)


def test_what_people_decide_is_theirs() -> None:
    """A cancellation, an approval, a denial, an end: who asked for it, and why."""
    history = History()
    history.say("m1", user_id="ann", tenant="acme")
    history.model_says(use("send", "u1"), use("send", "u2"))
    first, second = history.pending()
    history.decide(first, "approve", "c1")
    history.decide(second, "deny", "c2")
    history.cancel("m1", "c3")
    history.end("c4")
    history.expire()
    rows = told(history)
    assert [(row.event_type, row.outcome, row.user_id) for row in rows] == [
        ("message_accepted", "success", "ann"),
        ("approval_decided", "success", "ann"),
        ("approval_decided", "denied", "ann"),
        ("cancel_requested", "success", "ann"),
        ("session_end_requested", "success", None),
        ("session_expired", "success", None),
    ]
    assert [details(row).get("command_id") for row in rows] == ["m1", "c1", "c2", "c3", "c4", None]
    assert details(rows[2])["call_id"] == second
    assert (rows[0].tenant, rows[1].tenant) == ("acme", None), "the message says it, and the id does not"


@pytest.mark.parametrize(("code", "outcome"), [(FailureCode.TOOL_ERROR, "failed"), (FailureCode.DENIED, "denied")])
def test_a_tool_that_fails(code: FailureCode, outcome: str) -> None:
    """Whether it could not, or was not allowed to."""
    history = History()
    history.say("m1")
    history.model_says(use("add", "u1"))
    (call_id,) = history.pending()
    history.tool_starts(call_id)
    history.tool_fails(call_id, code)
    started, failed = told(history)[1:]
    assert (started.event_type, details(started)) == ("tool_started", {"call_id": call_id})
    assert (failed.event_type, failed.outcome, failed.outcome_details) == ("tool_failed", outcome, f"it failed: {code}")


def test_what_was_done_at_the_door_is_as_it_was_said() -> None:
    """The audit event is the row: its id, so that one that is published again is the same; its address and key."""
    topics = Topics()
    event = audited(7, details={"command_id": "m1"}, tenant="acme")
    topics.put(AUDIT_EVENTS.name, 0, event)
    topics.put(AUDIT_EVENTS.name, 0, event)
    one, two = rows_of(topics)
    assert (one.id, two.id) == ("a7", "a7")
    assert (one.event_type, one.user_id, one.session_id, one.tenant) == ("command_sent", "ann", "s1", "acme")
    assert (one.ip_address, one.key_id, details(one)) == ("192.0.2.7", "0123456789abcdef", {"command_id": "m1"})


@pytest.mark.parametrize(
    ("said", "kept"),
    [("2001:DB8::1", "2001:db8::1"), ("fe80::1%eth0", "fe80::1"), ("unknown", None), ("1.2.3.4, '; --", None)],
)
def test_an_address_that_is_none_hides_nothing(said: str, kept: str | None) -> None:
    """Whoever sends a strange header is in the log all the same, with what they sent."""
    topics = Topics()
    topics.put(AUDIT_EVENTS.name, 0, audited(1, event_type=Act.FORBIDDEN, outcome=Outcome.DENIED, ip_address=said))
    (row,) = rows_of(topics)
    assert row.ip_address == kept
    assert details(row).get("ip_address") == (said if kept is None else None)


def test_a_record_that_could_not_be_processed() -> None:
    """It is one act, however often it was buried, and names its dead letter."""
    topics = Topics()
    topics.put(DEAD_LETTERS.name, 0, letter(5))
    topics.put(DEAD_LETTERS.name, 0, letter(5, datetime(2026, 6, 1, tzinfo=UTC)))
    one, two = rows_of(topics)
    assert one.id == two.id == "dead-letters/user-messages/1/5"
    assert (one.event_type, one.outcome, one.outcome_details) == ("record_dead_lettered", "failed", "expected JSON")
    assert details(one) == {"id": "user-messages/1/5", "processor": "accept", "cause": "not_json"}


@pytest.mark.parametrize(
    ("session_id", "said", "tenant"),
    [
        ("acme:1", None, "acme"),
        ("acme:1", "other", "acme"),
        ("acme:b:c", None, "acme"),
        ("s1", "acme", "acme"),
        ("s1", None, None),
        (":1", None, None),
        ("ACME:1", None, None),
        ("a" * 64 + ":1", None, None),
    ],
)
def test_a_session_is_its_tenants_by_its_id(session_id: str, said: str | None, tenant: str | None) -> None:
    """What the message says counts only where the id says nothing."""
    assert tenant_of_session(session_id, said) == tenant


def test_acts_on_a_session_keep_their_order() -> None:
    """They have the session's key; those of none have that of who did them."""
    assert audit_key(audited(1)) == b"s1"
    assert audit_key(audited(1, session_id=None)) == b"0123456789abcdef"
    assert audit_key(audited(1, session_id=None, key_id=None)) is None
