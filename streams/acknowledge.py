"""Acknowledgement in order: an offset is committed only when it, and all before it in its partition, are done.

Faust may commit past a record that is in flight when records are acknowledged out of order, so they never are.
"""

import asyncio
from collections import defaultdict, deque
from dataclasses import replace
from typing import Any

from streams.ports import Delivery, Fail


class Ticket:
    """One record that is being worked on."""

    __slots__ = ("_line", "delivery", "is_done", "is_void")

    def __init__(self, delivery: Delivery, line: "deque[Ticket]") -> None:
        self.delivery = delivery
        self.is_done = False
        self.is_void = False
        """The record will be delivered again, here or elsewhere: work on it that has not begun must not begin."""
        self._line = line

    def done(self) -> None:
        """The work on the record is complete and durable."""
        self.is_done = True
        line = self._line
        if line and line[0] is not self:
            self.forget_record()
        while line and line[0].is_done:
            line.popleft().delivery.ack()

    def forget_record(self) -> None:
        """Keep the place only: the ticket may stand for an hour, with thousands of others."""
        self.delivery = replace(self.delivery, value=None, headers=())


class Acknowledger:
    """The records that one processor has taken and not acknowledged yet, per partition, in order."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], deque[Ticket]] = defaultdict(deque)

    def take(self, delivery: Delivery) -> Ticket:
        line = self._lines[delivery.topic, delivery.partition]
        ticket = Ticket(delivery, line)
        line.append(ticket)
        return ticket

    def reset(self) -> None:
        """Forget all: after a rebalance what was not acknowledged is delivered again."""
        for line in self._lines.values():
            for ticket in line:
                ticket.is_void = True
            line.clear()
        self._lines.clear()

    @property
    def open_count(self) -> int:
        return sum(len(line) for line in self._lines.values())


def finish_when_durable(ticket: Ticket, durable: asyncio.Future[Any], fail: Fail) -> None:
    """The ticket is done when `durable` resolves; where it fails, the worker must stop."""

    def finish(future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            ticket.done()
        else:
            fail(error)

    durable.add_done_callback(finish)
