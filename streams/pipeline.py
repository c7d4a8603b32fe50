"""The processors, wired: everything of a worker but Kafka, Faust and the process."""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from agents.catalog import Catalog
from agents.draft import SessionFact, Timer
from agents.models.port import ModelClient
from agents.tools.toolbox import Toolbox
from schemas.codec import Headers
from schemas.effects import CallModel, CallTool, Effect
from schemas.topology import ACCEPT, ACCEPT_RESULTS, CALL_MODEL, CALL_TOOL, DECIDE, ROUTE_BROADCAST, Node
from streams.accept import Accept
from streams.accept_results import AcceptResults
from streams.call_model import CallModels, DefineTools
from streams.call_tool import CallTools
from streams.dead_letter import DeadLetters
from streams.decide import Decide
from streams.outcomes import Outcomes
from streams.ports import Processor, Shell, Table
from streams.record import Recorder
from streams.remote_calls import RemoteCalls
from streams.route_broadcast import RouteBroadcasts
from streams.running import RunningCalls
from streams.session_log import SessionLog
from streams.sessions import Sessions
from streams.storms import DEFAULT_BROADCASTS_PER_MINUTE
from streams.timers import Timers

RECORD_ON_REBALANCE_S = 5.0
"""How long a rebalance waits for what is being recorded; what is dropped then is decided again."""

LAND_ON_REBALANCE_S = 2.0
"""How long it waits before that for outcomes on their way to the broker; one that comes later is paid for twice."""

MAX_DEFINITIONS = 1_000
"""Sets of tools whose definitions are remembered: of the agents that are served, and of those that some turns keep."""


class Capacity(Struct, frozen=True, kw_only=True):
    """Bounds of one worker."""

    model_calls_in_flight: int = 5_000
    tool_calls_in_flight: int = 1_000
    remote_calls_in_flight: int = 10_000
    broadcasts_per_minute: int = DEFAULT_BROADCASTS_PER_MINUTE
    cached_sessions: int = 20_000
    cached_bytes: int = 256 << 20
    # Off the path of an answer; after kill -9 the events of so much more time are decided again.
    record_linger_s: float = 0.05


