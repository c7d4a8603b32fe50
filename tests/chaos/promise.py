"""The promise, checked on what the topics hold: every accepted message is answered, once."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

ENDS = frozenset({"turn_completed", "turn_failed", "turn_cancelled"})
Event = dict[str, Any]
Ledger = Mapping[str, Mapping[str, int]]
"""For each call id, how often the model was called, and how often it answered in full."""


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


def assert_not_paid_twice(calls: Ledger, unrecorded: Ledger) -> None:
    """Only calls that were `unrecorded` when something died were begun again; no other answer was paid twice.

    What the model had answered by then without a record of it is paid again, and nothing else is.
    """
    again = {call for call, counts in calls.items() if counts["started"] > 1}
    assert again <= unrecorded.keys(), f"begun again without a reason: {sorted(again - unrecorded.keys())[:5]}"
    answered = {call for call, counts in unrecorded.items() if counts["completed"]}
    twice = {call: counts for call, counts in calls.items() if counts["completed"] > 1 and call not in answered}
    assert not twice, f"answered twice: {dict(list(twice.items())[:5])}"
