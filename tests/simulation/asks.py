"""What must hold of sessions that speak to each other, and of calls that wait: for agents, for people, for time."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from simulation.invariants import Record, Topics, distinct_events, facts, fold, lives, place_of

from agents.catalog import Catalog
from schemas.codec import encode
from schemas.events import ToolCalled, ToolReturned, TurnCancelled, TurnCompleted, TurnFailed, TurnStarted
from schemas.log import CancelRequested, ChildEnded, MessageAccepted, TimerFired


def check_told(topics: Topics, catalog: Catalog) -> None:
    """What sessions say to each other is in the other's log, however often, always the same; and nothing else is."""
    said = {encode(fact) for step in fold(topics, catalog)[1].values() for fact in step.facts}
    log = {record.value for record, _ in facts(topics)}
    heard = {record.value for record, _ in _told(topics)}
    assert said <= log, f"said, and not heard: {said - log}"
    assert heard <= said, f"heard, and not said: {heard - said}"


def _told(topics: Topics) -> Iterator[tuple[Record, MessageAccepted | CancelRequested | ChildEnded]]:
    for record, event in facts(topics):
        if isinstance(event, ChildEnded) or (
            isinstance(event, MessageAccepted | CancelRequested) and event.asked_by is not None
        ):
            yield record, event


def check_asks(topics: Topics) -> None:
    """A question to an agent has one result, or its turn has ended before; then the asked agent is told to stop.

    It works on the question once.
    """
    cancelled = {event.message_id for _, event in _told(topics) if isinstance(event, CancelRequested)}
    runs: Counter[tuple[str, int, str]] = Counter()
    asked: dict[tuple[str, int, str], str] = {}
    results: Counter[tuple[str, int, str]] = Counter()
    unanswered: set[tuple[str, int, str]] = set()
    for (name, life, _), event in distinct_events(topics).items():
        match event:
            case TurnStarted() if event.asked_by:
                runs[name, life, event.message_id] += 1
            case ToolCalled() if event.child_session_id:
                asked[name, life, event.call_id] = event.turn_id
            case ToolReturned():
                results[name, life, event.call_id] += 1
            case TurnCompleted() | TurnFailed() | TurnCancelled():
                open_calls = {
                    call for call, turn in asked.items() if turn == event.turn_id and call[:2] == (name, life)
                }
                unanswered |= open_calls - results.keys()
            case _:
                pass
    again = {call: count for call, count in runs.items() if count > 1}
    assert not again, f"questions that were worked on more than once: {again}"
    wrong = {call: results[call] for call in asked if results[call] != (call not in unanswered)}
    assert not wrong, f"questions and how many results they have: {wrong}"
    going_on = {call_id for _, _, call_id in unanswered} - cancelled
    assert not going_on, f"the turns that asked have ended, and nobody told those who were asked: {going_on}"


def check_cancelled(topics: Topics, catalog: Catalog) -> None:
    """A session that is told to stop has ended its turn there, if not before."""
    steps = fold(topics, catalog)[1]
    for record, event in _told(topics):
        step = steps[place_of(record)]
        if isinstance(event, CancelRequested) and step.session is not None:
            turn = step.session.head.turn
            assert turn is None or turn.message_id != event.message_id, f"{event} did not stop {turn}"


def check_timers(topics: Topics, catalog: Catalog) -> None:
    """A timer rings when it is due, and changes its call once."""
    steps, ends = fold(topics, catalog)[1], lives(topics, catalog)
    changed: defaultdict[tuple[str, int], int] = defaultdict(int)
    for record, event in facts(topics):
        if isinstance(event, TimerFired):
            assert event.at >= event.due, f"{event} rang too early"
            life = sum(end < record.offset for end in ends.get(event.session_id, []))
            changed[event.call_id, life] += event.call_id in steps[place_of(record)].settled
    again = [call for call, count in changed.items() if count > 1]
    assert not again, f"calls that several timers changed: {again}"
