"""decide: the only writer of session state. Folds the session log, event by event, and emits what each leads to.

It does not wait for acknowledgements: it goes on with the state in memory, and the recorder completes the events in
order.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from agents.applied import specs_offset_of
from agents.catalog import Catalog
from agents.draft import SessionFact, Step, Timer
from agents.handle import handle
from agents.session import Session
from schemas.codec import Headers, cloud_event_headers, decode_session_event
from schemas.dead_letter import Cause
from schemas.effects import CallModel, Effect
from schemas.events import AgentEvent
from schemas.log import (
    BroadcastAccepted,
    CancelRequested,
    ChildEnded,
    MessageAccepted,
    ModelCompleted,
    ModelFailed,
    SessionEvent,
    SpendingRefused,
    ToolCompleted,
    ToolFailed,
)
from schemas.refusal import UNREADABLE
from schemas.topics import AGENT_EVENTS, LLM_REQUESTS, TOOL_CALLS
from streams.acknowledge import Acknowledger, Ticket
from streams.dead_letter import DeadLetters
from streams.ports import Delivery, Shell
from streams.record import Handled, Recorder
from streams.sessions import Sessions
from streams.store import writes

log = structlog.get_logger(__name__)
Emitted = list[asyncio.Future[int]]


class Calls(Protocol):
    """The calls that this worker performs."""

    def begin(self, order: Effect, partition: int) -> None:
        """Perform an order without waiting for its record, which is on its way, and joins the call when it comes."""

    def settle(self, call_id: str) -> None:
        """The outcome of a call is in the state, or is not needed any more."""

    def wait(self, partition: int, session_id: str, timers: Sequence[Timer]) -> None:
        """These calls wait, and until when."""

    async def tell(self, fact: SessionFact, headers: Headers) -> asyncio.Future[int]:
        """Append a fact to the log of another session; see `Outbox.append`."""


class Decide:
    """The processor."""

    def __init__(
        self,
        shell: Shell,
        dead_letters: DeadLetters,
        catalog: Catalog,
        sessions: Sessions,
        recorder: Recorder,
        calls: Calls,
    ) -> None:
        self._shell = shell
        self._dead_letters = dead_letters
        self._catalog = catalog
        self._sessions = sessions
        self._recorder = recorder
        self._calls = calls
        self.acknowledger = Acknowledger()
        self.is_full = False

    async def take(self, delivery: Delivery) -> None:
        ticket = self.acknowledger.take(delivery)
        try:
            event = decode_session_event(delivery.value or b"")
        except UNREADABLE as error:
            buried = await self._bury(delivery, Cause.NOT_VALID, f"expected an event of the session log: {error}", None)
            if not ticket.is_void:
                self._recorder.submit(Handled(ticket, None, [buried], []))
        else:
            await self._decide(event, ticket)
        if not ticket.is_void:
            self._sessions.advance(delivery.partition, delivery.offset)

    async def _decide(self, event: SessionEvent, ticket: Ticket) -> None:
        delivery = ticket.delivery
        partition, session_id = delivery.partition, event.session_id
        before = self._sessions.load(partition, session_id)
        needed = specs_offset_of(before, event)
        if needed > self._catalog.read_to:
            await self._shell.specs.reached(needed)
            if ticket.is_void:
                return
        emitted: Emitted = []
        place = f"{delivery.topic}/{partition}/{delivery.offset}"
        handled = handle(self._catalog, before, event, delivery.offset, place)
        step = handled.step
        if handled.bug is not None:
            said = {"session_id": session_id, "event_type": type(event).__name__, "exc_info": handled.bug}
            log.exception("core_error", **said)  # noqa: LOG004 - `handle` has caught it, and hands it on
            error = f"{handled.cause}: {handled.bug}"
            emitted.append(await self._bury(delivery, Cause.CORE_ERROR, error, session_id))
        if step.refusal is not None:
            emitted.append(await self._bury(delivery, step.refusal.cause, step.refusal.error, session_id))
        emitted += await self._emit(step, event, before, partition)
        if ticket.is_void:
            # A rebalance began meanwhile: whoever reads the event next decides it again, from what is recorded.
            return
        changes = writes(session_id, before, step)
        if changes:
            self._sessions.change(partition, session_id, step.session)
        self._recorder.submit(Handled(ticket, session_id if changes else None, emitted, changes))
        for call_id in (*step.settled, *_unawaited(event, step)):
            self._calls.settle(call_id)
        for order in step.effects:
            self._calls.begin(order, partition)
        self._calls.wait(partition, session_id, step.timers)

    async def _emit(self, step: Step, event: SessionEvent, before: Session | None, partition: int) -> Emitted:
        emitted: Emitted = []
        trace = _trace(step.session, before, event)
        for order in step.effects:
            topic = LLM_REQUESTS if isinstance(order, CallModel) else TOOL_CALLS
            headers = self._headers(order, order.call_id, event, trace)
            emitted.append(await self._shell.append(topic, order, order.session_id, headers, partition))
        for happened in step.events:
            headers = self._headers(happened, f"{happened.session_id}#{happened.seq}", event, trace)
            emitted.append(await self._shell.append(AGENT_EVENTS, happened, happened.session_id, headers, partition))
        for fact in step.facts:
            headers = self._headers(fact, _id_of(fact), event, trace)
            emitted.append(await self._calls.tell(fact, headers))
        return emitted

    def _headers(
        self, record: Effect | AgentEvent | SessionFact, id: str, event: SessionEvent, trace: str | None
    ) -> Headers:
        return cloud_event_headers(
            record, id=id, source="/headrace/decide", at=event.at, subject=event.session_id, traceparent=trace
        )

    async def _bury(self, delivery: Delivery, cause: Cause, error: str, session_id: str | None) -> asyncio.Future[int]:
        return await self._dead_letters.bury(
            delivery, processor="decide", cause=cause, error=error, session_id=session_id
        )


def _unawaited(event: SessionEvent, step: Step) -> tuple[str, ...]:
    """The call whose outcome this is, where nobody waits for it: the worker that wrote it too late still knows it.

    It must not: where the name of the session is used again, so is the id of the call.
    """
    if (
        not isinstance(event, ModelCompleted | ModelFailed | SpendingRefused | ToolCompleted | ToolFailed)
        or event.call_id in step.settled
    ):
        return ()
    turn = step.session.head.turn if step.session is not None else None
    return () if turn is not None and turn.pending_call(event.call_id) is not None else (event.call_id,)


def _id_of(fact: SessionFact) -> str:
    match fact:
        case MessageAccepted():
            return fact.message_id
        case BroadcastAccepted():
            return f"{fact.session_id}#{fact.broadcast_id}"
        case CancelRequested():
            return fact.command_id
        case ChildEnded():
            return f"{fact.child_session_id}/ended"


def _trace(after: Session | None, before: Session | None, event: SessionEvent) -> str | None:
    """The trace of the turn that the event belongs to: the one that runs, or that it ended."""
    if isinstance(event, MessageAccepted | BroadcastAccepted):
        return event.traceparent
    for session in (before, after):
        if session is not None and session.head.turn is not None:
            return session.head.turn.traceparent
        if session is not None and session.head.gathering is not None:
            return session.head.gathering.traceparent
    return None
