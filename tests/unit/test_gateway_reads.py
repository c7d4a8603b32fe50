"""The pure parts of what is read at the gateway: transcripts, cursors, counters, the picture of the flow."""

import base64
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from histories import NOW, History, agent, catalog, use
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.brokers import Sample
from gateway.problems import Code, Problem
from gateway.reads.addresses import is_address
from gateway.reads.entries import Answered, Entry, Overspent, Said, ToolUsed, entries, events_of, user_message
from gateway.reads.flow import NODES, flow
from gateway.reads.paging import page, read_cursor, utc, write_cursor
from gateway.reads.stats import counts
from gateway.reads.times import milliseconds_between, of_milliseconds
from schemas.codec import encode
from schemas.content import Base64Source, ImageBlock, TextBlock, UrlSource
from schemas.events import BudgetExceeded, budget_of
from schemas.failure import FailureCode
from schemas.log import BroadcastAccepted, MessageAccepted, ModelCompleted, SpendingRefused
from schemas.topics import DEAD_LETTERS, SESSION_LOG, TOOL_CALLS, TOPICS


def read(history: History, never_started: set[str] | None = None) -> list[Entry]:
    """The transcript of the whole history."""
    messages = {fact.message_id: fact for _, fact, _ in history.log if isinstance(fact, MessageAccepted)}
    said = {(fact.call_id, fact.at): fact for _, fact, _ in history.log if isinstance(fact, ModelCompleted)}
    return list(entries(history.seen, never_started or set(), messages, said))


def kinds(read_entries: list[Entry]) -> list[str]:
    return [str(entry.__struct_config__.tag) for entry in read_entries]


def test_a_gathering_begins_with_its_broadcast() -> None:
    """It is told once, as a message is, however many agents get it; the replies follow."""
    history = History(catalog(agent("ada"), agent("bob")), "b:@")
    broadcast = BroadcastAccepted(
        session_id="b:@",
        broadcast_id="b",
        content=(TextBlock(text="who is there?"),),
        gather="all",
        deadline=NOW + timedelta(seconds=30),
        at=NOW,
        user_id="ann",
    )
    history.feed(broadcast)
    found = list(entries(history.seen, set(), {"b": broadcast}, {}))
    assert kinds(found) == ["user_message", "broadcast", "broadcast"]
    said = found[0]
    assert isinstance(said, Said)
    assert (said.text, said.user_id, said.message_id) == ("who is there?", "ann", "b")


def test_whose_budget_was_exceeded_is_read() -> None:
    """Of a shared one its name, as its file has it; of an agent's own there is none."""
    history = History()
    history.say("m1")
    refused = {"scope": "user", "unit": "micros", "limit": 1_000, "spent": 900, "reserved": 200, "budget": "users"}
    history.feed(
        msgspec.convert(
            {"session_id": "s1", "call_id": history.model_call(), "at": history.clock.at, **refused}, SpendingRefused
        )
    )
    (told,) = [entry for entry in read(history) if isinstance(entry, Overspent)]
    assert (told.scope, told.budget, told.action) == ("user", "users", "stop")
    (event,) = [event for event in history.seen if isinstance(event, BudgetExceeded)]
    assert budget_of(event) == "user, users"
    assert budget_of(replace(event, scope="turn", budget=msgspec.UNSET)) == "turn"


def test_what_the_model_said_before_its_tools_is_said_once() -> None:
    """With the first of them, also where that one waits for approval and is called again later."""
    history = History()
    history.say("m1")
    history.clock.forward(1)
    history.model_says("I look it up", use("send", "u1"), use("add", "u2"))
    history.clock.forward(1)
    waiting, running = history.pending()
    history.tool_returns(running)
    history.decide(waiting, "approve")
    history.clock.forward(1)
    history.tool_returns(waiting)
    history.clock.forward(1)
    history.model_says("done")
    found = read(history)
    assert kinds(found) == [
        "user_message",
        "assistant_message",
        "tool_use",
        "tool_use",
        "tool_result",
        "approval",
        "tool_use",
        "tool_result",
        "assistant_message",
    ]
    said = [(entry.text, entry.step, entry.is_answer) for entry in found if isinstance(entry, Answered)]
    assert said == [("I look it up", 1, False), ("done", None, True)]
    uses = [(entry.call_id, entry.needs_approval) for entry in found if isinstance(entry, ToolUsed)]
    assert uses == [("s1/1/2", True), ("s1/1/3", False), ("s1/1/2", False)]


def test_a_message_that_never_had_a_turn_is_read_all_the_same() -> None:
    """It stands before its end."""
    history = History()
    history.say("m1")
    history.say("m2", "never mind")
    history.cancel("m2")
    history.model_fails(FailureCode.OVERLOADED)
    found = read(history, {"s1/2"})
    assert kinds(found) == ["user_message", "user_message", "turn_cancelled", "turn_failed"]
    assert isinstance(found[1], Said)
    assert (found[1].text, found[1].turn_id) == ("never mind", "s1/2")


def test_what_is_not_stored_any_more_leaves_a_gap_that_shows() -> None:
    """The message is there without its text; the events that are there are read."""
    history = History()
    history.say("m1")
    history.model_says("hello")
    first, second = entries(history.seen, set(), {}, {})
    assert isinstance(first, Said)
    assert (first.text, first.message_id) == (None, "m1")
    assert isinstance(second, Answered)
    assert second.text == "hello"


def test_an_event_that_is_stored_twice_is_read_once() -> None:
    """A session that begins anew counts from 1 again, at a later time: those are others."""
    history = History()
    history.say("m1")
    again = msgspec.structs.replace(history.seen[0], at=NOW + timedelta(days=40))
    bodies = [encode(event).decode() for event in (*history.seen, *history.seen, again)]
    assert events_of(bodies) == [*history.seen, again]


