"""What an agent's turns and sessions may spend, and what happens when that is not enough."""

from typing import Annotated, Literal

import msgspec
from msgspec import Struct

Amount = Annotated[int, msgspec.Meta(ge=1)]
EXCEED_BUDGET = "exceed_budget"
"""What an approval of going on names in place of a tool."""


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits in micro-dollars (0.000001 USD), tokens and model calls, asked agents included; none where none is given.

    Before each call it is reserved what the dearest call of the session took so far, and at least `reserve_micros`:
    where that is no longer left, `on_breach` says what becomes of the turn. `ask` lets it wait for an approval of
    `exceed_budget`, and `cheaper` lets `cheaper_model` go on: either way the limit then counts twice for this turn, and
    the next breach of it ends the turn.
    """

    turn_micros: Amount | None = None
    session_micros: Amount | None = None
    turn_tokens: Amount | None = None
    session_tokens: Amount | None = None
    turn_calls: Amount | None = None
    session_calls: Amount | None = None
    reserve_micros: Annotated[int, msgspec.Meta(ge=0)] = 0
    on_breach: Literal["stop", "ask", "cheaper"] = "stop"
    cheaper_model: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None

    def __post_init__(self) -> None:
        if (self.on_breach == "cheaper") != (self.cheaper_model is not None):
            raise ValueError('expected `cheaper_model` with `on_breach = "cheaper"`, and only there: set both, or none')
        smallest = min((limit for limit in (self.turn_micros, self.session_micros) if limit is not None), default=None)
        if self.reserve_micros and (smallest is None or self.reserve_micros > smallest):
            raise ValueError(
                f"expected `reserve_micros` of at most the limits in micro-dollars, got {self.reserve_micros} with "
                f"{smallest}: no call could be made"
            )

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        money = (self.turn_micros, self.session_micros)
        return any((*money, self.turn_tokens, self.session_tokens, self.turn_calls, self.session_calls))
