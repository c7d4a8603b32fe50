"""Faust's consumer, with what it does not let one set."""

from collections.abc import Callable, Mapping
from typing import Any

import aiokafka
import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

FETCH_MAX_WAIT_MS = 50
"""Faust has 1,500 fixed. aiokafka has one fetch per broker in flight, and a partition that is drained meanwhile is not
read until it returns: this bounds that delay, at the price of 20 empty fetches per second when idle."""


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust is not typed.
    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # noqa: SLF001  # Read when the consumer starts.
        return consumer


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Says from which offsets it goes on after a rebalance."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        offsets: Mapping[TP, int] = await super().seek_to_committed()
        self.app.on_positions({TP(tp.topic, tp.partition): offset for tp, offset in offsets.items()})
        return offsets


class Transport(driver.Transport):  # type: ignore[misc]
    Consumer = Consumer


class App(faust.App):  # type: ignore[misc]
    """`on_positions` is called with the committed offsets whenever the consumer begins to read; 0: there is none."""

    on_positions: Callable[[Mapping[TP, int]], None]

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)
