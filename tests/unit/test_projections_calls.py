"""Pure projections into Redis: each record makes the calls that say what it is, and nothing else."""

from datetime import UTC, datetime

import pytest
from projection_records import Topics, conversation, deltas

from projections.calls import Call, CallProjection, turn_number
from projections.catalog import PROJECTIONS
from projections.record import UNREADABLE, Record
from projections.redis_calls import FOLDER, script
from schemas.topics import AGENT_DELTAS


def calls_of(name: str, topics: Topics) -> list[Call]:
    projection = PROJECTIONS[name]
    wanted = topics.of(*(topic.name for topic in projection.topics))
    return [row for record in wanted for row in projection.rows(record) if isinstance(row, Call)]


def told() -> Topics:
    topics = Topics()
    topics.tell(conversation("s1", tenant="acme"))
    return topics


def test_the_feed_has_events_and_deltas() -> None:
    """Events say where they are in the session, deltas in which turn; both as they were on their topic."""
    topics = told()
    for delta in deltas("s1", turn=1, texts=("Hel", "lo")):
        topics.put(AGENT_DELTAS.name, 0, delta)
    calls = calls_of("live", topics)
    assert {call.script for call in calls} == {"live_event", "live_delta"}
    assert {call.keys for call in calls} == {("live:s1", "live-state:s1", "feed:s1")}
    events = [call for call in calls if call.script == "live_event"]
    assert [call.arguments[0] for call in events] == list(range(1, len(events) + 1))
    assert sum(call.arguments[3] == 1 for call in events) == 2, "two turns ended"


def test_a_session_says_what_it_does() -> None:
    """Status after each event, in the words that readers get."""
    statuses = [call.arguments[call.arguments.index("status") + 1] for call in calls_of("sessions", told())]
    assert statuses == ["running", "running", "running", "completed", "running", "failed"]


def test_counters_are_named_by_agent_and_tool() -> None:
    """The sums over a conversation of two turns, one of which failed."""
    sums: dict[str, int] = {}
    for call in calls_of("statistics", told()):
        parts = call.arguments[8:]
        for name, count in zip(parts[::2], parts[1::2], strict=True):
            sums[str(name)] = sums.get(str(name), 0) + int(count)
    assert sums == {
        "agent/assistant/turns_started": 2,
        "agent/assistant/turns_completed": 1,
        "agent/assistant/turns_failed": 1,
        "agent/assistant/tool_calls": 1,
        "agent/assistant/input_tokens": 1,
        "agent/assistant/output_tokens": 12,
        "agent/assistant/cost_micros": 4,
        "tool/add/calls": 1,
        "tool/add/results": 1,
    }


def test_summaries_are_of_users_who_have_a_name() -> None:
    """The first message of the conversation names its user, the second does not."""
    (call,) = calls_of("summaries", told())
    assert call.keys == ("summary:s1", "summary-messages:s1", "user:acme/ann")
    assert call.arguments[4:] == ("m1", "what is 1 + 2?", "ann", "acme")


@pytest.mark.parametrize("turn_id", ["s1", "s1/", "s1/x", "s1/-1", "s1/²"])
def test_a_turn_id_ends_in_a_number(turn_id: str) -> None:
    """One that does not is left out, and does not stop the loop."""
    assert turn_number("s1/12") == 12
    with pytest.raises(UNREADABLE):
        turn_number(turn_id)


@pytest.mark.parametrize("value", [b"", b"{", b"null", b"[" * 100_000, b'{"type": "strange"}', b"\xff"])
def test_what_is_no_record_is_said_so(value: bytes) -> None:
    """Whatever is on a topic, the loop can leave it out."""
    for projection in PROJECTIONS.values():
        if isinstance(projection, CallProjection):
            for topic in projection.topics:
                with pytest.raises(UNREADABLE):
                    list(projection.rows(Record(topic.name, 0, 0, value)))


def test_a_record_has_its_time() -> None:
    """In UTC, from milliseconds."""
    assert Record("t", 0, 0, b"", 1_500).at == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)


def test_the_scripts_that_are_named_are_there() -> None:
    """Each begins with a sentence, and none is left over."""
    topics = told()
    for delta in deltas("s1", turn=1, texts=("a",)):
        topics.put(AGENT_DELTAS.name, 0, delta)
    named = {
        call.script
        for name, projection in PROJECTIONS.items()
        if isinstance(projection, CallProjection)
        for call in calls_of(name, topics)
    }
    assert named == {path.stem for path in FOLDER.glob("*.lua")}
    assert all(script(name)[0].startswith("-- ") for name in named)
