"""What of a feed is new to a reader.

Whatever comes again, in whatever order the two topics were read: nothing is lost, nothing comes twice, and no delta is
shown outside of its turn.
"""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.cursor import Cursor
from gateway.feeds.items import Entry, Item
from gateway.feeds.position import BEGINNING, Position


def event(seq: int, turn: int, *, ends: bool = False, at_ms: int | None = None) -> Item:
    return Item(seq, 0, turn, ends, at_ms if at_ms is not None else 1_000 * seq, b"{}")


def delta(place: int, turn: int) -> Item:
    return Item(0, place, turn, False, 0, b"{}")


def places(entries: list[Entry]) -> list[int]:
    return [entry.item.place for entry in entries if entry.kind == "delta"]


def seqs(entries: list[Entry]) -> list[int]:
    return [entry.item.seq for entry in entries if entry.kind == "event"]


@st.composite
def histories(draw: st.DrawFn) -> list[Item]:
    """A session as it happens: turns of events with deltas between them; some messages are turned away meanwhile."""
    items: list[Item] = []
    seq, place, turn = 0, draw(st.integers(0, 50)), 0
    for _ in range(draw(st.integers(1, 4))):
        turn += 1
        running = turn
        seq += 1
        items.append(event(seq, running))
        for kind in draw(st.lists(st.sampled_from("deta"), max_size=8)):
            if kind == "a":
                turn += 1
                seq += 1
                items.append(event(seq, turn, ends=True))
            elif kind == "e":
                seq += 1
                items.append(event(seq, running))
            else:
                place += draw(st.integers(1, 9))
                items.append(delta(place, running))
        if draw(st.booleans()) or turn < running:
            seq += 1
            items.append(event(seq, running, ends=True))
        else:
            return items
    return items


def running_turn(items: list[Item]) -> int:
    """The turn that runs after these items; 0: none."""
    running = 0
    for item in items:
        if item.is_event and not item.ends_turn:
            running = item.turn
        elif item.is_event and item.turn == running:
            running = 0
    return running


def kept(items: list[Item]) -> list[Item]:
    """What Redis keeps of them: the deltas of the turn that runs, and all events."""
    running = running_turn(items)
    return [item for item in items if item.is_event or item.turn == running]


@given(histories())
def test_a_reader_who_was_there_sees_everything(items: list[Item]) -> None:
    """As it happens, each item is given once, and the position grows with each."""
    cursor = Cursor(BEGINNING)
    entries = [entry for item in items for entry in cursor.take([item])]
    assert [entry.item for entry in entries] == items
    assert all(a.position != b.position for a, b in pairwise(entries))
    assert all(
        a.position.event <= b.position.event and a.position.delta <= b.position.delta for a, b in pairwise(entries)
    )


@given(histories(), st.data())
def test_resumed_anywhere(items: list[Item], data: st.DataObject) -> None:
    """From any position, what Redis keeps by then gives all later events, and the rest of the answer that runs."""
    cursor = Cursor(BEGINNING)
    entries = cursor.take(items)
    cut = data.draw(st.integers(0, len(entries)))
    position = entries[cut - 1].position if cut else BEGINNING
    rest = Cursor(position).take(kept(items))
    later = [entry.item for entry in entries[cut:]]
    assert [entry.item for entry in rest] == [item for item in later if item in kept(items)]
    assert seqs(rest) == [item.seq for item in later if item.is_event]


@given(histories(), st.data(), st.integers(0, 2**32))
def test_redis_is_filled_again(items: list[Item], data: st.DataObject, seed: int) -> None:
    """Under a reader: events and deltas come again, each kind in its order, interleaved anyhow, several times."""
    cut = data.draw(st.integers(0, len(items)))
    cursor = Cursor(BEGINNING)
    entries = cursor.take(items[:cut])
    mixing = random.Random(seed)
    for _ in range(data.draw(st.integers(1, 3))):
        events = [item for item in items if item.is_event]
        deltas = [item for item in items if not item.is_event]
        while events or deltas:
            source = events if not deltas or (events and mixing.random() < 0.5) else deltas
            entries += cursor.take([source.pop(0)])
    check(entries, items)
    # The answer that runs is there in full: a resumed reader has it from its own past.
    running = running_turn(items)
    assert [p for p in places(entries) if p in {i.place for i in items if i.turn == running}] == [
        item.place for item in items if not item.is_event and item.turn == running
    ]


