"""Times as they are answered."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

At = Annotated[datetime, msgspec.Meta(description="When, in UTC.")]


def of_milliseconds(at: int) -> datetime:
    """The time so many milliseconds after 1970."""
    return datetime.fromtimestamp(at / 1000, UTC)


def milliseconds_between(start: datetime, end: datetime) -> int:
    """How long it took; clocks of two machines differ a little, and nothing takes less than no time."""
    return max(0, round((end - start).total_seconds() * 1000))
