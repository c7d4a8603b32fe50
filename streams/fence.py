"""The fence: of a changelog partition, the broker takes records only from the worker that claimed it last.

A worker that was paused for longer than its session timeout does not know yet that its partitions are another's, and
what it wrote late would overwrite newer states. So whoever is given a partition claims it before reading its changelog:
the broker hands out the partition's producer id with an epoch that is one higher, and once a record with that epoch is
in the partition, its leader refuses all with an earlier one. No transaction is needed, and nothing is added to a write.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import aiokafka
import structlog
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import ConcurrentTransactions, KafkaError, NoError, ProducerFenced, for_code
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition

from streams.ports import FencedError

log = structlog.get_logger(__name__)
CLAIM_KEY = b"claim"
"""Not a session's: those have a prefix."""
RETRY_S = 0.1
MAX_TRANSACTION_MS = 60_000
"""The request wants one; there are no transactions."""


@dataclass(slots=True, frozen=True)
class Claim:
    """The right to write to a partition, as long as nobody claims it anew."""

    producer_id: int
    epoch: int


class Claims(TransactionManager):  # type: ignore[misc]  # aiokafka is not typed.
    """Numbers the batches of a producer; those to a partition that is claimed are numbered for its claim."""

    def __init__(self) -> None:
        super().__init__(transactional_id=None, transaction_timeout_ms=MAX_TRANSACTION_MS)
        self._claims: dict[TopicPartition, Claim] = {}
        self._claim: Claim | None = None

    def claim(self, place: TopicPartition, claim: Claim) -> None:
        """Batches to `place` that were not numbered yet belong to `claim`; it begins with 0."""
        self._claims[place] = claim
        self._sequence_numbers[place] = 0

    def sequence_number(self, place: TopicPartition) -> int:
        # aiokafka asks for the number of a batch, then for its producer id and epoch, without giving way in between.
        self._claim = self._claims.get(place)
        number: int = super().sequence_number(place)
        return number

    @property
    def producer_id(self) -> int:
        if self._claim is not None:
            return self._claim.producer_id
        common: int = super().producer_id
        return common

    @property
    def producer_epoch(self) -> int:
        if self._claim is not None:
            return self._claim.epoch
        common: int = super().producer_epoch
        return common


class Fence:
    """The claims of one worker on the partitions of `topic`, which `producer` writes.

    `producer` is idempotent and not started yet.
    """

    def __init__(self, producer: aiokafka.AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._open: set[int] = set()
        self._round = 0
        self._claims = Claims()
        # aiokafka makes one of its own, and has no other way to number batches by partition.
        accumulator, sender = producer._message_accumulator, producer._sender  # noqa: SLF001
        producer._txn_manager = accumulator._txn_manager = sender._txn_manager = self._claims  # noqa: SLF001
        self._waiting = accumulator._batches  # noqa: SLF001

    def check(self, partition: int | None) -> None:
        """Raises FencedError where this worker has no claim."""
        if partition not in self._open:
            raise FencedError(self._topic, partition)

    async def claim(self, partitions: Collection[int]) -> None:
        """Claim these partitions, and no others: when it returns, no other worker's records come any more.

        Raises:
            KafkaError: the brokers refuse to hand out a producer id.
        """
        self._open.clear()
        self._round += 1
        for place in list(self._waiting):
            self._drop(place)
        await asyncio.gather(*map(self._claim, partitions))

    async def renew(self) -> None:
        """Claim again what is held, so that the brokers do not forget it.

        Raises:
            KafkaError: the brokers refuse it; ProducerFenced, where another worker has claimed a partition.
        """
        current = self._round
        for partition in tuple(self._open):
            claim = await self._ask(partition)
            if self._round != current:
                return  # A rebalance began meanwhile, and claims anew.
            await self._take(partition, claim)

    async def _claim(self, partition: int) -> None:
        await self._take(partition, await self._ask(partition))
        self._open.add(partition)

    async def _take(self, partition: int, claim: Claim) -> None:
        """The first record with the new epoch is what makes the partition's leader refuse earlier ones."""
        self._claims.claim(TopicPartition(self._topic, partition), claim)
        await (await self._producer.send(self._topic, key=CLAIM_KEY, value=b"", partition=partition))

    def _drop(self, place: TopicPartition) -> None:
        """What waits from before a claim was not numbered yet, and must not be numbered for the new one.

        What was sent before and is repeated has its number, and the broker refuses it.
        """
        if place.topic != self._topic:
            return
        for batch in [batch for batch in self._waiting[place] if batch.retry_count == 0]:
            self._waiting[place].remove(batch)
            batch.failure(ProducerFenced())
            batch._drain_waiter.exception()  # noqa: SLF001  # Nobody waits for it; asyncio would report that.
        if not self._waiting[place]:
            del self._waiting[place]

    async def _ask(self, partition: int) -> Claim:
        """A producer id of the partition's own, with an epoch that nobody had before."""
        name = f"{self._topic}-{partition}"
        while True:
            try:
                claim = await self._ask_coordinator(name)
            except KafkaError as error:
                if not error.retriable and not isinstance(error, ConcurrentTransactions):
                    raise
                log.warning("claim_retried", claim=name, error=str(error))
            else:
                return claim
            await asyncio.sleep(RETRY_S)

    async def _ask_coordinator(self, name: str) -> Claim:
        client = self._producer.client
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, name)
        request = InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=MAX_TRANSACTION_MS)
        response = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        error = for_code(response.error_code)
        if error is not NoError:
            raise error()
        return Claim(response.producer_id, response.producer_epoch)
