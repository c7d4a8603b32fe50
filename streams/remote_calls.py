"""Calls of remote tools: nothing is run here. An order stays open until its result is in the log, or its time is over.

A result comes in through `accept_results`. The time counts from the order's record, so a restart does not prolong it.
"""

import asyncio
from datetime import datetime, timedelta

from msgspec import Struct

from agents.session import CallKind
from agents.tools.outside import RemoteTool
from schemas.codec import cloud_event_headers
from schemas.effects import CallTool
from schemas.failure import Failure, FailureCode
from schemas.log import ToolFailed
from streams.acknowledge import Ticket
from streams.outcomes import Outcomes
from streams.ports import Shell
from streams.running import RunningCalls
from streams.sessions import Sessions


class Awaited(Struct, frozen=True, kw_only=True):
    """What is kept of an order: thousands may wait for an hour, so not what it asks for."""

    session_id: str
    call_id: str
    partition: int
    log_offset: int
    ordered_at: datetime
    timeout: timedelta
    tool: RemoteTool


class RemoteCalls:
    """The calls that wait for a service, within a bound of their own: they take no place of a tool that runs here."""

    def __init__(self, shell: Shell, outcomes: Outcomes, sessions: Sessions, running: RunningCalls) -> None:
        self._shell = shell
        self._outcomes = outcomes
        self._sessions = sessions
        self._running = running

    @property
    def is_full(self) -> bool:
        return self._running.is_full

    def start(self, order: CallTool, ticket: Ticket, tool: RemoteTool) -> None:
        """Wait for the order's result; the ticket is done when the log has an outcome."""
        delivery = ticket.delivery
        call = Awaited(
            session_id=order.session_id,
            call_id=order.call_id,
            partition=delivery.partition,
            log_offset=order.log_offset,
            ordered_at=delivery.at,
            timeout=min(timedelta(seconds=tool.timeout_seconds), timedelta(milliseconds=order.timeout_ms)),
            tool=tool,
        )
        ticket.forget_record()
        self._running.start(call.call_id, ticket, lambda: self._wait(call))

    async def _wait(self, call: Awaited) -> int | None:
        """Where the log now has an outcome of the call; `settle` ends this where a result comes first."""
        session = await self._sessions.at(call.partition, call.session_id, call.log_offset)
        turn = session.head.turn if session is not None else None
        pending = turn.pending_call(call.call_id) if turn is not None else None
        if pending is None or pending.kind != CallKind.TOOL or pending.tool != call.tool.name:
            return None  # The outcome is in the state already, or the order is not the session's.
        del session, turn, pending
        left = call.ordered_at + call.timeout - self._shell.clock()
        await asyncio.sleep(left.total_seconds())
        now = self._shell.clock()
        event = ToolFailed(
            session_id=call.session_id,
            call_id=call.call_id,
            failure=_timed_out(call),
            at=now,
            duration_ms=max(now - call.ordered_at, timedelta(0)) // timedelta(milliseconds=1),
        )
        headers = cloud_event_headers(
            event, id=call.call_id, source="/headrace/call_tool", at=now, subject=call.session_id
        )
        return await self._outcomes.append(event, headers, call.partition)


def _timed_out(call: Awaited) -> Failure:
    said = f"`{call.tool.name}` gave no result within {call.timeout.total_seconds():.3g} s"
    if call.tool.idempotent:
        return Failure(
            code=FailureCode.TOOL_TIMEOUT, message=f"{said}: try again later, or go on without it", retryable=True
        )
    return Failure(
        code=FailureCode.TOOL_TIMEOUT,
        message=f"{said}. It may have taken effect or not: check before calling it again",
    )
