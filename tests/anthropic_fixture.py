"""A client of Anthropic's, the frames that it sent, and servers for it: the simulated model, or a handler of a test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from agents.models.anthropic_client import AnthropicClient
from agents.models.backoff import RetryPolicy
from agents.models.port import ModelCompletion, ModelFault, ModelOutcome
from agents.models.prices import load_prices
from agents.prompt import Prompt
from headrace.simulated_model import ModelOptions, running_server

API_KEY = "key-of-this-test"
POLICY = RetryPolicy(max_attempts=3, stall_s=30)

Frame = tuple[int, int, str | None]


def one_message(text: str, tools: tuple[dict[str, Any], ...] = ()) -> Prompt:
    """The prompt of a first turn."""
    return Prompt(
        model="claude-sonnet-5-5",
        max_tokens=1_000,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        tools=list(tools),
        messages=[{"role": "user", "content": [{"type": "text", "text": text}]}],
    )


class Frames(list[Frame]):
    """A `DeltaSink` that remembers: attempt, seq and text of each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.is_first_shown = asyncio.Event()

    def show(self, attempt: int, seq: int, text: str | None) -> None:
        self.append((attempt, seq, text))
        self.is_first_shown.set()

    def shown(self) -> str:
        """What a reader who obeys the reset frames sees at the end."""
        text = ""
        for _, _, frame in self:
            text = "" if frame is None else text + frame
        return text

    def check(self, attempts: int) -> None:
        """Frames of each attempt count from 0; each attempt but the first begins with the reset frame."""
        for attempt in range(1, attempts + 1):
            frames = [(seq, text) for number, seq, text in self if number == attempt]
            assert [seq for seq, _ in frames] == list(range(len(frames)))
            assert [text is None for _, text in frames] == [attempt > 1 and seq == 0 for seq, _ in frames]
        assert [frame[0] for frame in self] == sorted(frame[0] for frame in self)
        assert not self or self[-1][0] == attempts


class Caller:
    """One client, the frames that it sent, and the waits between its attempts, which take no time."""

    def __init__(self, url: str, policy: RetryPolicy = POLICY) -> None:
        self.frames = Frames()
        self.waits_s: list[float] = []
        self.url = url
        self.client = AnthropicClient(
            API_KEY, url, load_prices(), policy, random=lambda: 0.0, sleep=self._remember_wait
        )

    async def _remember_wait(self, seconds: float) -> None:
        self.waits_s.append(seconds)

    async def say(self, text: str, *, timeout_s: float = 60.0, tools: tuple[dict[str, Any], ...] = ()) -> ModelOutcome:
        prompt = one_message(text, tools)
        return await self.client.complete(prompt, call_id="s1/1/1", timeout_s=timeout_s, on_delta=self.frames.show)

    async def complete(self, text: str, **options: Any) -> ModelCompletion:
        outcome = await self.say(text, **options)
        assert isinstance(outcome, ModelCompletion), outcome
        return outcome

    async def fail(self, text: str, **options: Any) -> ModelFault:
        outcome = await self.say(text, **options)
        assert isinstance(outcome, ModelFault), outcome
        return outcome


@asynccontextmanager
async def caller(options: ModelOptions | None = None, policy: RetryPolicy = POLICY) -> AsyncIterator[Caller]:
    async with running_server(options) as url:
        one = Caller(url, policy)
        try:
            yield one
        finally:
            await one.client.close()


@asynccontextmanager
async def caller_of(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], policy: RetryPolicy = POLICY
) -> AsyncIterator[Caller]:
    """A caller of a server with just this handler."""
    app = web.Application()
    app.router.add_post("/v1/messages", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one = Caller(f"http://127.0.0.1:{runner.addresses[0][1]}", policy)
    try:
        yield one
    finally:
        await one.client.close()
        await runner.cleanup()


def event(type: str, **content: object) -> bytes:
    return b"data: " + msgspec.json.encode({"type": type, **content}) + b"\n\n"


START = event("message_start", message={"model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}})
TEXT = event("content_block_start", index=0, content_block={"type": "text", "text": "Hello"})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}) + event("message_stop")


async def sent(request: web.Request, *pieces: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
    return response
