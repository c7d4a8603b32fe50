"""Pages of a list: each begins behind the last item of the one before, so what is added meanwhile moves nothing.

A cursor is opaque: the place of that item, as JSON in URL-safe base64. It says only where to go on: who may see what is
asked anew at each page.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Struct

from gateway.problems import Code, Problem

MAX_LIMIT = 200
DEFAULT_LIMIT = 50
MAX_CURSOR_CHARACTERS = 2_000

T = TypeVar("T")
Row = TypeVar("Row")

# PostgreSQL has no NUL in its texts, and what is longer than this is in no column that can be asked for.
_PLAIN = r"^[^\x00]*$"
PlainText = Annotated[str, msgspec.Meta(max_length=1_000, pattern=_PLAIN)]
Offset = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT, description="How many items at most.")]
Cursor = Annotated[
    str, msgspec.Meta(max_length=MAX_CURSOR_CHARACTERS, description="The `next_cursor` of the page before.")
]
NextCursor = Annotated[
    str | None, msgspec.Meta(description="Send it as `cursor` to get the next page; none: there is no more.")
]
Since = Annotated[
    datetime | None, msgspec.Meta(description="From this time on (ISO 8601; without a time zone, it is UTC).")
]
Until = Annotated[datetime | None, msgspec.Meta(description="Before this time.")]


class PageQuery(Struct, frozen=True, kw_only=True):
    """Which part of a list."""

    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | None = None


def write_cursor(*place: Any) -> str:
    """The cursor of the item at this place."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def read_cursor(cursor: str | None, kind: Any, first: T) -> T:
    """The place of this type that the cursor says, as `write_cursor` was given it; `first` where there is none.

    Raises:
        Problem: `not_valid`: it is not one of ours.
    """
    if cursor is None:
        return first
    try:
        text = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place: T = msgspec.json.decode(text, type=kind)
    except (binascii.Error, UnicodeError, RecursionError, msgspec.DecodeError):
        raise Problem(
            Code.NOT_VALID,
            "the query is not as it must be: expected `cursor` to be the `next_cursor` of the page before",
            errors=["`cursor` is not one that this list gave: leave it out to begin at the first page"],
        ) from None
    return place


def utc(at: datetime | None, name: str) -> datetime | None:
    """The time in UTC; raises `Problem(not_valid)` outside the years 1 to 9999."""
    if at is None:
        return None
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        error = f"expected `{name}` to be a time in the years 1 to 9999 UTC"
        raise Problem(Code.NOT_VALID, error, errors=[error]) from None


def page(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], Row | None]:
    """Of `limit + 1` rows that were asked for, those of the page; and its last one, where there are more behind it."""
    shown = rows[:limit]
    return shown, shown[-1] if len(rows) > limit else None
