"""Small faults in how the code deals with what is strange: silence, forgery, bugs of the core, names used again."""

from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from agents.bill import charge
from agents.handle import Handling, handle
from agents.quarantine import quarantine
from agents.tools import Toolbox, toolbox
from streams import call_tool, decide
from streams.record import Handled, Recorder
from streams.running import RunningCalls
from streams.sessions import Sessions
from streams.store import Write, writes

LONG_S = 1e6


def tools_have_no_time_limit() -> Any:
    attempt = toolbox._attempt
    return patch.object(toolbox, "_attempt", lambda tool, arguments, _: attempt(tool, arguments, LONG_S))


def tools_run_for_longer_than_their_turn() -> Any:
    run = Toolbox._run_attempts
    return patch.object(Toolbox, "_run_attempts", lambda self, tool, arguments, _: run(self, tool, arguments, LONG_S))


def orders_beyond_the_log_are_waited_for() -> Any:
    async def trust(self: Sessions, partition: int, offset: int) -> bool:
        del self, partition, offset
        return True

    return patch.object(Sessions, "is_in_log", trust)


def orders_that_are_ahead_of_the_worker_are_buried() -> Any:
    async def distrust(self: Sessions, partition: int, offset: int) -> bool:
        return offset <= self._positions.get(partition, -1)

    return patch.object(Sessions, "is_in_log", distrust)


def tools_run_before_they_are_approved() -> Any:
    def pending(session: Any, order: Any) -> Any:
        turn = session.head.turn if session else None
        return turn.pending_call(order.call_id) if turn else None

    return patch.object(call_tool, "_pending", pending)


def each_outcome_is_paid_for() -> Any:
    return patch("agents.reducer.charge_late", charge)


def late_outcomes_are_not_paid_for() -> Any:
    return patch("agents.reducer.charge_late", lambda *_: None)


def a_bug_of_the_core_stops_the_worker() -> Any:
    def stop(*arguments: Any) -> Handling:
        handled = handle(*arguments)
        if handled.bug is not None:
            raise handled.bug
        return handled

    return patch.object(decide, "handle", stop)


def a_session_with_a_bug_goes_on() -> Any:
    def forgive(*arguments: Any) -> Any:
        step = quarantine(*arguments)
        assert step.session is not None
        head = replace(step.session.head, quarantined=None)
        return replace(step, session=replace(step.session, head=head))

    return patch("agents.handle.quarantine", forgive)


def a_quarantine_is_not_lifted() -> Any:
    return patch("agents.reducer.release", lambda *_: None)


def calls_are_known_for_ever() -> Any:
    settle = RunningCalls.settle

    def keep(self: RunningCalls, call_id: str) -> None:
        call = self._calls.get(call_id)
        settle(self, call_id)
        if call is not None and call.task is not None:
            self._calls[call_id] = call

    return patch.object(RunningCalls, "settle", keep)


def expired_sessions_leave_their_transcript() -> Any:
    def keep(session_id: str, before: Any, step: Any) -> list[Write]:
        return [write for write in writes(session_id, before, step) if write[1] is not None or write[0][:1] == b"h"]

    return patch.object(decide, "writes", keep)


def recorder_goes_on_when_the_disk_is_full() -> Any:
    record = Recorder._record_as_owner

    async def deaf(self: Recorder, partition: int, batch: list[Handled]) -> None:
        try:
            await record(self, partition, batch)
        except OSError:
            for handled in batch:
                handled.ticket.done()

    return patch.object(Recorder, "_record_as_owner", deaf)


STRANGE = {
    fault.__name__: fault
    for fault in (
        tools_have_no_time_limit,
        tools_run_for_longer_than_their_turn,
        orders_beyond_the_log_are_waited_for,
        orders_that_are_ahead_of_the_worker_are_buried,
        tools_run_before_they_are_approved,
        each_outcome_is_paid_for,
        late_outcomes_are_not_paid_for,
        a_bug_of_the_core_stops_the_worker,
        a_session_with_a_bug_goes_on,
        a_quarantine_is_not_lifted,
        calls_are_known_for_ever,
        expired_sessions_leave_their_transcript,
        recorder_goes_on_when_the_disk_is_full,
    )
}
OFTEN = {
    "tools_have_no_time_limit": frozenset({"silence"}),
    "tools_run_for_longer_than_their_turn": frozenset({"silence"}),
    "orders_beyond_the_log_are_waited_for": frozenset({"forged order"}),
    "each_outcome_is_paid_for": frozenset({"record repeated", "forged outcome"}),
    "a_bug_of_the_core_stops_the_worker": frozenset({"bug"}),
    "a_session_with_a_bug_goes_on": frozenset({"bug"}),
    "a_quarantine_is_not_lifted": frozenset({"bug"}),
    "calls_are_known_for_ever": frozenset({"return"}),
    "expired_sessions_leave_their_transcript": frozenset({"return"}),
    "recorder_goes_on_when_the_disk_is_full": frozenset({"disk full"}),
}
