"""call_model: performs `CallModel`, thousands at a time, and appends each outcome to the session log."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from agents import asks, broadcasting
from agents.catalog import Catalog
from agents.models.port import ModelClient, ModelCompletion, ModelFault, ModelOutcome
from agents.prompt import Prompt, build_prompt
from agents.session import CallKind, Session, Turn
from agents.spec import AgentSpec
from schemas.codec import cloud_event_headers, decode_call_model, encode
from schemas.dead_letter import Cause
from schemas.effects import CallModel
from schemas.events import DeltaReset, TextDelta
from schemas.failure import Failure, FailureCode
from schemas.log import ModelCompleted, ModelFailed, SpendingRefused
from schemas.refusal import UNREADABLE
from schemas.topics import AGENT_DELTAS
from schemas.usage import Usage
from streams.acknowledge import Acknowledger
from streams.dead_letter import DeadLetters
from streams.outcomes import Outcomes
from streams.ports import Delivery, Shell
from streams.running import RunningCalls
from streams.sessions import Sessions
from streams.spending import FREE, Permit

log = structlog.get_logger(__name__)
CallOutcome = ModelCompleted | ModelFailed | SpendingRefused
DefineTools = Callable[[AgentSpec], list[dict[str, Any]]]


class CallModels:
    """The processor. `define_tools` gives an agent's tools as the model is told of them."""

    def __init__(
        self,
        shell: Shell,
        outcomes: Outcomes,
        sessions: Sessions,
        running: RunningCalls,
        catalog: Catalog,
        model: ModelClient,
        define_tools: DefineTools,
    ) -> None:
        self._shell = shell
        self._dead_letters = DeadLetters(shell)
        self._sessions = sessions
        self._running = running
        self._outcomes = outcomes
        self._catalog = catalog
        self._model = model
        self._define_tools = define_tools
        self.in_flight: Counter[str] = Counter()
        """The calls that run, by agent."""
        self.acknowledger = Acknowledger()

    @property
    def is_full(self) -> bool:
        return self._running.is_full

    async def take(self, delivery: Delivery) -> None:
        ticket = self.acknowledger.take(delivery)
        try:
            order = decode_call_model(delivery.value or b"")
        except UNREADABLE as error:
            await self._dead_letters.bury_and_finish(
                ticket,
                processor="call_model",
                cause=Cause.NOT_VALID,
                error=f"expected an order to call a model: {error}",
            )
            return
        if not await self._sessions.is_in_log(delivery.partition, order.log_offset):
            await self._dead_letters.bury_order_of_nobody(ticket, order, processor="call_model")
        elif not ticket.is_void:
            self._running.start(order.call_id, ticket, lambda: self._perform(order, delivery.partition))

    def begin(self, order: CallModel, partition: int) -> None:
        """Perform an order of this worker's `decide` before its record is delivered."""
        self._running.begin(order.call_id, partition, lambda: self._perform(order, partition))

    async def _perform(self, order: CallModel, partition: int) -> int | None:
        """Where the log now has an outcome of the call; None: this adds none."""
        session = await self._session(order, partition)
        turn = session.head.turn if session else None
        call = turn.pending_call(order.call_id) if turn else None
        if session is None or turn is None or call is None or call.kind != CallKind.MODEL:
            return None  # The outcome is in the state already, or nobody waits for it.
        event, permit = await self._call(order, session, turn)
        headers = cloud_event_headers(
            event,
            id=order.call_id,
            source="/headrace/call_model",
            at=event.at,
            subject=order.session_id,
            traceparent=turn.traceparent,
        )
        if not isinstance(event, SpendingRefused):
            self._shell.spending.ended(permit, event)
        return await self._outcomes.append(event, headers, partition)

    async def _session(self, order: CallModel, partition: int) -> Session | None:
        """The session, when its agents are known too: another worker may have decided what led to the order."""
        session = await self._sessions.at(partition, order.session_id, order.log_offset)
        turn = session.head.turn if session else None
        if turn is None or turn.specs_offset <= self._catalog.read_to:
            return session
        await self._shell.specs.reached(turn.specs_offset)
        return await self._sessions.at(partition, order.session_id, order.log_offset)

    async def _call(self, order: CallModel, session: Session, turn: Turn) -> tuple[CallOutcome, Permit]:
        """What became of the call, and of which shared budgets it was taken."""
        started, permit = self._shell.clock(), FREE
        prompt = self._prompt(session, turn)
        if isinstance(prompt, Prompt):
            held = len(self._sessions.partitions())
            asked = await self._shell.spending.reserve(order, turn, prompt.model, started, held)
            if isinstance(asked, SpendingRefused):
                return asked, FREE
            permit = asked
            waited_s = (self._shell.clock() - started).total_seconds()
            try:
                outcome = await self._complete(order, turn, prompt, max(0.001, order.timeout_ms / 1000 - waited_s))
            except asyncio.CancelledError:
                self._shell.spending.stopped(permit, order.call_id)
                raise
        else:
            outcome = prompt
        now = self._shell.clock()
        event = _event(order, outcome, now, (now - started) // timedelta(milliseconds=1), permit.accounts)
        return event, permit

    def _prompt(self, session: Session, turn: Turn) -> Prompt | ModelFault:
        spec = self._catalog.get(turn.agent, turn.specs_offset)
        if spec is None:
            return _fault("unknown", FailureCode.UNKNOWN_AGENT, f"the agent `{turn.agent}` was removed")
        try:
            others = asks.definitions(spec, partial(self._catalog.get, as_of=turn.specs_offset))
            tools = [*self._define_tools(spec), *others, *broadcasting.definitions(spec)]
        except ValueError as error:
            what = f"this worker cannot serve the agent `{turn.agent}`: {error}"
            return _fault(spec.model, FailureCode.UNKNOWN_TOOL, what)
        return build_prompt(spec, tools, session)

    async def _complete(self, order: CallModel, turn: Turn, prompt: Prompt, timeout_s: float) -> ModelOutcome:
        self.in_flight[turn.agent] += 1
        try:
            return await self._model.complete(
                prompt,
                call_id=order.call_id,
                timeout_s=timeout_s,
                on_delta=lambda attempt, seq, text: self._publish_delta(order, attempt, seq, text),
            )
        except Exception as error:
            log.exception("model_call_error", call_id=order.call_id)
            what = f"{type(error).__name__} in the model call: tell the operator, the worker's log has the details"
            return _fault(prompt.model, FailureCode.INTERNAL_ERROR, what)
        finally:
            self.in_flight[turn.agent] -= 1

    def _publish_delta(self, order: CallModel, attempt: int, seq: int, text: str | None) -> None:
        place = (order.session_id, order.turn_id, order.step, attempt, seq)
        frame = DeltaReset(*place) if text is None else TextDelta(*place, text)
        headers = cloud_event_headers(
            frame,
            id=f"{order.call_id}/{attempt}/{seq}",
            source="/headrace/call_model",
            at=self._shell.clock(),
            subject=order.session_id,
        )
        name = self._shell.topic_prefix + AGENT_DELTAS.name
        self._shell.outbox.post(name, key=order.session_id.encode(), value=encode(frame), headers=headers)


def _fault(model: str, code: FailureCode, message: str) -> ModelFault:
    return ModelFault(
        failure=Failure(code=code, message=message), model=model, attempts=0, usage=Usage(), cost_micros=0
    )


def _event(
    order: CallModel, outcome: ModelOutcome, at: datetime, duration_ms: int, counted_in: tuple[str, ...]
) -> ModelCompleted | ModelFailed:
    if isinstance(outcome, ModelCompletion):
        return ModelCompleted(
            session_id=order.session_id,
            call_id=order.call_id,
            model=outcome.model,
            content=outcome.content,
            stop_reason=outcome.stop_reason,
            usage=outcome.usage,
            cost_micros=outcome.cost_micros,
            at=at,
            attempts=outcome.attempts,
            duration_ms=duration_ms,
            request_id=outcome.request_id,
            counted_in=counted_in,
        )
    return ModelFailed(
        session_id=order.session_id,
        call_id=order.call_id,
        model=outcome.model,
        failure=outcome.failure,
        at=at,
        usage=outcome.usage,
        cost_micros=outcome.cost_micros,
        attempts=outcome.attempts,
        duration_ms=duration_ms,
        counted_in=counted_in,
    )
