"""The Anthropic client, through the real SDK over HTTP, against the simulated model and against worse servers."""

import asyncio
from typing import Any, NoReturn

import aiohttp
import anthropic
import pytest
from aiohttp import web
from anthropic_fixture import (
    API_KEY,
    END,
    POLICY,
    START,
    TEXT,
    Caller,
    caller,
    caller_of,
    event,
    one_message,
    sent,
)

from agents.models.anthropic_client import STARTS_PER_TICK, AnthropicClient
from agents.models.backoff import RetryPolicy
from agents.models.prices import load_prices
from agents.models.sdk import CredentialsMissingError
from headrace.simulated_model import ModelOptions, running_server
from schemas.content import TextBlock, ToolUseBlock, text_of
from schemas.failure import FailureCode
from schemas.usage import Usage

IMPATIENT = RetryPolicy(max_attempts=3, stall_s=1)
WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def test_an_answer_with_its_usage_cost_and_deltas() -> None:
    """A plain call: the text, what it consumed and cost, and deltas that add up to the text."""
    async with caller() as one:
        done = await one.complete("[[say:It is sunny in Paris today, and it stays so until tomorrow evening.]]")
        assert done.content == (TextBlock(text="It is sunny in Paris today, and it stays so until tomorrow evening."),)
        assert (done.stop_reason, done.model, done.attempts) == ("end_turn", "claude-sonnet-5-5", 1)
        assert done.usage.output_tokens > 0
        assert done.cost_micros == load_prices().cost_micros("claude-sonnet-5-5", done.usage) > 0
        assert done.request_id is not None
        assert done.request_id.startswith("req_")
        assert done.first_delta_ms is not None
        assert one.frames.shown() == text_of(done.content)
        one.frames.check(1)


async def test_tool_calls() -> None:
    """Tools are offered, and asked for with their input; cached tokens are counted apart."""
    async with caller() as one:
        done = await one.complete('[[tool:weather {"city": "Paris"}]]', tools=(WEATHER,))
        assert done.stop_reason == "tool_use"
        [use] = [block for block in done.content if isinstance(block, ToolUseBlock)]
        assert (use.name, use.input) == ("weather", {"city": "Paris"})
        assert done.usage.cache_write_tokens > 0
        again = await one.complete('[[tool:weather {"city": "Rome"}]]', tools=(WEATHER,))
        assert again.usage.cache_read_tokens == done.usage.cache_write_tokens


async def test_an_answer_comes_in_pieces() -> None:
    """Deltas leave while the model writes, and each once."""
    async with caller() as one, aiohttp.ClientSession() as http:
        answer = asyncio.create_task(one.complete("Tell me about the mill wheel. [[hold:half]]"))
        await one.frames.is_first_shown.wait()
        assert not answer.done()
        await http.put(f"{one.url}/control/released/half")
        done = await answer
        assert one.frames.shown() == text_of(done.content)
        assert len(one.frames) >= 2
        one.frames.check(1)


@pytest.mark.parametrize("fault", ["408", "409", "429", "500", "502", "503", "529", "reset"])
async def test_a_passing_fault_before_the_stream_is_retried(fault: str) -> None:
    """Two failures, then the answer: three attempts, with growing waits and a reset frame before each retry."""
    async with caller() as one:
        done = await one.complete(f"[[fault:{fault} times=2]] [[say:At last.]]")
        assert (text_of(done.content), done.attempts) == ("At last.", 3)
        assert one.frames == [(2, 0, None), (3, 0, None), (3, 1, "At last.")]
        assert one.waits_s == [0.25, 0.5]


