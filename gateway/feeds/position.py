"""Where a reader of a session's feed is: two numbers that stay the same however often Redis is filled again."""

import re
from typing import Self

from msgspec import Struct

_TEXT = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class Position(Struct, frozen=True, order=True):
    """`event`: the `seq` of the last agent event that was seen; `delta`: 1 + the offset of the last delta, 0: none."""

    event: int
    delta: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `E-D`; raises ValueError for anything else."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(
                f"expected a position as `E-D`, like 12-3405, got {text[:60]!r}: give an `id` or `resume` as it came"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.event}-{self.delta}"


BEGINNING = Position(0, 0)
