"""The port between `call_model` and a provider's client: what goes in, what comes out, and who hears the deltas."""

from typing import Protocol

from msgspec import Struct

from agents.prompt import Prompt
from schemas.content import AssistantBlock
from schemas.failure import Failure
from schemas.usage import Usage


class ModelCompletion(Struct, frozen=True, kw_only=True):
    """The model's answer.

    `usage` and `cost_micros` are those of the whole call, attempts that failed before included. `first_delta_ms` counts
    from the start of the call to the first text of the attempt that succeeded; None where it has no text.
    `stop_reason` is the provider's. With `max_tokens`, a tool use whose input was cut off has the input `{}`.
    """

    content: tuple[AssistantBlock, ...]
    stop_reason: str
    usage: Usage
    cost_micros: int
    model: str
    attempts: int
    request_id: str | None
    first_delta_ms: int | None


class ModelFault(Struct, frozen=True, kw_only=True):
    """The call failed for good: it cannot be retried, or its attempts or its time are used up.

    `failure.retryable` says whether the same call can succeed later. `usage` and `cost_micros` are what the attempts
    consumed as far as the provider said so before they failed.
    """

    failure: Failure
    model: str
    attempts: int
    usage: Usage
    cost_micros: int


ModelOutcome = ModelCompletion | ModelFault


class DeltaSink(Protocol):
    """Hears the text while the model writes it; a plain function that returns at once.

    `attempt` counts from 1, `seq` counts the frames of one attempt from 0. `text` None is the reset frame: a further
    attempt begins, and all text of the attempts before it is void. It is the first frame of all attempts but the first.
    """

    def __call__(self, attempt: int, seq: int, text: str | None, /) -> None: ...


class ModelClient(Protocol):
    """Calls one provider's models."""

    async def complete(self, prompt: Prompt, *, call_id: str, timeout_s: float, on_delta: DeltaSink) -> ModelOutcome:
        """Call the model, with retries; whatever the world does becomes a `ModelFault`.

        Args:
            prompt: the request.
            call_id: sent along, so that calls can be told apart in the provider's logs.
            timeout_s: bounds everything: all attempts and the waits between them.
            on_delta: hears the text as it comes.

        Cancelling the task that awaits this ends the request at once. Only bugs raise.
        """
        ...

    async def close(self) -> None:
        """Close all connections. Await or cancel the calls in flight first: their streams would hang."""
        ...