@pytest.mark.parametrize("fault", ["drop", "truncate", "bad-chunk", "sse-error", "stall"])
async def test_a_stream_that_breaks_is_retried(fault: str) -> None:
    """A reader who saw half of the first attempt ends with the text of the second only; both are paid for."""
    async with caller(policy=IMPATIENT if fault == "stall" else POLICY) as one:
        done = await one.complete(f"[[fault:{fault} times=1]] Tell me about the mill wheel.")
        assert done.attempts == 2
        # A fault in the same piece as the text voids the text before anyone saw it.
        if fault in ("drop", "truncate", "stall"):
            assert one.frames[0][0] == 1
        assert one.frames.shown() == text_of(done.content)
        one.frames.check(2)
        once = await one.complete("Tell me about the mill wheel.")
        assert done.usage.total_tokens > once.usage.total_tokens


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("429", FailureCode.RATE_LIMITED),
        ("500", FailureCode.PROVIDER_ERROR),
        ("529", FailureCode.OVERLOADED),
        ("reset", FailureCode.CONNECTION_FAILED),
        ("drop", FailureCode.STREAM_BROKEN),
        ("truncate", FailureCode.STREAM_BROKEN),
        ("bad-chunk", FailureCode.STREAM_BROKEN),
        ("stall", FailureCode.STREAM_BROKEN),
        ("sse-error", FailureCode.OVERLOADED),
    ],
)
async def test_a_fault_that_lasts_uses_up_the_attempts(fault: str, code: FailureCode) -> None:
    """After the last attempt the fault is the outcome, and it says that trying later can help."""
    async with caller(policy=IMPATIENT if fault == "stall" else POLICY) as one:
        failed = await one.fail(f"[[fault:{fault}]] Tell me about the mill wheel.")
        assert (failed.failure.code, failed.failure.retryable, failed.attempts) == (code, True, 3)
        assert "3 attempts" in failed.failure.message
        one.frames.check(3)
        is_streamed = code is FailureCode.STREAM_BROKEN or fault == "sse-error"
        assert (failed.usage.input_tokens + failed.usage.cache_read_tokens > 0) == is_streamed
        assert (failed.cost_micros > 0) == is_streamed


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("400", FailureCode.BAD_REQUEST),
        ("401", FailureCode.AUTHENTICATION_FAILED),
        ("403", FailureCode.PERMISSION_DENIED),
        ("404", FailureCode.MODEL_NOT_FOUND),
        ("413", FailureCode.REQUEST_TOO_LARGE),
        ("spend-limit", FailureCode.SPEND_LIMIT_REACHED),
    ],
)
async def test_what_cannot_pass_is_not_retried(fault: str, code: FailureCode) -> None:
    """One attempt, no wait, no cost, and the provider's own words."""
    async with caller() as one:
        failed = await one.fail(f"[[fault:{fault}]]")
        assert (failed.failure.code, failed.failure.retryable, failed.attempts) == (code, False, 1)
        assert "Simulated fault" in failed.failure.message
        assert (one.frames, one.waits_s, failed.usage, failed.cost_micros) == ([], [], Usage(), 0)


async def test_retry_after_is_honoured_up_to_the_cap() -> None:
    """A second is waited for; an hour is not."""
    async with caller() as one:
        await one.complete("[[fault:429 retry-after=1 times=1]]", timeout_s=1_000)
        await one.complete("[[fault:529 retry-after=3600 times=1]]", timeout_s=1_000)
        assert one.waits_s == [1.0, 60.0]


async def test_a_wait_beyond_the_time_limit_is_not_begun() -> None:
    """Who has two seconds left does not sleep for a minute first: the fault is the outcome at once."""
    async with caller() as one:
        failed = await one.fail("[[fault:429 retry-after=60]]", timeout_s=2)
        assert (failed.failure.code, failed.attempts, one.waits_s) == (FailureCode.RATE_LIMITED, 1, [])


