"""Small faults in the code under test, each of which the simulation must find: so each check is one that can fail."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace as evolve
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace
from simulation.ask_faults import ASK_FAULTS
from simulation.ask_faults import OFTEN as OFTEN_ASK
from simulation.cast import IDEMPOTENT
from simulation.faults import FAULTS as FAULTS_OF_WORLD
from simulation.money_faults import MONEY_FAULTS
from simulation.money_faults import OFTEN as OFTEN_MONEY
from simulation.plan import Plan
from simulation.strange_faults import OFTEN as OFTEN_STRANGE
from simulation.strange_faults import STRANGE
from simulation.team_faults import OFTEN as OFTEN_TEAM
from simulation.team_faults import TEAM_FAULTS
from simulation.tools import ScriptedTools
from simulation.worker import Lease, Roster

from agents.draft import Draft
from agents.session import Session
from streams import accept, call_model, decide
from streams.acknowledge import Ticket
from streams.dead_letter import DeadLetters
from streams.outcomes import Outcomes
from streams.pipeline import Pipeline
from streams.record import Handled, Recorder
from streams.route_broadcast import RouteBroadcasts
from streams.running import RunningCalls
from streams.sessions import Sessions

Fault = Callable[[], Any]
"""A context in which the fault is there."""


def accept_acknowledges_before_it_records() -> Any:
    return patch.object(accept, "finish_when_durable", lambda ticket, *_: ticket.done())


def recorder_acknowledges_before_it_records() -> Any:
    record = Recorder._record_as_owner

    async def early(self: Recorder, partition: int, batch: list[Handled]) -> None:
        for handled in batch:
            handled.ticket.done()
        await record(self, partition, batch)

    return patch.object(Recorder, "_record_as_owner", early)


def recorder_does_not_wait_for_what_was_emitted() -> Any:
    record = Recorder._record_as_owner

    async def hasty(self: Recorder, partition: int, batch: list[Handled]) -> None:
        await record(self, partition, [Handled(each.ticket, each.session_id, [], each.writes) for each in batch])

    return patch.object(Recorder, "_record_as_owner", hasty)


def recorder_loses_a_write() -> Any:
    record = Recorder._record_as_owner

    async def lossy(self: Recorder, partition: int, batch: list[Handled]) -> None:
        await record(
            self, partition, [Handled(each.ticket, each.session_id, each.emitted, each.writes[1:]) for each in batch]
        )

    return patch.object(Recorder, "_record_as_owner", lossy)


def calls_do_not_wait_for_the_end_of_the_log() -> Any:
    resume = Pipeline.resume
    return patch.object(Pipeline, "resume", lambda self, positions, _: resume(self, positions, {}))


def calls_do_not_wait_for_their_order_to_be_decided() -> Any:
    async def at(self: Sessions, partition: int, session_id: str, offset: int) -> object:
        del offset
        return self.load(partition, session_id)

    return patch.object(Sessions, "at", at)


def model_calls_do_not_look_whether_they_are_pending() -> Any:
    async def blind(self: call_model.CallModels, order: Any, partition: int) -> int | None:
        session = await self._sessions.at(partition, order.session_id, order.log_offset)
        if session is None or session.head.turn is None:
            return None
        event, _ = await self._call(order, session, session.head.turn)
        return await self._outcomes.append(event, [("ce_id", order.call_id.encode())], partition)

    return patch.object(call_model.CallModels, "_perform", blind)


def outcomes_are_not_held_in_a_rebalance() -> Any:
    async def hold(self: Outcomes, timeout_s: float) -> bool:
        del self, timeout_s
        return True

    return patch.object(Outcomes, "hold", hold)


def calls_that_run_are_started_again() -> Any:
    start = RunningCalls.start

    def again(self: RunningCalls, call_id: str, ticket: Ticket, work: Any) -> None:
        self._calls.pop(call_id, None)
        start(self, call_id, ticket, work)

    return patch.object(RunningCalls, "start", again)


def tools_are_not_claimed() -> Any:
    return patch.object(ScriptedTools, "is_idempotent", lambda _, name: name in IDEMPOTENT)


def tickets_are_acknowledged_as_they_are_done() -> Any:
    return patch.object(Ticket, "done", lambda self: self.delivery.ack())


def dead_letters_are_dropped() -> Any:
    async def bury(self: DeadLetters, delivery: object, **said: object) -> asyncio.Future[int]:
        del self, delivery, said
        future = asyncio.get_running_loop().create_future()
        future.set_result(0)
        return future

    return patch.object(DeadLetters, "bury", bury)


def broadcasts_miss_an_agent() -> Any:
    reached = RouteBroadcasts._reached

    def short(self: RouteBroadcasts, broadcast: Any) -> Any:
        found = reached(self, broadcast)
        return found._replace(agents=found.agents[1:]) if broadcast.audience == "all" else found

    return patch.object(RouteBroadcasts, "_reached", short)


def events_bear_the_time_of_the_clock() -> Any:
    emit = decide.Decide._emit

    async def late(self: decide.Decide, step: Any, event: Any, before: Any, partition: int) -> Any:
        events = tuple(replace(each, at=self._shell.clock()) for each in step.events)
        return await emit(self, replace(step, events=events), event, before, partition)

    return patch.object(decide.Decide, "_emit", late)


def an_event_is_not_published() -> Any:
    emit = decide.Decide._emit

    async def silent(self: decide.Decide, step: Any, event: Any, before: Any, partition: int) -> Any:
        return await emit(self, replace(step, events=step.events[:-1]), event, before, partition)

    return patch.object(decide.Decide, "_emit", silent)


def a_message_is_answered_each_time_it_is_accepted() -> Any:
    return patch.object(Session, "knows", lambda *_: False)


def a_turn_that_ends_leaves_calls_without_results() -> Any:
    return patch.object(Session, "unpaired_tool_uses", lambda *_: ())


def the_lease_is_taken_for_granted() -> Any:
    return patch.object(Lease, "is_held", property(lambda _: True, lambda *_: None), create=True)


def decide_does_not_wait_for_agents_that_another_worker_has_read() -> Any:
    async def reached(self: Roster, offset: int) -> None:
        del self, offset

    return patch.object(Roster, "reached", reached)


def a_turn_goes_on_with_the_agent_of_now() -> Any:
    return patch.object(Draft, "spec_of", lambda self, agent: self.catalog.get(agent))


def a_call_is_made_for_the_agent_of_now() -> Any:
    call = call_model.CallModels._call

    async def modern(self: call_model.CallModels, order: Any, session: Session, turn: Any) -> Any:
        return await call(self, order, session, replace(turn, specs_offset=sys.maxsize))

    return patch.object(call_model.CallModels, "_call", modern)


FAULTS: dict[str, Fault] = (
    {
        fault.__name__: fault
        for fault in (
            accept_acknowledges_before_it_records,
            recorder_acknowledges_before_it_records,
            recorder_does_not_wait_for_what_was_emitted,
            recorder_loses_a_write,
            calls_do_not_wait_for_the_end_of_the_log,
            calls_do_not_wait_for_their_order_to_be_decided,
            model_calls_do_not_look_whether_they_are_pending,
            outcomes_are_not_held_in_a_rebalance,
            calls_that_run_are_started_again,
            tools_are_not_claimed,
            tickets_are_acknowledged_as_they_are_done,
            dead_letters_are_dropped,
            broadcasts_miss_an_agent,
            events_bear_the_time_of_the_clock,
            an_event_is_not_published,
            a_message_is_answered_each_time_it_is_accepted,
            a_turn_that_ends_leaves_calls_without_results,
            the_lease_is_taken_for_granted,
            decide_does_not_wait_for_agents_that_another_worker_has_read,
            a_turn_goes_on_with_the_agent_of_now,
            a_call_is_made_for_the_agent_of_now,
        )
    }
    | STRANGE
    | ASK_FAULTS
    | TEAM_FAULTS
    | MONEY_FAULTS
)


def plan_for(name: str, seed: int) -> Plan:
    """A run that may find the fault: most take certain kinds of faults in the world, or peace from others."""
    plan = PLANS.get(name) or Plan(seed=seed, often=OFTEN.get(name, frozenset()))
    return evolve(plan, seed=seed)


PLANS = {
    "tools_run_before_they_are_approved": Plan(
        seed=0,
        steps=500,
        often=frozenset({"forged order"}),
        without=frozenset(FAULTS_OF_WORLD) - {"forged order"},
        workers=1,
        partitions=1,
    ),
    "outcomes_are_not_held_in_a_rebalance": Plan(
        seed=0,
        often=frozenset({"rebalance"}),
        without=frozenset(FAULTS_OF_WORLD) - {"rebalance", "time passes"},
        workers=3,
        partitions=2,
    ),
    "decide_does_not_wait_for_agents_that_another_worker_has_read": Plan(
        seed=0,
        steps=300,
        often=frozenset({"agent applied"}),
        without=frozenset(FAULTS_OF_WORLD) - {"agent applied"},
        workers=4,
        partitions=4,
    ),
}
"""Of faults that take more than certain kinds to come often."""
OFTEN = (
    OFTEN_STRANGE
    | OFTEN_ASK
    | OFTEN_TEAM
    | OFTEN_MONEY
    | {
        "the_lease_is_taken_for_granted": frozenset({"pause"}),
        "tools_are_not_claimed": frozenset({"crash"}),
        "recorder_does_not_wait_for_what_was_emitted": frozenset({"produce failed"}),
        "accept_acknowledges_before_it_records": frozenset({"crash"}),
        "broadcasts_miss_an_agent": frozenset({"broadcast"}),
        "a_turn_goes_on_with_the_agent_of_now": frozenset({"agent applied"}),
        "a_call_is_made_for_the_agent_of_now": frozenset({"agent applied"}),
    }
)
