"""call_tool: performs `CallTool`, many at a time, and appends each outcome to the session log.

A tool that is not idempotent is claimed in the log before it runs: only the writer of the first claim may run it. So it
never runs twice; where the claim's writer died, the model is told that the outcome is unknown.

A remote tool is not run here: `RemoteCalls` waits for its result.
"""

from datetime import datetime, timedelta

import structlog

from agents.session import CallKind, PendingCall, Session, Turn
from agents.tools.port import ToolContext, ToolFault, ToolOutcome, ToolReturn
from agents.tools.toolbox import Toolbox
from schemas.codec import cloud_event_headers, decode_call_tool
from schemas.dead_letter import Cause
from schemas.effects import CallTool
from schemas.failure import Failure, FailureCode
from schemas.ids import claim_id, tenant_of_session
from schemas.log import ToolCompleted, ToolFailed, ToolStarted
from schemas.refusal import UNREADABLE
from streams.acknowledge import Acknowledger
from streams.dead_letter import DeadLetters
from streams.outcomes import Outcomes
from streams.ports import Delivery, Shell
from streams.remote_calls import RemoteCalls
from streams.running import RunningCalls
from streams.sessions import Sessions

log = structlog.get_logger(__name__)
OUTCOME_UNKNOWN = ToolFault(
    failure=Failure(
        code=FailureCode.OUTCOME_UNKNOWN,
        message="the call was begun, then its worker died: it may have had its effect. Check before you call again",
    ),
    attempts=1,
)


class CallTools:
    """The processor."""

    def __init__(
        self,
        shell: Shell,
        outcomes: Outcomes,
        sessions: Sessions,
        running: RunningCalls,
        toolbox: Toolbox,
        remote: RemoteCalls,
    ) -> None:
        self._shell = shell
        self._dead_letters = DeadLetters(shell)
        self._sessions = sessions
        self._running = running
        self._outcomes = outcomes
        self._toolbox = toolbox
        self._remote = remote
        self.acknowledger = Acknowledger()

    @property
    def is_full(self) -> bool:
        return self._running.is_full or self._remote.is_full

    async def take(self, delivery: Delivery) -> None:
        ticket = self.acknowledger.take(delivery)
        try:
            order = decode_call_tool(delivery.value or b"")
        except UNREADABLE as error:
            await self._dead_letters.bury_and_finish(
                ticket, processor="call_tool", cause=Cause.NOT_VALID, error=f"expected an order to run a tool: {error}"
            )
            return
        if not await self._sessions.is_in_log(delivery.partition, order.log_offset):
            await self._dead_letters.bury_order_of_nobody(ticket, order, processor="call_tool")
        elif ticket.is_void:
            return
        elif (remote := self._toolbox.remote(order.tool)) is not None:
            self._remote.start(order, ticket, remote)
        else:
            self._running.start(order.call_id, ticket, lambda: self._perform(order, delivery.partition))

    def begin(self, order: CallTool, partition: int) -> None:
        """Perform an order of this worker's `decide` before its record is delivered."""
        if self._toolbox.remote(order.tool) is None:
            self._running.begin(order.call_id, partition, lambda: self._perform(order, partition))

    async def _perform(self, order: CallTool, partition: int) -> int | None:
        """Where the log now has an outcome of the call; None: this adds none."""
        session = await self._sessions.at(partition, order.session_id, order.log_offset)
        pending = _pending(session, order)
        if session is None or session.head.turn is None or pending is None:
            return None  # The outcome is in the state already, or nobody waits for it.
        if self._toolbox.remote(pending.tool) is not None:
            return None  # A service runs it, whatever the order names.
        turn = session.head.turn
        started = self._shell.clock()
        outcome: ToolOutcome = OUTCOME_UNKNOWN
        # The session says what is called: `tool-calls` is open to more writers than its log.
        if self._toolbox.is_idempotent(pending.tool):
            outcome = await self._run(order, turn, pending)
        elif pending.started_offset is None:
            claim = await self._claim(order, partition)
            # A worker that stops must run what it has claimed, or nobody will know that it has not.
            pending = _pending(await self._sessions.at(partition, order.session_id, claim, is_own=True), order)
            if pending is None:
                return None
            if pending.started_offset == claim:
                outcome = await self._run(order, turn, pending)
        now = self._shell.clock()
        event = _event(order, outcome, now, (now - started) // timedelta(milliseconds=1))
        return await self._append(event, order, partition)

    async def _claim(self, order: CallTool, partition: int) -> int:
        """Say in the log that the tool is about to run; where the log has that."""
        now = self._shell.clock()
        event = ToolStarted(session_id=order.session_id, call_id=order.call_id, at=now)
        return await self._append(event, order, partition)

    async def _run(self, order: CallTool, turn: Turn, call: PendingCall) -> ToolOutcome:
        context = ToolContext(
            call_id=call.call_id,
            session_id=order.session_id,
            agent=call.agent or turn.agent,
            user_id=turn.user_id,
            tenant=tenant_of_session(order.session_id, turn.tenant),
        )
        outcome = await self._toolbox.run(call.tool, call.input, context=context, timeout_s=order.timeout_ms / 1000)
        if isinstance(outcome, ToolFault) and outcome.cause is not None:
            log.warning("tool_failed", call_id=order.call_id, tool=call.tool, exc_info=outcome.cause)
        return outcome

    async def _append(self, event: ToolStarted | ToolCompleted | ToolFailed, order: CallTool, partition: int) -> int:
        """Append an outcome or a claim to the session log, and wait until it is durable; its offset."""
        event_id = claim_id(order.call_id) if isinstance(event, ToolStarted) else order.call_id
        headers = cloud_event_headers(
            event, id=event_id, source="/headrace/call_tool", at=event.at, subject=order.session_id
        )
        return await self._outcomes.append(event, headers, partition)


def _pending(session: Session | None, order: CallTool) -> PendingCall | None:
    """The call as the session waits for it; None for one that waits for approval, whatever ordered it."""
    turn = session.head.turn if session else None
    call = turn.pending_call(order.call_id) if turn else None
    return call if call and call.kind == CallKind.TOOL else None


def _event(order: CallTool, outcome: ToolOutcome, at: datetime, duration_ms: int) -> ToolCompleted | ToolFailed:
    if isinstance(outcome, ToolReturn):
        return ToolCompleted(
            session_id=order.session_id,
            call_id=order.call_id,
            content=outcome.content,
            at=at,
            attempts=outcome.attempts,
            duration_ms=duration_ms,
        )
    return ToolFailed(
        session_id=order.session_id,
        call_id=order.call_id,
        failure=outcome.failure,
        at=at,
        attempts=outcome.attempts,
        duration_ms=duration_ms,
    )