async def test_an_overload_of_a_minute_is_survived() -> None:
    """By default, even where all jitter shortens the waits."""

    async def overloaded(request: web.Request) -> web.StreamResponse:
        if sum(one.waits_s) < 60:
            return web.json_response({"error": {"type": "overloaded_error", "message": "Overloaded"}}, status=529)
        return await sent(request, START, TEXT, END)

    async with caller_of(overloaded, RetryPolicy()) as one:
        done = await one.complete("Hello?", timeout_s=600)
        assert text_of(done.content) == "Hello"


async def test_what_is_paid_each_time_is_not_tried_as_often() -> None:
    """A model that begins to answer and breaks off is paid for."""
    async with caller(policy=RetryPolicy(max_attempts=20, max_paid_attempts=4)) as one:
        failed = await one.fail("[[fault:529 times=2]] [[fault:truncate]] Tell me about the mill wheel.")
        assert (failed.failure.code, failed.attempts) == (FailureCode.STREAM_BROKEN, 6)


async def test_the_time_limit_bounds_a_slow_model() -> None:
    """A model that never goes on is left, and what it told of its usage is kept."""

    async def begins(request: web.Request) -> web.StreamResponse:
        await sent(request, START)
        await asyncio.Event().wait()
        raise AssertionError

    async with caller_of(begins) as one:
        failed = await one.fail("Tell me about the mill wheel.", timeout_s=1.5)
        assert (failed.failure.code, failed.failure.retryable) == (FailureCode.CALL_TIMEOUT, True)
        assert failed.usage.total_tokens > 0


async def test_the_call_id_is_sent_and_a_cancelled_call_is_abandoned() -> None:
    """Cancelling ends the HTTP request at once, as the server sees, and leaves no frame behind."""
    async with (
        running_server(ModelOptions(latency_s=30, first_token_share=0.001)) as url,
        aiohttp.ClientSession() as http,
    ):
        one = Caller(url)
        task = asyncio.create_task(one.say("Tell me about the mill wheel."))
        await one.frames.is_first_shown.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        count = len(one.frames)
        while (totals := await _totals(http, url))["in_flight"]:
            await asyncio.sleep(0.02)
        assert (totals["in_flight"], totals["abandoned"]) == (0, 1)
        assert len(one.frames) == count
        async with http.get(f"{url}/control/calls") as response:
            assert (await response.json())["calls"] == {"s1/1/1": {"started": 1, "completed": 0}}
        await one.client.close()


async def _totals(http: aiohttp.ClientSession, url: str) -> dict[str, int]:
    async with http.get(f"{url}/control/calls?brief=1") as response:
        totals: dict[str, int] = (await response.json())["totals"]
        return totals


async def test_each_call_has_the_headers_of_the_sdk_and_its_own_id() -> None:
    """Headers are built once: each call still has what the SDK sends by itself, and no other call's id."""
    seen: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return await sent(request, START, TEXT, END)

    async with caller_of(handler) as one:
        for call_id in ("s1/1/1", "s2/1/1"):
            await one.client.complete(one_message("hi"), call_id=call_id, timeout_s=60, on_delta=one.frames.show)
        async with anthropic.AsyncAnthropic(api_key=API_KEY, base_url=one.url) as plain:
            await plain.messages.create(
                model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}], stream=True
            )
    first, second, by_itself = seen
    assert (first.pop("x-headrace-call-id"), second.pop("x-headrace-call-id")) == ("s1/1/1", "s2/1/1")
    assert first == second
    ours = {"accept", "accept-encoding", "content-length"}
    telemetry = {name for name in by_itself if name.startswith("x-stainless-")}
    assert first.keys() == by_itself.keys() - telemetry
    assert {name: first[name] for name in first.keys() - ours} == {
        name: by_itself[name] for name in by_itself.keys() - ours - telemetry
    }


