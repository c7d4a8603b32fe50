"""Sends the records of dead letters again, in their order; each is audited."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from msgspec import Struct

from headrace.audit import act_of_command, write_act
from headrace.client import SentMessage
from headrace.connect import confirming, producer
from headrace.dead_letters.errors import NothingToReplayError
from headrace.dead_letters.plan import key_of
from runtime.sending import unwatched
from runtime.settings import Settings
from schemas.audit import Act
from schemas.causation import causation, why_not_replayable
from schemas.dead_letter import DeadLetter, replay_headers
from schemas.refusal import RefusedError, check_command
from schemas.topics import MAX_INTERNAL_BYTES

AT_ONCE = 100
"""Records on their way at a time: what is interrupted was sent, or is sent by the next replay."""


class Order(Struct, frozen=True, kw_only=True):
    """Send this letter's record; with `value`, that one in place of its own."""

    letter: DeadLetter
    value: bytes | None = None


async def replay(settings: Settings, letter: DeadLetter, value: bytes | None = None) -> SentMessage:
    """Send one again: same topic, key, value and headers, with `headrace-replay-of` and the letter's id.

    Raises:
        NothingToReplayError: the record is not in the letter, or is a fact already.
    """
    async for _, sent in replay_all(settings, [Order(letter=letter, value=value)]):
        return sent
    raise AssertionError("one order has one outcome")


async def replay_all(settings: Settings, orders: Sequence[Order]) -> AsyncIterator[tuple[DeadLetter, SentMessage]]:
    """Send them in their order, and say of each where it is when the brokers have it.

    Raises:
        NothingToReplayError: before anything is sent.
        TryAgainError: the brokers did not confirm what was sent.
    """
    for order in orders:
        why_not = why_not_replayable(order.letter)
        if why_not is not None and order.value is None:
            raise NothingToReplayError(why_not)
    async with producer(settings, MAX_INTERNAL_BYTES) as client:
        for first in range(0, len(orders), AT_ONCE):
            batch = orders[first : first + AT_ONCE]
            async with confirming(settings):
                sent = await _send_some(client, settings, batch)
            for order, at in zip(batch, sent, strict=True):
                yield order.letter, at


async def _send_some(client: AIOKafkaProducer, settings: Settings, orders: Sequence[Order]) -> list[SentMessage]:
    # Handed over one after the other, so that the records of a session keep their order.
    sending = [await _send(client, order) for order in orders]
    done = await asyncio.gather(*sending)
    sent = [
        SentMessage(id=order.letter.id, partition=at.partition, offset=at.offset, timestamp_ms=at.timestamp)
        for order, at in zip(orders, done, strict=True)
    ]
    await asyncio.gather(*(_audit(client, settings, order, at) for order, at in zip(orders, sent, strict=True)))
    return sent


async def _send(client: AIOKafkaProducer, order: Order) -> "asyncio.Future[Any]":
    letter, is_edited = order.letter, order.value is not None
    value = order.value if order.value is not None else letter.value
    assert value is not None
    key = key_of(letter, value, is_edited=is_edited)
    headers = replay_headers(letter, is_edited=is_edited)
    future: asyncio.Future[Any] = await client.send(letter.topic, value, key=key, headers=headers)
    future.add_done_callback(unwatched)
    return future


async def _audit(client: AIOKafkaProducer, settings: Settings, order: Order, sent: SentMessage) -> None:
    letter = order.letter
    session_id, command_id = letter.session_id, causation(letter).command_id
    try:
        command = check_command(order.value or letter.value, None)
    except RefusedError:
        pass
    else:
        session_id, command_id = command.session_id, command.id or command_id
    details: dict[str, Any] = {"dead_letter": letter.id, "sent_partition": sent.partition, "sent_offset": sent.offset}
    if command_id is not None:
        details["command_id"] = command_id
    if order.value is not None:
        details["edited"] = True
    await write_act(client, settings, act_of_command(Act.DEAD_LETTER_REPLAYED, session_id=session_id, **details))
