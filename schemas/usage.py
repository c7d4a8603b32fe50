"""What a model call consumed."""

from typing import Annotated

import msgspec
from msgspec import Struct

_Count = Annotated[int, msgspec.Meta(ge=0)]
InputTokens = Annotated[
    _Count, msgspec.Meta(description="Input tokens at the full price: neither read from nor written to the cache.")
]
CacheReadTokens = Annotated[_Count, msgspec.Meta(description="Input tokens that were read from the provider's cache.")]
CacheWriteTokens = Annotated[
    _Count, msgspec.Meta(description="Input tokens that were written to the provider's cache.")
]
OutputTokens = Annotated[_Count, msgspec.Meta(description="Tokens that the model wrote, its thinking included.")]


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens; the whole input is the sum of the three input counts."""

    input_tokens: InputTokens = 0
    cache_read_tokens: CacheReadTokens = 0
    cache_write_tokens: CacheWriteTokens = 0
    output_tokens: OutputTokens = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens + self.output_tokens


CallUsage = Annotated[Usage, msgspec.Meta(description="What the call consumed, its failed attempts included.")]
TurnUsage = Annotated[Usage, msgspec.Meta(description="What all model calls of the turn consumed.")]
CallCost = Annotated[
    int, msgspec.Meta(description="What the call cost, its failed attempts included, in micro-dollars (0.000001 USD).")
]
TurnCost = Annotated[
    int, msgspec.Meta(description="What all model calls of the turn cost, in micro-dollars (0.000001 USD).")
]
