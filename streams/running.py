"""The calls that run in this worker: many at once, bounded, each once, and abortable."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.acknowledge import Ticket
from streams.ports import Fail
from streams.sessions import NotReachedError

Work = Callable[[], Coroutine[Any, Any, int | None]]
"""Performs a call; where its partition of the log now has an outcome of it, or None: there is no new one."""


@dataclass(slots=True, eq=False)
class Call:
    """A call, and the deliveries that wait for its end: a rebalance delivers the order again.

    Those that have `joined` keep their work: what runs may be for an order that nobody gave, and find nothing to do.
    """

    call_id: str
    partition: int
    work: Work
    tickets: list[Ticket]
    joined: list[tuple[Ticket, Work]] = field(default_factory=list)
    task: asyncio.Task[int | None] | None = None

    def is_decided(self, begins: Mapping[int, int]) -> bool:
        """Whether another worker's `decide` has come to the call's outcome: this one's never will."""
        task = self.task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return False
        outcome = task.result()
        return outcome is not None and outcome <= begins.get(self.partition, -1)


class RunningCalls:
    """At most `limit` calls run. Those that were fetched before it `is_full` wait for a place, in their order.

    A call whose outcome is in the log is remembered until `decide` has come to it: until then the session still seems
    to wait for it, and the same order would be performed again.
    """

    def __init__(self, limit: int, fail: Fail) -> None:
        self._limit = limit
        self._fail = fail
        self._calls: dict[str, Call] = {}
        self._waiting: deque[Call] = deque()
        self._tasks: set[asyncio.Task[int | None]] = set()
        self._begins: Mapping[int, int] = {}
        self._is_closing = False

    def __len__(self) -> int:
        """How many calls run."""
        return len(self._tasks)

    @property
    def remembered(self) -> int:
        """How many calls run, or wait for a place, or for `decide` to read their outcome."""
        return len(self._calls)

    @property
    def is_full(self) -> bool:
        return bool(self._waiting)

    def start(self, call_id: str, ticket: Ticket, work: Work) -> None:
        """Run `work()`; the ticket is done when it ends. A call that is known is joined, not started again.

        Where that one finds nothing to do, `work()` is tried after it.
        """
        call = self._calls.get(call_id)
        if call is not None:
            self._join(call, ticket, work)
            return
        if self._is_closing:
            return
        call = self._calls[call_id] = Call(call_id, ticket.delivery.partition, work, [ticket])
        if len(self._tasks) < self._limit:
            self._run(call)
        else:
            self._waiting.append(call)

    def begin(self, call_id: str, partition: int, work: Work) -> None:
        """Run `work()` where there is room, before its order was delivered: the delivery joins it."""
        if call_id not in self._calls and len(self._tasks) < self._limit and not self._is_closing:
            call = self._calls[call_id] = Call(call_id, partition, work, [])
            self._run(call)

    def settle(self, call_id: str) -> None:
        """`decide` waits for the call no longer: stop it, if it runs here; its order counts as done."""
        call = self._calls.pop(call_id, None)
        if call is None:
            return
        if call.task is not None:
            call.task.cancel()
            return
        self._waiting.remove(call)
        _done(call)

    def abandon(self, kept: Mapping[int, int]) -> None:
        """Stop the calls of partitions that this worker has lost: their new owner makes them again.

        Args:
            kept: the partitions that it has, and the last offset of each in the log that `decide` does not read again.
        """
        self._begins = kept
        for call in [call for call in self._calls.values() if call.partition not in kept]:
            _forget(call)
            if call.task is not None:
                call.task.cancel()
            # Forgotten at once: an order that came back must not join a call that is being stopped.
            del self._calls[call.call_id]
        for call in [call for call in self._calls.values() if call.is_decided(kept)]:
            del self._calls[call.call_id]
        self._waiting = deque(call for call in self._waiting if call.partition in kept)

    def forget_tickets(self) -> None:
        """A rebalance began: what is not acknowledged is delivered again, and joins the call that runs."""
        self._forget_waiting()
        for call in self._calls.values():
            _forget(call)

    async def idle(self, timeout_s: float) -> bool:
        """Start no more, and wait until no call runs, `timeout_s` at most; whether none does."""
        self._is_closing = True
        self._forget_waiting()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        return not self._tasks

    async def stop(self) -> None:
        """Cancel all calls without acknowledging their orders."""
        self.abandon(kept={})
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run(self, call: Call) -> None:
        call.task = task = asyncio.create_task(call.work(), name=call.call_id)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._finish(call, done))

    def _forget_waiting(self) -> None:
        for call in self._waiting:
            del self._calls[call.call_id]
        self._waiting.clear()

    def _join(self, call: Call, ticket: Ticket, work: Work) -> None:
        if call.task is not None and call.task.done():
            ticket.done()
        else:
            call.joined.append((ticket, work))

    def _finish(self, call: Call, task: asyncio.Task[int | None]) -> None:
        self._tasks.discard(task)
        if self._waiting and len(self._tasks) < self._limit:
            self._run(self._waiting.popleft())
        is_known = self._calls.get(call.call_id) is call
        if task.cancelled():
            if is_known:
                self._fail(RuntimeError(f"the call {call.call_id} was cancelled by none of those who may"))
                return
        elif isinstance(error := task.exception(), NotReachedError):
            self._calls.pop(call.call_id, None)
            return
        elif error is not None:
            self._fail(error)
            return
        elif is_known and task.result() is None:
            del self._calls[call.call_id]
            again, call.joined = call.joined, []
            for ticket, work in again:
                self.start(call.call_id, ticket, work)
        elif is_known and call.is_decided(self._begins):
            del self._calls[call.call_id]
        _done(call)


def _done(call: Call) -> None:
    """Every order of the call counts as done."""
    for ticket in (*call.tickets, *(ticket for ticket, _ in call.joined)):
        ticket.done()
    _forget(call)


def _forget(call: Call) -> None:
    call.tickets.clear()
    call.joined.clear()
