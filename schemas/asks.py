"""Sessions that work for another session: whom they answer."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.ids import CallId, SessionId


class AskedBy(Struct, frozen=True, kw_only=True):
    """The call of another session that a message serves: the end of its turn is the result of that call."""

    session_id: Annotated[SessionId, Meta(description="The session that asks.")]
    call_id: Annotated[CallId, Meta(description="Its call that waits.")]
    depth: Annotated[int, Meta(description="How many calls stand above the message: 1 where a person's turn asks.")]
    budget_micros: Annotated[
        int | UnsetType, Meta(description="What the turn may cost at most, in micro-dollars; missing: no limit.")
    ] = UNSET
    budget_tokens: Annotated[
        int | UnsetType, Meta(description="How many tokens the turn may take at most; missing: no limit.")
    ] = UNSET
    budget_calls: Annotated[
        int | UnsetType, Meta(description="How often the turn may call models at most; missing: no limit.")
    ] = UNSET


_WHO = Meta(description="The call of another session that waits for the end of this turn; a person's turn has none.")
Asker = Annotated[AskedBy | None, _WHO]
ToldAsker = Annotated[AskedBy | UnsetType, _WHO]
