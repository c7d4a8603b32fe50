"""Rows for Redis: each is a call of a script in `lua/`, which changes nothing when it is made again."""

from datetime import datetime

from msgspec import Struct

from projections.projection import Projection, Row
from projections.record import utc
from schemas.events import AgentEvent

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Call(Row, frozen=True):
    """Run `script` with these keys, which get the store's prefix, and these arguments."""

    script: str
    keys: tuple[str, ...]
    arguments: tuple[str | int, ...]


class CallProjection(Projection, frozen=True, kw_only=True):
    """A projection whose rows are calls."""


class Version(Struct, frozen=True):
    """What tells a newer event of a session from one that comes again."""

    seq: int
    at_ms: int


def version(event: AgentEvent) -> Version:
    return Version(event.seq, milliseconds(utc(event.at)))


def milliseconds(at: datetime) -> int:
    """Since 1970."""
    return int(at.timestamp() * 1000)


def turn_number(turn_id: str) -> int:
    """Of a turn's id, `{session_id}/{number}`.

    Raises:
        OverflowError: it is not such an id.
    """
    number = turn_id.rpartition("/")[2]
    if not (number.isascii() and number.isdecimal()):
        raise OverflowError(f"expected a turn id that ends in a number, got {turn_id:.100}")
    return int(number)