class Pipeline:
    """All processors of a worker, and what happens to them in a rebalance and at the end."""

    def __init__(
        self,
        shell: Shell,
        table: Table,
        catalog: Catalog,
        model: ModelClient,
        toolbox: Toolbox,
        capacity: Capacity,
    ) -> None:
        self._shell = shell
        self.sessions = Sessions(
            table,
            max_sessions=capacity.cached_sessions,
            max_bytes=capacity.cached_bytes,
            lease=shell.lease,
            log_end=shell.log_end,
        )
        self.recorder = Recorder(shell, table, self.sessions, linger_s=capacity.record_linger_s)
        self.model_calls = RunningCalls(capacity.model_calls_in_flight, shell.fail)
        self.tool_calls = RunningCalls(capacity.tool_calls_in_flight, shell.fail)
        self.remote_calls = RunningCalls(capacity.remote_calls_in_flight, shell.fail)
        self._calls = (self.model_calls, self.tool_calls, self.remote_calls)
        dead_letters = DeadLetters(shell)
        define = _definitions(catalog, toolbox)
        self._decide = Decide(shell, dead_letters, catalog, self.sessions, self.recorder, self)
        self._session_log = SessionLog(shell, self._decide)
        self._route = RouteBroadcasts(shell, dead_letters, catalog, self._session_log, capacity.broadcasts_per_minute)
        self._accept = Accept(shell, dead_letters, self._session_log, lambda: catalog.read_to)
        self._timers = Timers(shell, table, self._session_log.append)
        self._outcomes = Outcomes(self._session_log, shell.lease)
        self._call_model = CallModels(shell, self._outcomes, self.sessions, self.model_calls, catalog, model, define)
        self._accept_results = AcceptResults(shell, dead_letters, self._session_log, self.sessions, toolbox)
        remote = RemoteCalls(shell, self._outcomes, self.sessions, self.remote_calls)
        self._call_tool = CallTools(shell, self._outcomes, self.sessions, self.tool_calls, toolbox, remote)

    def processors(self) -> dict[Node, Processor]:
        return {
            ROUTE_BROADCAST: self._route,
            ACCEPT: self._accept,
            ACCEPT_RESULTS: self._accept_results,
            DECIDE: self._session_log,
            CALL_MODEL: self._call_model,
            CALL_TOOL: self._call_tool,
        }

    async def suspend(self) -> None:
        """A rebalance begins, no more records come: record what was decided, forget what is not recorded.

        Calls go on; their orders are delivered again and join them. Their outcomes wait until it is
        known whose they are.
        """
        self._timers.suspend()
        self._session_log.restart({})
        await self._outcomes.hold(LAND_ON_REBALANCE_S)
        await self.recorder.idle(RECORD_ON_REBALANCE_S)
        await self.recorder.stop()
        processors = (self._accept, self._accept_results, self._route, self._decide, self._call_model, self._call_tool)
        for processor in processors:
            processor.acknowledger.reset()
        for calls in self._calls:
            calls.forget_tickets()
        self.sessions.restart({}, {})

    def resume(self, positions: dict[int, int], ends: dict[int, int] | None = None) -> None:
        """The rebalance is over.

        Args:
            positions: for each partition held, the last committed offset of its session log.
            ends: for each partition held, the last offset that its session log has now. Calls wait until `decide` has
                come there: their outcome may be among what it reads again.
        """
        self.sessions.restart(positions, ends or {})
        self._session_log.restart(positions)
        for calls in self._calls:
            calls.abandon(positions)
        self._timers.resume(positions)
        self._outcomes.release()

    async def drain(self, timeout_s: float) -> bool:
        """No more records come: let running calls finish and all be recorded; whether that took less than the time.

        Calls that wait for `decide`, or for a service, end without an acknowledgement; not those whose claim is in the
        log, which they run.
        """
        self._timers.suspend()
        self.sessions.give_up()
        await self.remote_calls.idle(0)
        models, tools = await asyncio.gather(self.model_calls.idle(timeout_s), self.tool_calls.idle(timeout_s))
        for calls in self._calls:
            await calls.stop()
        return await self.recorder.idle(timeout_s) and models and tools

    def begin(self, order: Effect, partition: int) -> None:
        """See `decide.Calls`."""
        match order:
            case CallModel():
                self._call_model.begin(order, partition)
            case CallTool():
                self._call_tool.begin(order, partition)

    def calls_in_flight(self, agent: str) -> int:
        """An agent's model calls that run in this worker."""
        return self._call_model.in_flight[agent]

    def settle(self, call_id: str) -> None:
        """See `decide.Calls`."""
        for calls in self._calls:
            calls.settle(call_id)

    def wait(self, partition: int, session_id: str, timers: Sequence[Timer]) -> None:
        """See `decide.Calls`."""
        self._timers.set(partition, session_id, timers)

    async def tell(self, fact: SessionFact, headers: Headers) -> asyncio.Future[int]:
        """See `decide.Calls`."""
        partition = self._shell.outbox.partition_of(fact.session_id.encode())
        return await self._session_log.append(fact, headers, partition)


def _definitions(catalog: Catalog, toolbox: Toolbox) -> DefineTools:
    """An agent's tools as the model is told of them.

    An agent of the files with a tool that does not exist, or is not configured, is refused here. One that was applied
    fails its turns.
    """

    @lru_cache(MAX_DEFINITIONS)
    def define(tools: tuple[str, ...], revision: int) -> list[dict[str, Any]]:
        del revision  # A part of the key: a server that was not reached at the start may have been since.
        return [msgspec.to_builtins(definition) for definition in toolbox.definitions(tools)]

    for spec in catalog.files.values():
        try:
            define(spec.tools, toolbox.revision)
        except ValueError as error:
            raise ValueError(f"agent [{spec.name}]: {error}") from None
    return lambda spec: define(spec.tools, toolbox.revision)
