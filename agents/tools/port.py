"""What the processor that runs tools, and the tools themselves, say to each other."""

from typing import Any

from msgspec import Struct

from schemas.failure import Failure


class ToolDefinition(Struct, frozen=True, kw_only=True):
    """A tool as the model is told of it; `input_schema` is a self-contained JSON Schema of type `object`."""

    name: str
    description: str
    input_schema: dict[str, Any]


class ToolContext(Struct, frozen=True, kw_only=True):
    """Who calls. `call_id` is the idempotency key: the same call has the same one, in every attempt and worker.

    `user_id` and `tenant` are those of the message that began the turn, where it named them.
    """

    call_id: str
    session_id: str
    agent: str
    user_id: str | None = None
    tenant: str | None = None


class ToolReturn(Struct, frozen=True, kw_only=True):
    content: str
    attempts: int


class ToolFault(Struct, frozen=True, kw_only=True):
    """`failure.message` is for the model; `cause` is for the log of the caller, with its traceback.

    `attempts` is 0 where the tool's code was never entered.
    """

    failure: Failure
    attempts: int
    cause: BaseException | None = None


ToolOutcome = ToolReturn | ToolFault


class ToolError(Exception):
    """Raised by a tool: the model reads `message` verbatim, so it should say what to do instead.

    `retryable`: the same call can succeed later; an idempotent tool is then tried again.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable


class ToolDeclarationError(TypeError):
    """A function cannot be a tool as it is written; the message says what to change."""