async def test_connections_are_reused_and_not_limited() -> None:
    """Calls one after the other share a connection; 150 at once are all under way together."""
    peers: set[Any] = set()
    under_way = 0
    all_there = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal under_way
        peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        under_way += 1
        if under_way >= 153:
            all_there.set()
        if under_way > 3:
            await all_there.wait()
        response = await sent(request, START + TEXT + END)
        # The end of the response leaves apart from `message_stop`, as behind a proxy.
        await asyncio.sleep(0.01)
        return response

    async with caller_of(answer) as one:
        for _ in range(3):
            await one.complete("hello")
        assert len(peers) == 1
        outcomes = await asyncio.gather(*(one.complete("hello") for _ in range(150)))
        assert {outcome.attempts for outcome in outcomes} == {1}


async def test_no_key_leaks_from_an_error_body() -> None:
    """A server that echoes the credentials in its error does not put them into our failure."""

    async def echo(request: web.Request) -> web.StreamResponse:
        said = f"not allowed: {dict(request.headers)}, nor sk-ant-api03-someone_elses"
        return web.json_response(
            {"type": "error", "error": {"type": "invalid_request_error", "message": said}}, status=400
        )

    async with caller_of(echo) as one:
        failed = await one.fail("hello")
        assert API_KEY not in failed.failure.message
        assert "someone_elses" not in failed.failure.message
        assert "not allowed" in failed.failure.message


async def test_an_unknown_block_is_final() -> None:
    """What the transcript cannot keep ends the call, with advice."""

    async def hologram(request: web.Request) -> web.StreamResponse:
        block = {"type": "hologram", "light": "green"}
        return await sent(request, START + event("content_block_start", index=0, content_block=block) + END)

    async with caller_of(hologram) as one:
        failed = await one.fail("hello")
        assert (failed.failure.code, failed.failure.retryable) == (FailureCode.PROVIDER_ERROR, False)
        assert "hologram" in failed.failure.message


async def test_a_response_that_never_ends_is_complete_with_its_message() -> None:
    """After `message_stop` the answer is there, whatever the connection does then."""

    async def linger(request: web.Request) -> web.StreamResponse:
        response = await sent(request, START + TEXT + END)
        await asyncio.sleep(60)
        return response

    async with caller_of(linger) as one:
        done = await one.complete("hello")
        assert (text_of(done.content), done.attempts) == ("Hello", 1)


async def test_a_page_of_html_with_status_200_is_no_answer() -> None:
    """A captive portal or a wrong base URL is a broken stream, not a crash."""

    async def portal(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>Please log in</html>", content_type="text/html")

    async with caller_of(portal) as one:
        failed = await one.fail("hello")
        assert (failed.failure.code, failed.attempts) == (FailureCode.STREAM_BROKEN, 3)


async def test_a_burst_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls begin together, only a few requests are made in one round of the event loop."""
    async with caller() as one:
        per_round: list[int] = []
        is_over = False

        async def refuse(body: bytes, call_id: str) -> NoReturn:
            assert body
            assert call_id
            per_round[-1] += 1
            raise ConnectionRefusedError

        def count_rounds() -> None:
            per_round.append(0)
            if not is_over:
                asyncio.get_running_loop().call_soon(count_rounds)

        monkeypatch.setattr(one.client._api, "open", refuse)
        count_rounds()
        await asyncio.gather(*(one.fail("hello") for _ in range(200)))
        is_over = True
        assert sum(per_round) == 200 * POLICY.max_attempts
        # Each place is free again in the next round; a task that was woken may take one in the same round.
        assert max(per_round) <= 2 * STARTS_PER_TICK


async def test_nobody_listens() -> None:
    """A server that is not there is a connection failure after all attempts."""
    async with running_server() as url:
        pass
    one = Caller(url)
    failed = await one.fail("hello")
    assert (failed.failure.code, failed.failure.retryable, failed.attempts) == (FailureCode.CONNECTION_FAILED, True, 3)
    await one.client.close()


def test_no_key_at_all_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Not the first call fails, but making the client."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    with pytest.raises(CredentialsMissingError, match="ANTHROPIC_API_KEY"):
        AnthropicClient(None, None, load_prices())
