"""A record of a topic as projections take it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
"""What making rows raises for a value that is not what its topic carries; the last two, for thousands of nested arrays
and for a time outside the years 1 to 9999."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUL_IN_JSON = b"\\u0000"


class Record(Struct, frozen=True):
    """A value and its place; `topic` is the name in the table of topics, without the cluster's prefix."""

    topic: str
    partition: int
    offset: int
    value: bytes
    timestamp_ms: int = 0

    @property
    def at(self) -> datetime:
        """The record's timestamp; raises OverflowError outside the years 1 to 9999."""
        return _EPOCH + timedelta(milliseconds=self.timestamp_ms)

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def without_nul(value: bytes) -> bytes:
    """The same JSON with U+FFFD for each NUL, which PostgreSQL cannot store in text.

    Raises:
        msgspec.DecodeError: it has a NUL, and is not JSON.
    """
    if _NUL_IN_JSON not in value:
        return value
    return msgspec.json.encode(_replaced(msgspec.json.decode(value)))


def _replaced(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case list():
            return [_replaced(item) for item in value]
        case dict():
            return {_replaced(key): _replaced(item) for key, item in value.items()}
    return value


def utc(at: datetime) -> datetime:
    """The time in UTC; one without a zone is in UTC already.

    Raises:
        OverflowError: it is outside the years 1 to 9999.
    """
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
