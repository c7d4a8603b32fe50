"""Small faults in how sessions speak to each other, and in how long calls wait."""

import asyncio
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from agents.draft import SessionFact
from agents.session import Session
from schemas.codec import Headers
from schemas.events import ToolReturned
from schemas.log import ChildEnded, MessageAccepted
from streams.pipeline import Pipeline
from streams.timers import Timers

TELL = Pipeline.tell


def the_end_of_a_child_is_not_told() -> Any:
    async def tell(self: Pipeline, fact: SessionFact, headers: Headers) -> asyncio.Future[int]:
        if not isinstance(fact, ChildEnded):
            return await TELL(self, fact, headers)
        future = asyncio.get_running_loop().create_future()
        future.set_result(0)
        return future

    return patch.object(Pipeline, "tell", tell)


def a_question_that_is_told_again_has_another_id() -> Any:
    told: set[str] = set()

    async def tell(self: Pipeline, fact: SessionFact, headers: Headers) -> asyncio.Future[int]:
        if isinstance(fact, MessageAccepted) and fact.message_id in told:
            fact = replace(fact, message_id=f"{fact.message_id}/again")
        elif isinstance(fact, MessageAccepted):
            told.add(fact.message_id)
        return await TELL(self, fact, headers)

    return patch.object(Pipeline, "tell", tell)


def a_child_is_not_told_that_nobody_waits() -> Any:
    return patch("agents.endings.cancel_child", lambda *_: None)


def a_child_that_is_told_to_stop_goes_on() -> Any:
    return patch("agents.reducer._cancel", lambda *_: None)


def an_answer_is_waited_for_although_it_came() -> Any:
    def returned(draft: Any, call: Any, event: ChildEnded) -> None:
        said = {"call_id": call.call_id, "tool": call.tool, "content": event.content}
        draft.publish(ToolReturned, **said, child_session_id=call.child)

    return patch("agents.tool_calls.returned", returned)


def a_question_is_worked_on_each_time_it_is_told() -> Any:
    knows = Session.knows
    return patch.object(Session, "knows", lambda self, name: "~" not in self.head.session_id and knows(self, name))


def timers_are_lost_at_a_restart() -> Any:
    return patch.object(Timers, "resume", lambda *_: None)


def timers_ring_too_early() -> Any:
    next_due = Timers._next_due

    def early(self: Timers) -> Any:
        due = next_due(self)
        return due and due - timedelta(seconds=5)

    return patch.object(Timers, "_next_due", early)


ASK_FAULTS = {
    fault.__name__: fault
    for fault in (
        the_end_of_a_child_is_not_told,
        a_question_that_is_told_again_has_another_id,
        a_child_is_not_told_that_nobody_waits,
        a_child_that_is_told_to_stop_goes_on,
        an_answer_is_waited_for_although_it_came,
        a_question_is_worked_on_each_time_it_is_told,
        timers_are_lost_at_a_restart,
        timers_ring_too_early,
    )
}
OFTEN = {
    "a_question_that_is_told_again_has_another_id": frozenset({"crash"}),
    "a_question_is_worked_on_each_time_it_is_told": frozenset({"crash", "record repeated"}),
    "timers_are_lost_at_a_restart": frozenset({"all killed"}),
}
