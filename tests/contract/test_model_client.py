"""The port `ModelClient`: the simulation's scripted model and Anthropic's client keep the same promises.

What only a provider can do (retries, prices, faults of the wire) is tested with its client.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Literal, Protocol

import aiohttp
import pytest
from anthropic_fixture import API_KEY, Frames, one_message
from simulation.script import Calls

from agents.models.anthropic_client import AnthropicClient
from agents.models.backoff import RetryPolicy
from agents.models.port import ModelClient, ModelCompletion, ModelFault, ModelOutcome
from agents.models.prices import load_prices
from headrace.simulated_model import ModelOptions, running_server
from schemas.content import ToolUseBlock, text_of

TIMEOUT_S = 20.0
CALL = "s1/1/1"
Ask = Literal["text", "tool", "fault", "fault that may pass"]
ORDERS: dict[Ask, str] = {
    "text": "[[say:The channel leads the stream to the wheel, and the wheel turns the stones of the mill.]]",
    "tool": '[[tool:add {"a": 1}]]',
    "fault": "[[fault:400]]",
    "fault that may pass": "[[fault:truncate]] Tell me about the mill wheel.",
}
"""What the simulated server is told to do."""
ADD = {"name": "add", "description": "d", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}


class Provider(Protocol):
    """A client, and what stands behind it."""

    client: ModelClient

    async def answer(self) -> None:
        """Let the call that is open have its outcome."""

    async def open_calls(self) -> int:
        """How many calls the model is working on."""


class Scripted:
    """The model of the simulation: seeds are tried until one draws what is asked for."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._calls = Calls(len)
        self.client: ModelClient = self._calls.model(lambda session_id, call_id: f"{session_id}: {call_id}")

    async def answer(self) -> None:
        (call,) = self._calls.open
        outcomes = (call.answer(Random(seed)) for seed in range(1_000))
        call.result.set_result(next(outcome for outcome in outcomes if self._is_wanted(outcome)))

    def _is_wanted(self, outcome: object) -> bool:
        match outcome:
            case ModelCompletion(stop_reason=reason):
                return (self._ask, reason) in {("text", "end_turn"), ("tool", "tool_use")}
            case ModelFault(failure=failure):
                return self._ask == ("fault that may pass" if failure.retryable else "fault")
            case _:
                return False

    async def open_calls(self) -> int:
        return len(self._calls.open)


class AtAnthropic:
    """The client of a worker before the simulated server, which answers on its own."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._calls_url = f"{url}/control/calls?brief=1"
        self._http = http
        policy = RetryPolicy(max_attempts=3, stall_s=30)
        self.client: ModelClient = AnthropicClient(
            API_KEY, url, load_prices(), policy, random=lambda: 0.0, sleep=_no_wait
        )

    async def answer(self) -> None:
        """It is on its way."""

    async def open_calls(self) -> int:
        async with self._http.get(self._calls_url) as response:
            return int((await response.json())["totals"]["in_flight"])


async def _no_wait(seconds: float) -> None:
    del seconds


@asynccontextmanager
async def scripted(ask: Ask, latency_s: float) -> AsyncIterator[Provider]:
    del latency_s
    yield Scripted(ask)


@asynccontextmanager
async def at_anthropic(ask: Ask, latency_s: float) -> AsyncIterator[Provider]:
    del ask
    options = ModelOptions(latency_s=latency_s, first_token_share=0.01)
    async with running_server(options) as url, aiohttp.ClientSession() as http:
        provider = AtAnthropic(url, http)
        yield provider
        await provider.client.close()


Opening = Callable[[Ask, float], AbstractAsyncContextManager[Provider]]


@pytest.fixture(params=[scripted, at_anthropic])
def opening(request: pytest.FixtureRequest) -> Opening:
    chosen: Opening = request.param
    return chosen


def call(provider: Provider, ask: Ask, frames: Frames) -> "asyncio.Task[ModelOutcome]":
    prompt = one_message(ORDERS[ask], (ADD,))
    return asyncio.create_task(
        provider.client.complete(prompt, call_id=CALL, timeout_s=TIMEOUT_S, on_delta=frames.show)
    )


async def outcome_of(opening: Opening, ask: Ask) -> tuple[ModelOutcome, Frames]:
    """What becomes of a call, and the frames that came before that."""
    frames = Frames()
    async with opening(ask, 0.2) as provider:
        calling = call(provider, ask, frames)
        while not await provider.open_calls() and not calling.done():
            await asyncio.sleep(0)
        await provider.answer()
        outcome = await calling
        count = len(frames)
        assert await provider.open_calls() == 0
    assert len(frames) == count
    return outcome, frames


async def test_an_answer_comes_in_frames_and_then_as_a_whole(opening: Opening) -> None:
    """Frames count from 0 and add up to the text of the completion; nothing comes after it."""
    outcome, frames = await outcome_of(opening, "text")
    assert isinstance(outcome, ModelCompletion)
    assert outcome.stop_reason == "end_turn"
    assert len(frames) > 1
    assert frames.shown() == text_of(outcome.content) != ""
    frames.check(outcome.attempts)
    assert outcome.usage.output_tokens > 0
    assert outcome.cost_micros > 0
    assert outcome.first_delta_ms is not None


async def test_tools_that_are_asked_for_have_an_id_and_an_object(opening: Opening) -> None:
    """Each use can be told from the others, and carries its input."""
    outcome, frames = await outcome_of(opening, "tool")
    assert isinstance(outcome, ModelCompletion)
    uses = [block for block in outcome.content if isinstance(block, ToolUseBlock)]
    assert uses
    assert len({use.id for use in uses}) == len(uses)
    assert all(use.input for use in uses)
    assert frames.shown() == text_of(outcome.content)
    frames.check(outcome.attempts)


async def test_a_fault_is_data(opening: Opening) -> None:
    """Nothing is raised; what cannot be retried was tried once."""
    outcome, frames = await outcome_of(opening, "fault")
    assert isinstance(outcome, ModelFault)
    assert (outcome.failure.retryable, outcome.attempts) == (False, 1)
    frames.check(1)
    assert outcome.failure.message
    assert outcome.model


async def test_a_fault_that_may_pass_was_tried_again(opening: Opening) -> None:
    """A reset frame begins each further attempt, so the half answers before it are void."""
    outcome, frames = await outcome_of(opening, "fault that may pass")
    assert isinstance(outcome, ModelFault)
    assert (outcome.failure.retryable, outcome.attempts) == (True, 3)
    frames.check(3)
    assert [frame for frame in frames if frame[2] is None] == [(2, 0, None), (3, 0, None)]


async def test_a_call_that_is_cancelled_ends(opening: Opening) -> None:
    """`CancelledError` comes out, the model is left alone, and no frame follows."""
    frames = Frames()
    async with opening("text", 60) as provider:
        calling = call(provider, "text", frames)
        await frames.is_first_shown.wait()
        assert await provider.open_calls() == 1
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        count = len(frames)
        async with asyncio.timeout(TIMEOUT_S):
            while await provider.open_calls():
                await asyncio.sleep(0)
        assert len(frames) == count > 0
