"""The time now, anywhere."""

from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec

from agents.tools.declaration import Tool, tool
from agents.tools.port import ToolError


def _utc_now() -> datetime:
    return datetime.now(UTC)


def current_time_tool(*, clock: Callable[[], datetime] = _utc_now) -> Tool:
    """The tool `current_time`; `clock` gives the time with its zone."""

    @tool(idempotent=True, attempts=1, timeout_s=5)
    async def current_time(time_zone: Annotated[str, msgspec.Meta(max_length=100)] = "UTC") -> str:
        """The current date, time and weekday in a time zone.

        Args:
            time_zone: IANA name, such as "Europe/Berlin" or "America/New_York".
        """
        now = clock().astimezone(_zone(time_zone))
        return f"{now.isoformat(timespec='seconds')} ({now:%A}, {time_zone}, {now:%Z})"

    return current_time


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        close = _similar(name)
        hint = f"did you mean {' or '.join(f'`{zone}`' for zone in close)}?" if close else "name the region's main city"
        raise ToolError(
            f"expected an IANA time zone, such as `Europe/Berlin`, `America/New_York` or `UTC`, got `{name}`: {hint}"
        ) from error


def _similar(name: str) -> list[str]:
    """Zones whose name, or whose city, resembles `name`."""
    wanted = name.strip().lower().replace(" ", "_")
    by_word = _zones_by_word()
    return list(dict.fromkeys(by_word[word] for word in get_close_matches(wanted, by_word, n=3, cutoff=0.75)))


@cache
def _zones_by_word() -> dict[str, str]:
    """Full names and cities in lower case; without `Etc/GMT+1`, whose sign is the reverse of what is meant."""
    zones = sorted(zone for zone in available_timezones() if not zone.startswith("Etc/"))
    cities = {zone.rsplit("/", 1)[1].lower(): zone for zone in zones if "/" in zone}
    return cities | {zone.lower(): zone for zone in zones}
