"""Anthropic's models over the Messages API, streaming. The retries are ours: the SDK waits as long as a server says."""

import asyncio
import contextlib
import random as random_module
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from agents.models.backoff import RetryPolicy, retry_delay_s
from agents.models.deltas import DeltaCoalescer
from agents.models.faults import Fault, call_timeout, scrubbed, stream_broken
from agents.models.port import DeltaSink, ModelCompletion, ModelFault, ModelOutcome
from agents.models.prices import Prices
from agents.models.sse import EventTooLargeError, SseDecoder
from agents.models.stream import Message, MessageAssembler
from agents.prompt import Prompt
from schemas.failure import Failure
from schemas.usage import Usage

DRAIN_S = 1.0
"""After `message_stop` only the end of the response is due. A connection whose end does not come is not reused."""

DEFAULT_POLICY = RetryPolicy()

STARTS_PER_TICK = 16
"""Requests begun in one round of the event loop: each takes half a millisecond of it. Without the bound, thousands of
calls that begin together, as after a rebalance, would hold up everything else for seconds."""

_encode = msgspec.json.Encoder().encode


class _Call:
    """One call: its request, and what its attempts came to so far."""

    def __init__(self, prompt: Prompt, call_id: str, prices: Prices, deltas: DeltaCoalescer, started_at: float) -> None:
        self.id = call_id
        self.model = prompt.model
        self.body = _encode(_request(prompt))
        self.deltas = deltas
        self.started_at = started_at
        self.attempts = 0
        self.paid_attempts = 0
        self.usage = Usage()
        self.cost_micros = 0
        self.message = MessageAssembler()
        self.request_id: str | None = None
        self.first_delta_ms: int | None = None
        self.last_fault: Fault | None = None
        self._prices = prices

    def begin_attempt(self) -> None:
        self.attempts += 1
        self.message = MessageAssembler()
        self.request_id = None
        self.first_delta_ms = None
        self.deltas.begin_attempt()

    def end_attempt(self) -> None:
        """Add up what the attempt consumed. Each is priced alone, as the price depends on the size of the prompt."""
        usage = self.message.usage
        self.message.usage = Usage()
        if usage.total_tokens:
            self.paid_attempts += 1
            self.usage += usage
            self.cost_micros += self._prices.cost_micros(self.message.model or self.model, usage)

    def hear(self, now: float) -> None:
        """Pass on the text that came."""
        text = self.message.take_text()
        if text and self.first_delta_ms is None:
            self.first_delta_ms = round((now - self.started_at) * 1_000)
        self.deltas.add(text)


class AnthropicClient:
    """Implements `ModelClient`.

    Args:
        api_key: None takes the SDK's own places (ANTHROPIC_API_KEY and others).
        base_url: None takes ANTHROPIC_BASE_URL or the real API.
        prices: what tokens cost.
        policy: bounds of the retries.
        random: for the jitter, in [0, 1).
        sleep: waits between attempts.

    Raises:
        CredentialsMissingError: there is no API key.
    """

    def __init__(
        self,
        api_key: str | None,
        base_url: str | None,
        prices: Prices,
        policy: RetryPolicy = DEFAULT_POLICY,
        *,
        random: Callable[[], float] = random_module.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        from agents.models.sdk import WORLD_ERRORS, MessagesApi

        self._api = MessagesApi(api_key, base_url, policy)
        self._world_errors = WORLD_ERRORS
        self._prices = prices
        self._policy = policy
        self._random = random
        self._sleep = sleep
        self._starts = asyncio.Semaphore(STARTS_PER_TICK)

    async def complete(self, prompt: Prompt, *, call_id: str, timeout_s: float, on_delta: DeltaSink) -> ModelOutcome:
        """Call the model, with retries; see `ModelClient`."""
        loop = asyncio.get_running_loop()
        call = _Call(prompt, call_id, self._prices, DeltaCoalescer(on_delta, loop.call_later), loop.time())
        result: Message | Fault
        try:
            async with asyncio.timeout(timeout_s) as limit:
                result = await self._with_retries(call, loop.time() + timeout_s)
        except TimeoutError:
            if not limit.expired():
                raise
            result = call_timeout(timeout_s, call.last_fault)
        finally:
            call.deltas.abandon()
            call.end_attempt()
        return self._outcome(call, result)

    async def close(self) -> None:
        """Close all connections; see `ModelClient`."""
        await self._api.close()

    async def _with_retries(self, call: _Call, deadline: float) -> Message | Fault:
        loop = asyncio.get_running_loop()
        while True:
            call.begin_attempt()
            result = await self._attempt(call)
            if isinstance(result, Message):
                call.deltas.flush()
                return result
            call.end_attempt()
            call.last_fault = result
            if not result.retryable or self._is_used_up(call):
                return result
            delay_s = retry_delay_s(
                self._policy, attempt=call.attempts, retry_after_s=result.retry_after_s, random=self._random()
            )
            if loop.time() + delay_s >= deadline:
                return result
            await self._sleep(delay_s)

    def _is_used_up(self, call: _Call) -> bool:
        return call.attempts >= self._policy.max_attempts or call.paid_attempts >= self._policy.max_paid_attempts

    async def _attempt(self, call: _Call) -> Message | Fault:
        await self._starts.acquire()
        asyncio.get_running_loop().call_soon(self._starts.release)
        try:
            response = await self._api.open(call.body, call.id)
            call.request_id = response.headers.get("request-id")
            try:
                fault = await _read(response.aiter_bytes(), call)
            finally:
                # Ends the request where the stream has not ended: on a fault, on timeout and on cancellation.
                await response.aclose()
        except self._world_errors as error:
            # Once the message is whole, the connection's end does not matter.
            fault = None if call.message.is_stopped else self._api.fault_of(error)
        return fault or call.message.finish()

    def _outcome(self, call: _Call, result: Message | Fault) -> ModelOutcome:
        match result:
            case Message():
                return ModelCompletion(
                    content=result.content,
                    stop_reason=result.stop_reason,
                    usage=call.usage,
                    cost_micros=call.cost_micros,
                    model=result.model,
                    attempts=call.attempts,
                    request_id=call.request_id,
                    first_delta_ms=call.first_delta_ms,
                )
            case Fault():
                tried = f" (after {call.attempts} attempts)" if call.attempts > 1 else ""
                message = scrubbed(result.message, self._api.secrets) + tried
                return ModelFault(
                    failure=Failure(code=result.code, message=message, retryable=result.retryable),
                    model=call.model,
                    attempts=call.attempts,
                    usage=call.usage,
                    cost_micros=call.cost_micros,
                )


async def _read(chunks: AsyncIterator[bytes], call: _Call) -> Fault | None:
    """Read the stream; one delta for each piece that the network delivers, not for each event."""
    decoder = SseDecoder()
    message = call.message
    now = asyncio.get_running_loop().time
    try:
        while (chunk := await anext(chunks, None)) is not None:
            for data in decoder.feed(chunk):
                if fault := message.feed(data):
                    return fault
            call.hear(now())
            if message.is_stopped:
                await _drain(chunks)
                return None
    except EventTooLargeError as error:
        return stream_broken(str(error))
    return None


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read the end of the response, without which its connection cannot be used again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in chunks:
                pass


def _request(prompt: Prompt) -> dict[str, Any]:
    """The body; empty lists are left out, as the API refuses some of them."""
    request: dict[str, Any] = {
        "model": prompt.model,
        "max_tokens": prompt.max_tokens,
        "stream": True,
        "messages": prompt.messages,
    }
    if prompt.system:
        request["system"] = prompt.system
    if prompt.tools:
        request["tools"] = prompt.tools
    return request
