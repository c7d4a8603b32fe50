"""How often, how long and how patiently a model call is tried. Pure: randomness is handed in."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated

import msgspec
from msgspec import Struct

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """The bounds of one model call; `timeout_s` of the call bounds them all together."""

    max_attempts: Annotated[int, msgspec.Meta(ge=1)] = 20
    """With the waits below, twenty attempts outlast an overload of three and a half minutes where all jitter is against
    them, and are over after seven, while a turn has time to say so: by default, it has ten."""
    max_paid_attempts: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Of them, those in which the model began to answer: each is paid for, and five streams that break in a row are not
    what an overload looks like."""
    first_delay_s: Seconds = 0.5
    """The SDK's own first delay: most dropped connections and 500s are over by then."""
    max_delay_s: Seconds = 30.0
    """Waiting longer between attempts than half a minute no longer makes the next one likelier to succeed."""
    retry_after_cap_s: Seconds = 60.0
    """Rate limits refill within a minute; a server that asks for more is not believed, as it may ask for hours."""
    stall_s: Seconds = 60.0
    """A stream is given up after this time without a byte. The API sends pings far more often than that."""
    connect_s: Seconds = 30.0
    """DNS, TCP and TLS take under a second alone; 5,000 calls that all need a new connection take some 10 s of CPU."""


def retry_delay_s(policy: RetryPolicy, *, attempt: int, retry_after_s: float | None, random: float) -> float:
    """The wait after failed attempt number `attempt` (from 1), with `random` in [0, 1).

    Exponential with equal jitter: half of the delay is certain, so that retries are never at once, and half is random,
    so that calls which failed together do not come back together. `retry-after` is a lower bound; the random half comes
    on top of it for the same reason.
    """
    assert attempt >= 1, f"attempts count from 1, not {attempt}"
    # 2**32 first delays exceed any maximum; more doublings would only overflow.
    doublings = min(attempt - 1, 32)
    half_s = min(policy.max_delay_s, policy.first_delay_s * 2.0**doublings) / 2
    if retry_after_s is None or retry_after_s <= 0:
        return half_s + half_s * random
    return min(retry_after_s, policy.retry_after_cap_s) + half_s * random


def parse_retry_after_s(milliseconds: str | None, seconds_or_date: str | None, *, now: datetime) -> float | None:
    """The wait that a response asks for, from its headers `retry-after-ms` and `retry-after` (RFC 9110, 10.2.3).

    None where neither can be read. Never negative; NaN and infinity count as unreadable.
    """
    for text, unit_s in ((milliseconds, 0.001), (seconds_or_date, 1.0)):
        if text and (number := _number(text)) is not None:
            return max(0.0, number * unit_s)
    if not seconds_or_date:
        return None
    try:
        date = parsedate_to_datetime(seconds_or_date)
    except ValueError:
        return None
    # A date in `-0000` comes without a time zone; it is UTC.
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