def test_images_are_named_and_not_sent() -> None:
    """Where it is, or how large it is."""
    message = MessageAccepted(
        session_id="s",
        message_id="m",
        at=NOW,
        content=(
            TextBlock(text="look"),
            ImageBlock(source=Base64Source(media_type="image/png", data="iVBORw0KGgo=")),
            ImageBlock(source=UrlSource(url="https://example.org/a.png")),
        ),
    )
    said = user_message("m", None, message, NOW)
    assert (said.text, [(image.url, image.bytes) for image in said.images]) == (
        "look",
        [(None, 9), ("https://example.org/a.png", None)],
    )
    assert b"iVBOR" not in encode(said)


PLACES = st.tuples(st.datetimes(timezones=st.just(UTC)), st.text(st.characters(codec="utf-8", exclude_characters="\0")))


@given(PLACES)
def test_a_cursor_is_the_place_that_it_was_made_of(place: tuple[datetime, str]) -> None:
    """Whatever an id holds; and it can stand in a URL as it is."""
    cursor = write_cursor(*place)
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert read_cursor(cursor, tuple[datetime, str], (NOW, "")) == place


@given(st.text() | st.binary().map(lambda value: base64.urlsafe_b64encode(value).decode()))
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    """Nothing else comes of it than a place or a problem that says what to do."""
    with pytest.raises(Problem) as refused:
        read_cursor(cursor, tuple[date, str], None)
    assert (refused.value.code, len(refused.value.errors)) == (Code.NOT_VALID, 1)


def test_a_page_has_a_next_one_where_there_is_more() -> None:
    """One row more than is shown was asked for."""
    assert page([1, 2, 3], 2) == ([1, 2], 2)
    assert page([1, 2], 2) == ([1, 2], None)
    assert page([], 2) == ([], None)


def test_times() -> None:
    """In UTC; one without a zone is in UTC; one outside the calendar is refused by its name."""
    assert utc(None, "from") is None
    assert utc(datetime(2026, 1, 1), "from") == datetime(2026, 1, 1, tzinfo=UTC)  # noqa: DTZ001  # Somebody may send it.
    with pytest.raises(Problem, match="`to`"):
        utc(datetime.fromisoformat("9999-12-31T23:59:59-10:00"), "to")
    assert of_milliseconds(1_500) == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert milliseconds_between(NOW, NOW + timedelta(seconds=1.5)) == 1_500
    assert milliseconds_between(NOW, NOW - timedelta(seconds=1)) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.2.3.4", True), ("::1", True), ("1.2.3", False), ("10.0.0.0/8", False), ("fe80::1%eth0", False), ("", False)],
)
def test_addresses(text: str, expected: bool) -> None:  # noqa: FBT001  # It is what is expected.
    """One machine's."""
    assert is_address(text) == expected


def test_counters_of_tools_with_strange_names() -> None:
    """A model can call a tool what it likes; counters that a newer version adds are left out."""
    found: dict[str, Any] = counts(
        {b"tool/a/b/calls": b"2", b"tool/a/b/errors": b"1", b"agent/x/turns_started": b"3", b"agent/x/new": b"1"}
    )
    assert [(tool.tool, tool.calls, tool.errors) for tool in found["tools"]] == [("a/b", 2, 1)]
    assert [(agent.agent, agent.turns_started, agent.turns_failed) for agent in found["agents"]] == [("x", 3, 0)]


def sample(at_s: float, end: int, committed: dict[str, dict[tuple[str, int], int]] | None = None) -> Sample:
    """Two partitions of each topic, from 10 to `end`."""
    places = [(topic.name, number) for topic in TOPICS for number in range(2)]
    return Sample(
        at_s=at_s,
        begins=dict.fromkeys(places, 10),
        ends=dict.fromkeys(places, end),
        committed={} if committed is None else committed,
    )


def test_rates_and_lag() -> None:
    """Over all partitions: what was written between two samples, and what a group has left."""
    log, calls = SESSION_LOG.name, TOOL_CALLS.name
    committed = {
        "": {(log, 0): 30, (log, 1): 40, (calls, 0): 5},
        "events": {(log, 0): 50, (log, 1): 45},
    }
    found = flow(sample(1.0, 40), sample(3.0, 50, committed), NOW, dead_letters_last_hour=1, active_sessions=2)
    topics = {topic.name: topic for topic in found.topics}
    assert (topics[log].records_per_second, topics[log].records, topics[log].lag) == (10.0, 80, 30)
    assert topics[log].reader == "decide"
    # Nothing committed, or what is not there any more: everything there is.
    assert found.open_tool_calls == found.open_model_calls == 80
    assert (topics[DEAD_LETTERS.name].lag, topics[DEAD_LETTERS.name].reader) == (None, None)
    assert [(one.name, one.lag) for one in found.projections] == [("events", 5)]


def test_a_topic_that_was_made_again_has_no_negative_rate() -> None:
    """Nor does the first sample have one."""
    again = flow(sample(1.0, 50), sample(2.0, 10), NOW, dead_letters_last_hour=0, active_sessions=0)
    alone = flow(sample(1.0, 50), sample(1.0, 50), NOW, dead_letters_last_hour=0, active_sessions=0)
    assert {topic.records_per_second for one in (again, alone) for topic in one.topics} == {0.0}


def test_the_picture_has_every_topic() -> None:
    """Each is read or written by somebody in it."""
    assert {name for node in NODES for name in (*node.reads, *node.writes)} == {topic.name for topic in TOPICS}
