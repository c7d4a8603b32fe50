"""The time now, with a clock that stands still."""

from datetime import UTC, datetime

import pytest

from agents.tools import ToolError
from agents.tools.current_time import current_time_tool

current_time = current_time_tool(clock=lambda: datetime(2026, 7, 4, 23, 30, 5, 999_999, tzinfo=UTC))


@pytest.mark.parametrize(
    ("time_zone", "answer"),
    [
        ("UTC", "2026-07-04T23:30:05+00:00 (Saturday, UTC, UTC)"),
        ("Europe/Berlin", "2026-07-05T01:30:05+02:00 (Sunday, Europe/Berlin, CEST)"),
        ("America/St_Johns", "2026-07-04T21:00:05-02:30 (Saturday, America/St_Johns, NDT)"),
    ],
)
async def test_time_offset_and_weekday_of_the_zone(time_zone: str, answer: str) -> None:
    """The weekday is that of the zone, not of UTC."""
    assert await current_time(time_zone=time_zone) == answer


async def test_without_a_zone_it_is_utc() -> None:
    """The model need not know where the user is."""
    assert "(Saturday, UTC, UTC)" in await current_time()


@pytest.mark.parametrize(
    ("time_zone", "suggestion"),
    [
        ("New York", "America/New_York"),
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("tokyo", "Asia/Tokyo"),
    ],
)
async def test_a_wrong_zone_gets_a_suggestion(time_zone: str, suggestion: str) -> None:
    """So that the second call is right."""
    with pytest.raises(ToolError, match=f"got `{time_zone}`: did you mean `{suggestion}`"):
        await current_time(time_zone=time_zone)


@pytest.mark.parametrize(
    "time_zone", ["", "/etc/passwd", "../../etc/passwd", "America", "UTC+2", "GMT+2", "a\0b", "x" * 90]
)
async def test_what_is_no_zone_is_refused(time_zone: str) -> None:
    """Neither a path, nor a folder, nor an offset, whose suggestion would have the wrong sign."""
    with pytest.raises(ToolError, match="expected an IANA time zone") as caught:
        await current_time(time_zone=time_zone)
    assert "Etc/" not in str(caught.value)
