"""The waits between attempts."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.limits import Limits
from agents.models.backoff import RetryPolicy, parse_retry_after_s, retry_delay_s
from runtime.settings.values import ModelSettings

POLICY = RetryPolicy(first_delay_s=0.5, max_delay_s=30, retry_after_cap_s=60)
NOW = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attempt", "random", "expected"),
    [(1, 0.0, 0.25), (1, 1.0, 0.5), (2, 1.0, 1.0), (3, 1.0, 2.0), (7, 1.0, 30.0), (10_000, 0.0, 15.0)],
)
def test_exponential_up_to_the_maximum(attempt: int, random: float, expected: float) -> None:
    """Each attempt doubles the wait up to the maximum; the jitter takes at most half of it away."""
    assert retry_delay_s(POLICY, attempt=attempt, retry_after_s=None, random=random) == pytest.approx(expected)


def test_by_default_an_outage_of_minutes_is_survived_and_the_end_comes_within_the_turn() -> None:
    """Whatever the jitter; and a worker has the policy's own number of attempts."""
    policy = RetryPolicy()
    assert ModelSettings().attempts == policy.max_attempts
    shortest_s, longest_s = (
        sum(
            retry_delay_s(policy, attempt=attempt, retry_after_s=None, random=random)
            for attempt in range(1, policy.max_attempts)
        )
        for random in (0.0, 1.0)
    )
    assert shortest_s > 3 * 60
    assert longest_s < Limits().turn_seconds - 60


def test_retry_after_is_a_lower_bound_with_jitter_on_top() -> None:
    """Nobody comes back before the server said, and not all come back at that instant."""
    delays = [retry_delay_s(POLICY, attempt=1, retry_after_s=7, random=random) for random in (0.0, 0.5, 1.0)]
    assert delays == pytest.approx([7.0, 7.125, 7.25])


def test_retry_after_of_an_hour_is_capped() -> None:
    """A server that asks for an hour gets a minute."""
    assert retry_delay_s(POLICY, attempt=1, retry_after_s=3600, random=0.0) == pytest.approx(60.0)


@given(st.integers(1, 50), st.none() | st.floats(0, 1e9), st.floats(0, 1, exclude_max=True))
def test_every_wait_is_bounded(attempt: int, retry_after_s: float | None, random: float) -> None:
    """No wait is zero and none exceeds the cap of `retry-after` plus half of the longest delay."""
    delay = retry_delay_s(POLICY, attempt=attempt, retry_after_s=retry_after_s, random=random)
    assert 0 < delay <= 60 + 15


@pytest.mark.parametrize(
    ("milliseconds", "header", "expected"),
    [
        (None, None, None),
        (None, "3", 3.0),
        (None, "0.5", 0.5),
        ("250", "3", 0.25),
        ("soon", "3", 3.0),
        (None, "-5", 0.0),
        (None, "soon", None),
        (None, "nan", None),
        (None, "inf", None),
        (None, "Sat, 21 Nov 2026 08:00:09 GMT", 9.0),
        (None, "Sat, 21 Nov 2026 08:00:09 -0000", 9.0),
        (None, "Sat, 21 Nov 2026 07:00:00 GMT", 0.0),
    ],
)
def test_reading_retry_after(milliseconds: str | None, header: str | None, expected: float | None) -> None:
    """Seconds, milliseconds and dates are understood; anything else counts as not sent."""
    assert parse_retry_after_s(milliseconds, header, now=NOW) == expected