@given(histories(), st.data(), st.integers(0, 2**32))
def test_resumed_while_redis_is_filled(items: list[Item], data: st.DataObject, seed: int) -> None:
    """A reader who comes with a position while Redis has some events and any deltas."""
    seen = Cursor(BEGINNING).take(items)
    cut = data.draw(st.integers(0, len(seen)))
    position = seen[cut - 1].position if cut else BEGINNING
    before = {(entry.item.seq, entry.item.place) for entry in seen[:cut]}
    mixing = random.Random(seed)
    events = [item for item in items if item.is_event]
    deltas = [item for item in items if not item.is_event]
    cursor, entries = Cursor(position), []
    while events or deltas:
        source = events if not deltas or (events and mixing.random() < 0.5) else deltas
        entries += cursor.take([source.pop(0)])
    assert not before & {(entry.item.seq, entry.item.place) for entry in entries}
    assert seqs(entries) == [entry.item.seq for entry in seen[cut:] if entry.kind == "event"]
    check(entries, items)
    running = running_turn(items)
    wanted = [entry.item.place for entry in seen[cut:] if entry.kind == "delta" and entry.item.turn == running]
    assert [place for place in places(entries) if place in wanted] == wanted


def check(entries: list[Entry], items: list[Item]) -> None:
    """Each at most once, events without a gap, deltas in order and inside their turn."""
    assert places(entries) == sorted(set(places(entries)))
    numbers = seqs(entries)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    assert {entry.item for entry in entries} <= set(items)
    ended: set[int] = set()
    for entry in entries:
        if entry.kind == "event" and entry.item.ends_turn:
            ended.add(entry.item.turn)
        assert entry.kind == "event" or entry.item.turn not in ended, "a delta after the end of its turn"


def test_from_now_on() -> None:
    """What was there is not given again, not even when Redis is filled again; the rest of the answer is."""
    items = [event(1, 1), delta(5, 1)]
    cursor = Cursor(BEGINNING)
    cursor.skip(items)
    assert cursor.take(items) == []
    assert places(cursor.take([delta(6, 1)])) == [6]
    assert places(cursor.take([delta(5, 1), *items, delta(6, 1), delta(8, 1)])) == [8]


def test_what_is_missing_is_named() -> None:
    """Redis begins behind the reader: the events between are to be read elsewhere."""
    cursor = Cursor(Position(3, 0))
    assert cursor.missing([event(3, 1), event(4, 1)]) is None
    assert cursor.missing([delta(9, 2), event(7, 2), event(8, 2)]) == range(4, 7)
    assert seqs(cursor.take([event(number, 2) for number in range(4, 7)])) == [4, 5, 6]
    assert cursor.missing([event(7, 2)]) is None


def test_a_session_that_begins_anew() -> None:
    """It was forgotten: its events count from 1 again, and are new."""
    cursor = Cursor(BEGINNING)
    cursor.take([event(1, 1), event(2, 1, ends=True)])
    anew = [event(1, 1, at_ms=9_000), delta(90, 1), event(2, 1, ends=True, at_ms=9_500)]
    assert cursor.missing(anew) is None
    assert len(cursor.take(anew)) == 3
    assert cursor.take(anew) == []


def test_deltas_wait_for_the_event_that_the_reader_has() -> None:
    """Who comes with a position alone does not know which turn runs until its event is met again."""
    cursor = Cursor(Position(2, 4))
    assert cursor.take([delta(3, 1), delta(6, 1), delta(7, 2)]) == []
    assert cursor.take([event(1, 1)]) == []
    assert places(cursor.take([event(2, 1)])) == [6]
    assert [(e.kind, str(e.position)) for e in cursor.take([event(3, 1, ends=True), event(4, 2)])] == [
        ("event", "3-6"),
        ("event", "4-6"),
        ("delta", "4-7"),
    ]


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "1-2-3", "a-b", "1 - 2", "-1-2", "1-" + "9" * 19, "1-2\n", "१-२"]
)
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="expected a position"):
        Position.parse(text)


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
def test_a_position_is_read_as_it_is_written(seq: int, place: int) -> None:
    assert Position.parse(str(Position(seq, place))) == Position(seq, place)
