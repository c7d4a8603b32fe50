"""The calls that run in this worker: many at once, bounded, each once, and abortable."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from streams.acknowledge import Ticket
from streams.ports import Fail


@dataclass(slots=True, eq=False)
class Call:
    """A call that runs, and the deliveries that wait for its end: a rebalance delivers the order again."""

    partition: int
    task: asyncio.Task[None]
    tickets: list[Ticket] = field(default_factory=list)


class RunningCalls:
    """At most `limit` calls run; whoever starts one more waits, which holds back its topic."""

    def __init__(self, limit: int, fail: Fail) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._fail = fail
        self._calls: dict[str, Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    async def start(self, call_id: str, ticket: Ticket, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`; the ticket is done when it ends. A call that runs already is joined, not started again."""
        if call_id not in self._calls:
            await self._slots.acquire()
        call = self._calls.get(call_id)
        if call is not None:
            work.close()
            call.tickets.append(ticket)
            return
        task = asyncio.create_task(work, name=call_id)
        self._calls[call_id] = Call(ticket.delivery.partition, task, [ticket])
        task.add_done_callback(lambda done: self._finish(call_id, done))

    def abort(self, call_id: str) -> None:
        """Stop the call, if it runs here; its order counts as done."""
        call = self._calls.get(call_id)
        if call is not None:
            call.task.cancel()

    def abandon(self, kept: set[int]) -> None:
        """Stop the calls of partitions that this worker has lost: their new owner makes them again."""
        for call in list(self._calls.values()):
            if call.partition not in kept:
                call.tickets.clear()
                call.task.cancel()

    def forget_tickets(self) -> None:
        """A rebalance began: what is not acknowledged is delivered again, and joins the call that runs."""
        for call in self._calls.values():
            call.tickets.clear()

    async def idle(self, timeout_s: float) -> bool:
        """Wait until no call runs, `timeout_s` at most; whether none does."""
        tasks = [call.task for call in self._calls.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        return not self._calls

    async def stop(self) -> None:
        """Cancel all calls without acknowledging their orders."""
        tasks = [call.task for call in self._calls.values()]
        self.abandon(kept=set())
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finish(self, call_id: str, task: asyncio.Task[None]) -> None:
        call = self._calls.pop(call_id)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
            return
        for ticket in call.tickets:
            ticket.done()
