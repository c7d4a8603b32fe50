"""The promise, checked on what the topics hold: every accepted message is answered, once."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

ENDS = frozenset({"turn_completed", "turn_failed", "turn_cancelled"})
Event = dict[str, Any]


def once(events: Iterable[Event]) -> list[Event]:
    """The events without repetitions, which must be the same in all that they say."""
    first: dict[tuple[str, int], Event] = {}
    for event in events:
        known = first.setdefault((event["session_id"], event["seq"]), event)
        assert known == event, f"two events in one place: {known} and {event}"
    return list(first.values())


def assert_answered_once(events: Iterable[Event], messages: Iterable[tuple[str, str]]) -> None:
    """Each of the `messages`, (session id, message id), has exactly one end, and each session's seq has no gap."""
    distinct = once(events)
    ends = Counter((event["session_id"], event["message_id"]) for event in distinct if event["type"] in ENDS)
    expected = Counter(messages)
    assert not expected - ends, f"not answered: {list(expected - ends)[:5]}"
    assert not ends - expected, f"answered more than once, or never sent: {list(ends - expected)[:5]}"
    seqs: defaultdict[str, list[int]] = defaultdict(list)
    for event in distinct:
        seqs[event["session_id"]].append(event["seq"])
    gaps = {session: seq for session, seq in seqs.items() if sorted(seq) != list(range(1, len(seq) + 1))}
    assert not gaps, f"seq has gaps: {dict(list(gaps.items())[:3])}"


def assert_not_paid_twice(calls: dict[str, dict[str, int]], begun_again: Iterable[str]) -> None:
    """No model call answered twice, and only those that were in flight when something died were begun again."""
    twice = {call: counts for call, counts in calls.items() if counts["completed"] > 1}
    assert not twice, f"answered twice: {dict(list(twice.items())[:5])}"
    again = {call for call, counts in calls.items() if counts["started"] > 1}
    assert again <= set(begun_again), f"begun again without a reason: {sorted(again - set(begun_again))[:5]}"


def in_flight(calls: dict[str, dict[str, int]]) -> set[str]:
    return {call for call, counts in calls.items() if counts["started"] > counts["completed"]}
