"""accept_results: takes results of remote tools from `tool-results`, refuses what is malformed or comes too late.

The rest goes to the session log, where the first outcome of a call counts.
"""

import asyncio
from datetime import datetime, timedelta

from agents.session import PendingCall, Session, ToolResultEntry
from agents.tools.declaration import DEFAULT_MAX_RESULT_CHARS
from agents.tools.toolbox import Toolbox, cut
from schemas.codec import cloud_event_headers
from schemas.dead_letter import Cause
from schemas.failure import Failure, FailureCode
from schemas.ids import call_number
from schemas.log import ToolCompleted, ToolFailed
from schemas.refusal import RefusedError, check_tool_result
from schemas.tool_results import RemoteResult
from streams.acknowledge import Acknowledger, finish_when_durable
from streams.dead_letter import DeadLetters
from streams.ports import Delivery, Shell
from streams.session_log import SessionLog
from streams.sessions import Sessions

Outcome = ToolCompleted | ToolFailed


class AcceptResults:
    """The processor. Records are taken in order and acknowledged when they are in the session log, or buried.

    It looks at the session as far as this worker knows it, so it never refuses a result that somebody waits for. One
    that nobody waits for may get into the log, where it changes nothing.
    """

    def __init__(
        self, shell: Shell, dead_letters: DeadLetters, session_log: SessionLog, sessions: Sessions, toolbox: Toolbox
    ) -> None:
        self._shell = shell
        self._dead_letters = dead_letters
        self._session_log = session_log
        self._sessions = sessions
        self._toolbox = toolbox
        self.acknowledger = Acknowledger()
        self.is_full = False

    async def take(self, delivery: Delivery) -> None:
        ticket = self.acknowledger.take(delivery)
        try:
            result = check_tool_result(delivery.value, delivery.key)
            # Of the session, not of the delivery: a record without a key lies anywhere.
            partition = self._shell.outbox.partition_of(result.session_id.encode())
            outcome = self._outcome(result, partition)
        except RefusedError as refused:
            await self._dead_letters.bury_and_finish(
                ticket,
                processor="accept_results",
                cause=refused.cause,
                error=str(refused),
                session_id=refused.session_id,
            )
            return
        if outcome is None:
            ticket.done()
        else:
            finish_when_durable(ticket, await self._append(outcome, partition), self._shell.fail)

    def _outcome(self, result: RemoteResult, partition: int) -> Outcome | None:
        """The fact that the result is; None where the session has it already.

        Raises:
            RefusedError: nobody waits for it, and nobody will.
        """
        at = self._shell.clock()
        if not (self._sessions.is_current(partition) and self._shell.lease.is_held):
            return self._fact(result, None, at)
        session = self._sessions.load(partition, result.session_id)
        call = _pending(session, result)
        outcome = self._fact(result, call, at)
        if call is not None or _may_come(session, result):
            return outcome
        if session is not None and _has(session, outcome):
            return None
        raise RefusedError(
            Cause.NOTHING_TO_ANSWER,
            f"expected call `{result.call_id}` to wait for its result in session `{result.session_id}`, got none such: "
            "it had an outcome before (its time was over, or its turn ended), or never was. Compare both ids with the "
            "call; where the tool needs more time, raise its `timeout_seconds`",
            result.session_id,
        )

    def _fact(self, result: RemoteResult, call: PendingCall | None, at: datetime) -> Outcome:
        duration_ms = max(at - call.since, timedelta(0)) // timedelta(milliseconds=1) if call is not None else 0
        if result.error is not None:
            message = cut(result.error.message, DEFAULT_MAX_RESULT_CHARS)
            failure = Failure(code=FailureCode.TOOL_ERROR, message=message, retryable=result.error.retryable)
            return ToolFailed(
                session_id=result.session_id, call_id=result.call_id, failure=failure, at=at, duration_ms=duration_ms
            )
        assert result.content is not None
        tool = self._toolbox.remote(call.tool) if call is not None else None
        content = cut(result.content, tool.max_result_chars if tool is not None else DEFAULT_MAX_RESULT_CHARS)
        return ToolCompleted(
            session_id=result.session_id, call_id=result.call_id, content=content, at=at, duration_ms=duration_ms
        )

    async def _append(self, outcome: Outcome, partition: int) -> asyncio.Future[int]:
        headers = cloud_event_headers(
            outcome, id=outcome.call_id, source="/headrace/accept_results", at=outcome.at, subject=outcome.session_id
        )
        return await self._session_log.append(outcome, headers, partition)


def _pending(session: Session | None, result: RemoteResult) -> PendingCall | None:
    turn = session.head.turn if session is not None else None
    return turn.pending_call(result.call_id) if turn is not None else None


def _may_come(session: Session | None, result: RemoteResult) -> bool:
    """Whether the call may be ordered already, though the session as it is here does not say so yet.

    An order is on its way before the state has it: a service may be faster than the worker that ordered.
    """
    turn = session.head.turn if session is not None else None
    number = call_number(result.call_id, result.session_id)
    return turn is not None and number is not None and number[0] == turn.number and number[1] > turn.steps


def _has(session: Session, outcome: Outcome) -> bool:
    """Whether the turn of the call has this very result: a service that was restarted says again what it said."""
    number = call_number(outcome.call_id, outcome.session_id)
    if number is None:
        return False
    failed = isinstance(outcome, ToolFailed)
    said = outcome.failure.message if isinstance(outcome, ToolFailed) else outcome.content
    return any(
        isinstance(entry, ToolResultEntry) and entry.content == said and entry.is_error == failed
        for entry in session.newest_of_turn(number[0])
    )
