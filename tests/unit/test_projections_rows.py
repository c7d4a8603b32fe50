"""Pure projections: histories of sessions in, rows out."""

from datetime import UTC, datetime

import msgspec
import pytest
from projection_records import Topics, conversation, letter, small_world

from projections.catalog import PROJECTIONS
from projections.dead_letters import DeadLetterRow
from projections.events import EventRow
from projections.projection import Row
from projections.record import UNREADABLE, Record, utc, without_nul
from projections.usage import ModelCallRow, TurnRow
from schemas.topics import AGENT_EVENTS, DEAD_LETTERS, SESSION_LOG


def rows_of(name: str, topics: Topics) -> list[Row]:
    projection = PROJECTIONS[name]
    wanted = topics.of(*(topic.name for topic in projection.topics))
    return [row for record in wanted for row in projection.rows(record)]


def told() -> Topics:
    topics = Topics()
    topics.tell(conversation("s1", tenant="acme"))
    return topics


def test_every_record_is_an_event() -> None:
    """The store has each fact and each agent event, with its turn where it has one, and the body as it was."""
    topics = told()
    rows = rows_of("events", topics)
    assert len(rows) == len(topics.records)
    facts = [row for row in rows if isinstance(row, EventRow) and row.topic == SESSION_LOG.name]
    assert [(row.id, row.type, row.turn_id) for row in facts] == [
        ("0/0", "message_accepted", None),
        ("0/1", "model_completed", "s1/1"),
        ("0/2", "tool_completed", "s1/1"),
        ("0/3", "model_completed", "s1/1"),
        ("0/4", "message_accepted", None),
        ("0/5", "model_failed", "s1/2"),
    ]
    events = [row for row in rows if isinstance(row, EventRow) and row.topic == AGENT_EVENTS.name]
    assert [row.id for row in events] == [f"s1/{seq}" for seq in range(1, len(events) + 1)]
    assert [row.body.encode() for row in events] == [record.value for record in topics.of(AGENT_EVENTS.name)]


def test_an_event_published_again_is_the_same() -> None:
    """It has another place, and the identity of the first."""
    topics = told()
    first = topics.of(AGENT_EVENTS.name)[0]
    again = topics.put(first.topic, first.partition, first.value)
    (one,), (two,) = (list(PROJECTIONS["events"].rows(record)) for record in (first, again))
    assert isinstance(one, EventRow)
    assert isinstance(two, EventRow)
    assert (one.topic, one.id, one.at) == (two.topic, two.id, two.at)
    assert one.offset < two.offset


def test_usage_has_turns_and_calls() -> None:
    """A turn says whose it is, a call what it took; they meet in the turn's id."""
    rows = rows_of("usage", told())
    turns = [row for row in rows if isinstance(row, TurnRow)]
    calls = [row for row in rows if isinstance(row, ModelCallRow)]
    assert [(turn.turn_id, turn.agent, turn.tenant) for turn in turns] == [
        ("s1/1", "assistant", "acme"),
        ("s1/2", "assistant", "acme"),
    ]
    assert [(call.turn_id, call.output_tokens, call.cost_micros, call.failure is None) for call in calls] == [
        ("s1/1", 7, 2, True),
        ("s1/1", 5, 2, True),
        ("s1/2", 0, 0, False),
    ]


def test_a_dead_letter_keeps_the_record_byte_for_byte() -> None:
    """Key and value are bytes; the headers keep their order."""
    topics = Topics()
    topics.put(DEAD_LETTERS.name, 0, letter(5))
    (row,) = rows_of("dead_letters", topics)
    assert isinstance(row, DeadLetterRow)
    assert (row.id, row.record_key, row.record_value) == ("user-messages/1/5", b"k", b"\x00\xff")
    assert row.record_headers == '[["a","/g=="]]'
    assert row.at == datetime(2026, 5, 1, tzinfo=UTC)


def test_the_same_records_make_the_same_rows() -> None:
    """Nothing but the record matters: not the time of day, not what came before."""
    topics = small_world()
    for name, projection in PROJECTIONS.items():
        once = rows_of(name, topics)
        wanted = topics.of(*(topic.name for topic in projection.topics))
        backwards = [row for record in reversed(wanted) for row in projection.rows(record)]
        assert once
        assert sorted(once, key=repr) == sorted(backwards, key=repr)


@pytest.mark.parametrize("value", [b"", b"{", b"null", b"[" * 100_000, b'{"type": "strange"}', b"\xff"])
def test_what_is_no_record_is_said_so(value: bytes) -> None:
    """Whatever is on a topic, the loop can leave it out."""
    for projection in PROJECTIONS.values():
        for topic in projection.topics:
            with pytest.raises(UNREADABLE):
                list(projection.rows(Record(topic.name, 0, 0, value)))


def test_a_time_outside_the_calendar_is_said_so() -> None:
    """A year that is 9999 here can be 10000 in UTC."""
    with pytest.raises(UNREADABLE):
        utc(datetime.fromisoformat("9999-12-31T23:59:59-10:00"))
    assert utc(datetime(2026, 1, 1)) == datetime(2026, 1, 1, tzinfo=UTC)  # noqa: DTZ001  # A record may have such a time.


def test_nul_is_replaced_everywhere() -> None:
    """In names and values, at any depth; a backslash before `u0000` is a backslash."""
    body = {"a\0": ["\0", {"b": "x\0y"}], "c": "\\u0000"}
    assert msgspec.json.decode(without_nul(msgspec.json.encode(body))) == {
        "a\ufffd": ["\ufffd", {"b": "x\ufffdy"}],
        "c": "\\u0000",
    }
    untouched = b'{"a": 1.50}'
    assert without_nul(untouched) is untouched
