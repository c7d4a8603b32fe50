"""What a reader of a session drops, record by record."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from headrace.sequence import SessionReader
from schemas.events import AgentDelta, AgentEvent, DeltaReset, TextDelta, TurnCancelled, TurnStarted

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def event(seq: int, at: datetime = NOW) -> AgentEvent:
    return TurnStarted(session_id="s1", turn_id="s1/1", message_id="m1", seq=seq, at=at, agent="assistant")


def end(seq: int) -> AgentEvent:
    return TurnCancelled(session_id="s1", turn_id="s1/1", message_id="m1", seq=seq, at=NOW, agent="assistant")


def text(step: int, attempt: int, seq: int, turn: int = 1) -> AgentDelta:
    return TextDelta(session_id="s1", turn_id=f"s1/{turn}", step=step, attempt=attempt, seq=seq, text="x")


def reset(step: int, attempt: int, turn: int = 1) -> AgentDelta:
    return DeltaReset(session_id="s1", turn_id=f"s1/{turn}", step=step, attempt=attempt, seq=0)


@pytest.mark.parametrize(
    ("seqs", "new"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([1, 2, 1, 2, 3], [1, 2, 3]),
        ([7, 8, 7, 8, 8, 9], [7, 8, 9]),
    ],
)
def test_repeated_events(seqs: list[int], new: list[int]) -> None:
    """Whatever part a worker repeats, each event is new once; a reader may begin in the middle."""
    reader = SessionReader()
    assert [seq for seq in seqs if reader.is_new(event(seq))] == new


def test_session_that_begins_again() -> None:
    """Only a later first event begins a session again; then its whole sequence is new."""
    reader = SessionReader()
    later = NOW + timedelta(days=31)
    history = [event(1), event(2), event(1), event(1, later), event(2, later), event(1, later)]
    assert [reader.is_new(item) for item in history] == [True, True, False, True, True, False]


def test_session_that_begins_again_with_an_end() -> None:
    """The first message of a new life may be turned away, or cancelled in the queue: its end is what begins it."""
    reader = SessionReader()
    again = replace(end(1), at=NOW + timedelta(days=31))
    assert [reader.is_new(item) for item in (event(1), event(2), again, again)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("deltas", "current"),
    [
        ([text(1, 1, 0), text(1, 1, 1), text(1, 1, 1), text(1, 1, 0)], [True, True, False, False]),
        ([text(1, 1, 0), reset(1, 2), text(1, 1, 1), text(1, 2, 1)], [True, True, False, True]),
        ([text(1, 1, 0), text(3, 1, 0), text(1, 1, 1)], [True, True, False]),
        # After a crash, the call is made again from its first attempt.
        ([text(1, 3, 9), reset(1, 1), text(1, 1, 1)], [True, True, True]),
        ([text(1, 1, 5), text(1, 1, 0, turn=2)], [True, True]),
    ],
    ids=["repeated", "retried", "late step", "crashed", "next turn"],
)
def test_deltas(deltas: list[AgentDelta], current: list[bool]) -> None:
    """No text of a void attempt is shown after its reset."""
    reader = SessionReader()
    assert [reader.is_current(delta) for delta in deltas] == current


def test_deltas_after_the_end() -> None:
    """The turn's end has the whole answer: a delta that comes after it, even a reset, says nothing."""
    reader = SessionReader()
    assert reader.is_new(end(1))
    assert not reader.is_current(text(1, 1, 0))
    assert not reader.is_current(reset(1, 2))
    assert reader.is_current(text(1, 1, 0, turn=2))


def test_deltas_of_a_session_that_begins_again() -> None:
    """Its turns have the ids of those of its life before, whose end and deltas do not count."""
    reader = SessionReader()
    assert reader.is_new(event(1))
    assert reader.is_current(text(1, 1, 5))
    assert reader.is_new(end(2))
    assert reader.is_new(event(1, NOW + timedelta(days=31)))
    assert reader.is_current(text(1, 1, 0))
