"""Results of remote tools, on `tool-results`: what a service says that ran a call. They may be refused."""

from typing import Annotated

import msgspec
from msgspec import Struct

from schemas.ids import AnsweredCallId, SessionId

RemoteContent = Annotated[
    str, msgspec.Meta(description="What the model is told; what is not text, as JSON in it. Cut at the tool's limit.")
]


class RemoteError(Struct, frozen=True, kw_only=True):
    """Why a remote tool has no result."""

    message: Annotated[
        str, msgspec.Meta(min_length=1, description="What the model is told: what was expected, what to do instead.")
    ]
    retryable: Annotated[bool, msgspec.Meta(description="Whether the same call can succeed later.")] = False


class RemoteResult(Struct, frozen=True, kw_only=True, tag="tool_result"):
    """The outcome of a remote tool's call: `content`, or an `error`. The first one of a call counts."""

    session_id: SessionId
    call_id: AnsweredCallId
    content: RemoteContent | None = None
    error: Annotated[RemoteError | None, msgspec.Meta(description="Why there is no result.")] = None

    def __post_init__(self) -> None:
        if (self.content is None) == (self.error is None):
            raise ValueError("expected either `content` or `error`, got both or none: say how the call ended")
