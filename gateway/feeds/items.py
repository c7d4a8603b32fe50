"""What a feed holds, as it is in Redis or in PostgreSQL; shared by all readers of the session."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from gateway.feeds.position import Position
from schemas.codec import decode_agent_event, encode
from schemas.events import TurnCancelled, TurnCompleted, TurnFailed

_TYPE_BEGINS = b'{"type":"'


class _Tag(Struct):
    type: str


_decode_tag = msgspec.json.Decoder(_Tag).decode


class Item(Struct, frozen=True):
    """An agent event (`seq` is its own, `place` 0) or a delta (`place` is 1 + its offset, `seq` 0).

    `turn` is the turn's number; `at_ms` an event's time; `body` the record's JSON as on the topic.
    """

    seq: int
    place: int
    turn: int
    ends_turn: bool
    at_ms: int
    body: bytes

    @property
    def is_event(self) -> bool:
        return self.place == 0


class Entry(Struct, frozen=True):
    """An item for one reader, and where the reader is when it has it."""

    position: Position
    item: Item

    @property
    def kind(self) -> Literal["event", "delta"]:
        return "event" if self.item.is_event else "delta"

    @property
    def body(self) -> bytes:
        """The record's JSON, as on the topic."""
        return self.item.body

    @property
    def type(self) -> str:
        """The record's type tag. Our encoder puts it first, so that most bodies need not be decoded."""
        body = self.item.body
        if body.startswith(_TYPE_BEGINS):
            return body[len(_TYPE_BEGINS) : body.index(b'"', len(_TYPE_BEGINS))].decode()
        return _decode_tag(body).type


def item_of_stream(entry_id: bytes, fields: Sequence[bytes]) -> Item:
    """Of an entry of the Redis stream `live:{session}`; `fields` are names and values in turn."""
    if fields[0] == b"delta":
        return Item(0, int(entry_id.rpartition(b"-")[2]), int(fields[3]), False, 0, fields[1])
    return Item(int(entry_id.partition(b"-")[0]), 0, int(fields[3]), fields[5] == b"1", int(fields[7]), fields[1])


def milliseconds(at: datetime) -> int:
    """Since 1970, as in the Redis streams."""
    return int(at.timestamp() * 1000)


def item_of_row(body: str) -> Item:
    """Of a row of the table `events`. JSONB has another order of fields: the body is as our encoder writes it.

    Raises:
        msgspec.DecodeError: it is not an agent event.
    """
    event = decode_agent_event(body.encode())
    return Item(
        event.seq,
        0,
        int(event.turn_id.rpartition("/")[2]),
        isinstance(event, TurnCompleted | TurnFailed | TurnCancelled),
        milliseconds(event.at),
        encode(event),
    )
