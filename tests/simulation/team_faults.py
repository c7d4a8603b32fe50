"""Small faults in how replies are gathered, how patterns go on, and how the results of remote tools are heard."""

import asyncio
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from agents import gathering, pattern_turn
from agents.pattern_rules import Answer
from streams import accept_results
from streams.accept_results import AcceptResults
from streams.remote_calls import Awaited, RemoteCalls
from streams.route_broadcast import RouteBroadcasts
from streams.sessions import Sessions


def a_gathering_has_enough_too_early() -> Any:
    needed = gathering._needed
    return patch.object(gathering, "_needed", lambda gather, agents: max(1, needed(gather, agents) - 1))


def a_failure_is_an_answer() -> Any:
    replied = gathering._replied

    def lenient(draft: Any, event: Any) -> None:
        known = draft.head.gathering
        draft.set(gathering=replace(known, wants_all=True))
        replied(draft, event)
        draft.set(gathering=replace(draft.head.gathering, wants_all=known.wants_all))

    return patch.object(gathering, "_replied", lenient)


def a_late_reply_completes_a_gathering_again() -> Any:
    replied = gathering._replied

    def again(draft: Any, event: Any) -> None:
        known = draft.head.gathering
        replied(draft, event)
        if not known.is_open and not draft.head.gathering.waiting and known.waiting:
            gathering._end(draft, "exhausted")

    return patch.object(gathering, "_replied", again)


def a_reply_is_taken_each_time_it_comes() -> Any:
    replied = gathering._replied

    def again(draft: Any, event: Any) -> None:
        replied(draft, event)
        draft.set(gathering=replace(draft.head.gathering, waiting=draft.head.gathering.agents))

    return patch.object(gathering, "_replied", again)


def a_deadline_is_not_kept() -> Any:
    went_on = gathering.gathering_went_on

    def deaf(draft: Any, event: Any) -> bool:
        return type(event).__name__ == "TimerFired" or went_on(draft, event)

    return patch("agents.reducer.gathering_went_on", deaf)


def whoever_is_not_needed_goes_on() -> Any:
    return patch.object(gathering, "_cancel_reply", lambda *_: None)


def what_was_gathered_is_not_sent() -> Any:
    return patch.object(gathering, "_tell_session", lambda *_: None)


def a_broadcast_that_is_routed_again_is_another_one() -> Any:
    gather = RouteBroadcasts._gather
    routed: set[str] = set()

    async def other(self: RouteBroadcasts, broadcast: Any, broadcast_id: str, delivery: Any) -> Any:
        name = f"{broadcast_id}-again" if broadcast_id in routed else broadcast_id
        routed.add(broadcast_id)
        return await gather(self, broadcast, name, delivery)

    return patch.object(RouteBroadcasts, "_gather", other)


def a_pattern_forgets_what_it_asked_last() -> Any:
    rounds = pattern_turn._rounds
    return patch.object(pattern_turn, "_rounds", lambda entries, prefix: rounds(entries, prefix)[:-1])


def a_pattern_takes_answers_for_each_other() -> Any:
    rounds = pattern_turn._rounds

    def mixed(entries: Any, prefix: str) -> Any:
        return tuple(_turned(each) for each in rounds(entries, prefix))

    return patch.object(pattern_turn, "_rounds", mixed)


def _turned(answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    return tuple(
        Answer(answer.agent, other.content, is_error=other.is_error)
        for answer, other in zip(answers, answers[::-1], strict=True)
    )


def a_pattern_is_the_one_of_now() -> Any:
    say = pattern_turn._say

    def modern(draft: Any) -> None:
        known = draft.turn.specs_offset
        draft.set_turn(specs_offset=draft.catalog.read_to)
        say(draft)
        if draft.head.turn is not None:
            draft.set_turn(specs_offset=known)

    return patch.object(pattern_turn, "_say", modern)


def results_are_refused_by_workers_that_have_not_read_enough() -> Any:
    return patch.object(Sessions, "is_current", lambda *_: True)


def nobody_is_told_of_results_that_come_too_late() -> Any:
    return patch.object(accept_results, "_has", lambda *_: True)


def remote_calls_have_no_time_limit() -> Any:
    async def patient(self: RemoteCalls, call: Awaited) -> None:
        del self, call
        await asyncio.get_running_loop().create_future()

    return patch.object(RemoteCalls, "_wait", patient)


def a_result_is_another_calls() -> Any:
    fact = AcceptResults._fact

    def confused(self: AcceptResults, result: Any, call: Any, at: Any) -> Any:
        said = fact(self, result, call, at)
        head, _, step = said.call_id.rpartition("/")
        return replace(said, call_id=f"{head}/{int(step) + 1}")

    return patch.object(AcceptResults, "_fact", confused)


TEAM_FAULTS = {
    fault.__name__: fault
    for fault in (
        a_gathering_has_enough_too_early,
        a_failure_is_an_answer,
        a_late_reply_completes_a_gathering_again,
        a_reply_is_taken_each_time_it_comes,
        a_deadline_is_not_kept,
        whoever_is_not_needed_goes_on,
        what_was_gathered_is_not_sent,
        a_broadcast_that_is_routed_again_is_another_one,
        a_pattern_forgets_what_it_asked_last,
        a_pattern_takes_answers_for_each_other,
        a_pattern_is_the_one_of_now,
        results_are_refused_by_workers_that_have_not_read_enough,
        nobody_is_told_of_results_that_come_too_late,
        remote_calls_have_no_time_limit,
        a_result_is_another_calls,
    )
}
OFTEN = {
    "a_gathering_has_enough_too_early": frozenset({"gathering"}),
    "a_failure_is_an_answer": frozenset({"gathering"}),
    "a_late_reply_completes_a_gathering_again": frozenset({"gathering"}),
    "a_reply_is_taken_each_time_it_comes": frozenset({"gathering", "record repeated"}),
    "a_deadline_is_not_kept": frozenset({"gathering"}),
    "whoever_is_not_needed_goes_on": frozenset({"gathering"}),
    "what_was_gathered_is_not_sent": frozenset({"gathering"}),
    "a_broadcast_that_is_routed_again_is_another_one": frozenset({"gathering", "crash"}),
    "a_pattern_forgets_what_it_asked_last": frozenset({"team"}),
    "a_pattern_takes_answers_for_each_other": frozenset({"team"}),
    "a_pattern_is_the_one_of_now": frozenset({"team", "agent applied"}),
    "results_are_refused_by_workers_that_have_not_read_enough": frozenset({"crash", "rebalance"}),
    "nobody_is_told_of_results_that_come_too_late": frozenset({"no result", "remote result"}),
}
