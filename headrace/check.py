"""One line of the doctor."""

from typing import Literal

from msgspec import Struct

Level = Literal["ok", "warn", "fail"]


class Check(Struct, frozen=True, kw_only=True):
    """What was looked at and found; `to_do` is empty where all is well."""

    level: Level
    what: str
    found: str
    to_do: str = ""
