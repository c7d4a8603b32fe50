"""The model behind the worker's real client: server-sent events, drawn from the seed, that arrive whole or do not.

The client's retries, its decoder and its assembler are the real ones; in the place of the SDK and its connections is
`ScriptedApi`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from random import Random
from typing import Any

from agents.models import faults
from agents.models.anthropic_client import STARTS_PER_TICK, AnthropicClient
from agents.models.backoff import RetryPolicy
from agents.models.faults import Fault, HttpError
from agents.models.port import ModelCompletion
from agents.models.prices import Prices, load_prices
from schemas.content import TextBlock, ToolUseBlock

POLICY = RetryPolicy(max_attempts=3)
STATUSES = (400, 401, 408, 413, 429, 500, 529)
FLAWS = ("refused", "dropped", "cut", "repeated", "left out", "swapped", "garbled", "error")
FLAW_SHARE = 0.2
"""Of the attempts; those that fail are repeated."""
Ask = Callable[[str, Callable[[Random], object]], Awaitable[object]]


class ScriptedError(Exception):
    """What the world does to an attempt."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Response:
    """An answer in two pieces; `error` is what comes in the place of its end."""

    def __init__(self, ask: Callable[[], Awaitable[object]], pieces: list[bytes], error: ScriptedError | None) -> None:
        self.headers: dict[str, str] = {}
        self._ask = ask
        self._pieces = pieces
        self._error = error

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        for number, piece in enumerate(self._pieces):
            if number:
                await self._ask()
            yield piece
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        """Nothing is open."""


class ScriptedApi:
    """In the place of `MessagesApi`. `draw` gives what the model says; `flawed` counts what was done to it."""

    secrets = ()

    def __init__(self, ask: Ask, draw: Callable[[Random, str], ModelCompletion], flawed: Callable[[str], None]) -> None:
        self._ask = ask
        self._draw = draw
        self._flawed = flawed

    async def open(self, body: bytes, call_id: str) -> Response:
        del body
        drawn = await self._ask(call_id, lambda rng: self._answer(rng, call_id))
        if isinstance(drawn, ScriptedError):
            raise drawn
        assert isinstance(drawn, tuple)
        pieces, error = drawn
        return Response(lambda: self._ask(call_id, _nothing), pieces, error)

    def fault_of(self, error: Exception) -> Fault:
        assert isinstance(error, ScriptedError)
        return error.fault

    async def close(self) -> None:
        """Nothing is open."""

    def _answer(self, rng: Random, call_id: str) -> object:
        flaw = rng.choice(FLAWS) if rng.random() < FLAW_SHARE else None
        if flaw is not None:
            self._flawed(flaw)
        if flaw == "refused":
            return ScriptedError(faults.of_http_error(HttpError(status=rng.choice(STATUSES), detail="why")))
        events = events_of(self._draw(rng, call_id))
        error = ScriptedError(faults.stream_broken("the connection was lost")) if flaw == "dropped" else None
        data = b"".join(b"event: e\ndata: " + event + b"\n\n" for event in _flawed(events, flaw, rng))
        at = rng.randrange(len(data) + 1)
        return [piece for piece in (data[:at], data[at:]) if piece], error


def _nothing(rng: Random) -> object:
    return rng


def _flawed(events: list[bytes], flaw: str | None, rng: Random) -> list[bytes]:
    at = rng.randrange(len(events))
    before, event, after = events[:at], events[at], events[at + 1 :]
    match flaw:
        case "dropped" | "cut":
            events = before
        case "repeated":
            events = [*before, event, event, *after]
        case "left out":
            events = [*before, *after]
        case "swapped":
            events = [*before, *after[:1], event, *after[1:]]
        case "garbled":
            place = rng.randrange(len(event))
            events = [*before, event[:place] + bytes([rng.randrange(32, 256)]) + event[place + 1 :], *after]
        case "error":
            events = [*before, _encoded(type="error", error={"type": "overloaded_error", "message": "why"})]
        case _:
            pass
    return events


def events_of(answer: ModelCompletion) -> list[bytes]:
    """The data of the events that the API sends for an answer."""
    usage = {"input_tokens": 2, "output_tokens": answer.usage.output_tokens}
    events = [_encoded(type="message_start", message={"model": answer.model, "usage": usage})]
    for index, block in enumerate(answer.content):
        match block:
            case TextBlock(text=text):
                begun: dict[str, Any] = {"type": "text", "text": ""}
                delta = {"type": "text_delta", "text": text}
            case ToolUseBlock(id=id, name=name, input=arguments):
                begun = {"type": "tool_use", "id": id, "name": name, "input": {}}
                delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
            case _:
                raise AssertionError(f"the script has no {block}")
        events.append(_encoded(type="content_block_start", index=index, content_block=begun))
        events.append(_encoded(type="content_block_delta", index=index, delta=delta))
        events.append(_encoded(type="content_block_stop", index=index))
    events.append(_encoded(type="message_delta", delta={"stop_reason": answer.stop_reason}, usage=usage))
    return [*events, _encoded(type="message_stop")]


def _encoded(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@cache
def _prices() -> Prices:
    return load_prices()


def streaming_client(api: ScriptedApi) -> AnthropicClient:
    """The worker's client over `api`, made without the SDK, which costs a second to import."""
    client = AnthropicClient.__new__(AnthropicClient)
    parts: dict[str, object] = {
        "_api": api,
        "_world_errors": (ScriptedError,),
        "_prices": _prices(),
        "_policy": POLICY,
        "_random": lambda: 0.5,
        "_sleep": asyncio.sleep,
        "_starts": asyncio.Semaphore(STARTS_PER_TICK),
    }
    for name, value in parts.items():
        setattr(client, name, value)
    return client
