"""The real anthropic SDK, with strict validation of every reply, against the simulated model on a loopback port."""

import asyncio
import io
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import anthropic
import httpx2
import pytest
from anthropic.types.shared import EnforcedSpendLimitReachedError

from headrace.simulated_model import ModelOptions, running_server

MODEL = "claude-haiku-5-5"
CALCULATOR: Any = {
    "name": "calculator",
    "description": "Calculates.",
    "input_schema": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
}


def sdk(url: str, *, is_aiohttp: bool = True, key: str = "key") -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        api_key=key,
        base_url=url,
        max_retries=0,
        http_client=anthropic.DefaultAioHttpClient() if is_aiohttp else None,
        _strict_response_validation=True,
    )


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with running_server() as served:
        yield served


@pytest.fixture(params=[True, False], ids=["aiohttp", "httpx"])
async def client(url: str, request: pytest.FixtureRequest) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with sdk(url, is_aiohttp=request.param) as made:
        yield made


def asked(text: str) -> Any:
    return {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": text}]}


async def streamed(client: anthropic.AsyncAnthropic, text: str, **headers: str) -> list[Any]:
    async with await client.messages.create(**asked(text), stream=True, extra_headers=headers) as stream:
        return [event async for event in stream]


async def test_create_stream_and_helper_agree(client: anthropic.AsyncAnthropic) -> None:
    """The three ways to call give the same answer."""
    whole = await client.messages.create(**asked("How do rivers work?"))
    async with client.messages.stream(**asked("How do rivers work?")) as stream:
        helped = await stream.get_final_message()
    events = await streamed(client, "How do rivers work?")
    pieces = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert whole.content[0].type == helped.content[0].type == "text"
    assert whole.content[0].text == helped.content[0].text == "".join(pieces)
    assert len(pieces) > 3
    assert whole.stop_reason == helped.stop_reason == "end_turn"
    assert whole.usage.output_tokens == helped.usage.output_tokens > 10
    assert whole.usage.input_tokens > 0


async def test_a_turn_with_parallel_tools(client: anthropic.AsyncAnthropic) -> None:
    """Two sums are asked for in one streamed reply, the input in several pieces; the answer quotes both results."""
    request: Any = asked("What is 12 * (3 + 4) and what is 10 / 4?")
    async with client.messages.stream(**request, tools=[CALCULATOR]) as stream:
        pieces = [event.partial_json async for event in stream if event.type == "input_json"]
        first = await stream.get_final_message()
    uses = [block for block in first.content if block.type == "tool_use"]
    assert first.stop_reason == "tool_use"
    assert [use.input for use in uses] == [{"expression": "12 * (3 + 4)"}, {"expression": "10 / 4"}]
    assert len(pieces) > 2
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": str(84 + i)} for i, use in enumerate(uses)]
    request["messages"] += [first.to_param(), {"role": "user", "content": results}]
    final = await client.messages.create(**request, tools=[CALCULATOR])
    assert final.content[0].type == "text"
    assert "12 * (3 + 4) = 84" in final.content[0].text
    assert "10 / 4 = 85" in final.content[0].text
    assert final.stop_reason == "end_turn"


async def test_tokens_are_counted_as_they_are_billed(client: anthropic.AsyncAnthropic) -> None:
    """`count_tokens` and the usage of the call agree, and a marked prefix is read from the cache the second time."""
    request = asked("hi")
    request["system"] = [{"type": "text", "text": "Be brief. " * 100, "cache_control": {"type": "ephemeral"}}]
    del request["max_tokens"]
    counted = await client.messages.count_tokens(**request)
    first, second = [(await client.messages.create(**request, max_tokens=9)).usage for _ in range(2)]
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (250, 0)
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, 250)
    assert first.input_tokens + 250 == second.input_tokens + 250 == counted.input_tokens


async def test_the_headers_of_the_real_api_are_there(client: anthropic.AsyncAnthropic) -> None:
    """Each reply has its own request id, and rate limits with resets in the future."""
    replies = [await client.messages.with_raw_response.create(**asked("hi")) for _ in range(2)]
    assert replies[0].headers["request-id"] != replies[1].headers["request-id"]
    assert (await replies[0].parse())._request_id == replies[0].headers["request-id"]
    for unit in ("requests", "input-tokens", "output-tokens"):
        headers = {
            name: replies[0].headers[f"anthropic-ratelimit-{unit}-{name}"] for name in ("limit", "remaining", "reset")
        }
        assert 0 < int(headers["remaining"]) <= int(headers["limit"])
        assert datetime.fromisoformat(headers["reset"]).timestamp() > time.time() - 1


# What each fault becomes in the SDK, for a stream: exception, status, `.type`.
STATUS_FAULTS: dict[str, tuple[type[anthropic.APIStatusError], int, str]] = {
    "400": (anthropic.BadRequestError, 400, "invalid_request_error"),
    "401": (anthropic.AuthenticationError, 401, "authentication_error"),
    "403": (anthropic.PermissionDeniedError, 403, "permission_error"),
    "404": (anthropic.NotFoundError, 404, "not_found_error"),
    "408": (anthropic.APIStatusError, 408, "timeout_error"),
    "409": (anthropic.ConflictError, 409, "conflict_error"),
    "413": (anthropic.APIStatusError, 413, "request_too_large"),
    "429": (anthropic.RateLimitError, 429, "rate_limit_error"),
    "500": (anthropic.InternalServerError, 500, "api_error"),
    "502": (anthropic.InternalServerError, 502, "api_error"),
    "503": (anthropic.InternalServerError, 503, "api_error"),
    "504": (anthropic.InternalServerError, 504, "timeout_error"),
    "529": (anthropic.InternalServerError, 529, "overloaded_error"),
    "spend-limit": (EnforcedSpendLimitReachedError, 429, "rate_limit_error"),
    # The stream had begun, so the status of the response is 200.
    "sse-error": (anthropic.APIStatusError, 200, "overloaded_error"),
}


@pytest.mark.parametrize("kind", STATUS_FAULTS)
async def test_each_error_of_the_api(client: anthropic.AsyncAnthropic, kind: str) -> None:
    """An error reaches the caller as the SDK's class for it, with its type and request id."""
    expected, status, error_type = STATUS_FAULTS[kind]
    with pytest.raises(expected) as caught:
        await streamed(client, f"hello [[fault:{kind} retry-after=7]]")
    assert (caught.value.status_code, caught.value.type) == (status, error_type)
    assert caught.value.request_id
    assert caught.value.response.headers.get("retry-after") == ("7" if status != 200 else None)


# With the aiohttp transport and with httpx's own.
TRANSPORT_FAULTS: dict[str, tuple[type[Exception], ...]] = {
    "reset": (anthropic.APIConnectionError,),
    "drop": (httpx2.ReadError, httpx2.RemoteProtocolError),
    "bad-chunk": (json.JSONDecodeError,),
    "stall": (TimeoutError,),
}


@pytest.mark.parametrize("kind", TRANSPORT_FAULTS)
async def test_each_fault_of_the_transport(client: anthropic.AsyncAnthropic, kind: str) -> None:
    """A broken stream raises what its transport raises; a stalled one raises nothing until the caller gives up."""
    with pytest.raises(TRANSPORT_FAULTS[kind]):
        async with asyncio.timeout(0.5 if kind == "stall" else 20):
            await streamed(client, f"hello [[fault:{kind}]]")


async def test_a_truncated_stream_raises_nothing_and_has_no_stop_reason(client: anthropic.AsyncAnthropic) -> None:
    """The stream ends as if it were whole; only the missing end tells."""
    types = [event.type for event in await streamed(client, "hello [[fault:truncate]]")]
    assert "content_block_delta" in types
    assert not {"message_delta", "message_stop"} & set(types)


@pytest.mark.parametrize("kind", ["drop", "reset", "truncate", "bad-chunk", "sse-error"])
async def test_faults_strike_calls_without_stream_too(client: anthropic.AsyncAnthropic, kind: str) -> None:
    """A whole reply can break as well."""
    with pytest.raises((anthropic.APIError, httpx2.TransportError, json.JSONDecodeError)):
        await client.messages.create(**asked(f"hello [[fault:{kind}]]"))


async def test_a_fault_can_pass(client: anthropic.AsyncAnthropic) -> None:
    """With `times=2`, the third attempt of the same request succeeds; another call has its own count."""
    for call in ("s/1/1", "s/2/1"):
        for _ in range(2):
            with pytest.raises(anthropic.RateLimitError):
                await streamed(client, "[[fault:429 times=2]]", **{"x-headrace-call-id": call})
        assert (await streamed(client, "[[fault:429 times=2]]", **{"x-headrace-call-id": call}))[
            -1
        ].type == "message_stop"


@pytest.mark.parametrize(
    "reason", ["max_tokens", "refusal", "pause_turn", "model_context_window_exceeded", "stop_sequence"]
)
async def test_each_stop_reason(client: anthropic.AsyncAnthropic, reason: str) -> None:
    """Every way for an answer to end passes the SDK's validation, streamed and whole."""
    whole = await client.messages.create(**asked(f"hello [[stop:{reason}]]"))
    ending = next(
        event for event in await streamed(client, f"hello [[stop:{reason}]]") if event.type == "message_delta"
    )
    assert whole.stop_reason == ending.delta.stop_reason == reason


async def test_an_invalid_transcript_is_a_bad_request(client: anthropic.AsyncAnthropic) -> None:
    """A tool call that nobody answered is refused at the wire, for a call and for a count."""
    request = asked("1 + 1")
    use = {"type": "tool_use", "id": "toolu_1", "name": "calculator", "input": {}}
    request["messages"] += [{"role": "assistant", "content": [use]}, {"role": "user", "content": "well?"}]
    with pytest.raises(anthropic.BadRequestError, match="without `tool_result` blocks immediately after: toolu_1"):
        await client.messages.create(**request)
    del request["max_tokens"]
    with pytest.raises(anthropic.BadRequestError, match="toolu_1"):
        await client.messages.count_tokens(**request)


async def test_no_key_and_no_such_path(url: str) -> None:
    """Without a key the answer is 401, for an unknown path 404, for a huge body 413: all in Anthropic's shape."""
    async with aiohttp.ClientSession() as session:
        for path, body, status, error_type in (
            ("/v1/messages", b"{}", 401, "authentication_error"),
            ("/v1/messages/count_tokens", b"{}", 401, "authentication_error"),
            ("/v1/nothing", b"{}", 404, "not_found_error"),
            ("/v1/messages", b" " * (33 * 1024 * 1024), 413, "request_too_large"),
        ):
            async with session.post(url + path, data=io.BytesIO(body)) as response:
                error = await response.json()
                assert (response.status, error["type"], error["error"]["type"]) == (status, "error", error_type)


async def test_control_rules_strike_any_call(url: str) -> None:
    """Rules set over HTTP fail the next calls, whatever they say, until they are used up or taken back."""
    async with aiohttp.ClientSession() as session, sdk(url) as client:
        rules = [{"kind": "529", "times": 1}, {"kind": "429", "retry_after": 3}]
        async with session.put(f"{url}/control/faults", json=rules) as response:
            assert await response.json() == {"rules": 2}
        with pytest.raises(anthropic.InternalServerError):
            await streamed(client, "hello")
        for _ in range(2):
            with pytest.raises(anthropic.RateLimitError) as caught:
                await streamed(client, "hello")
            assert caught.value.response.headers["retry-after"] == "3"
        async with session.delete(f"{url}/control/faults") as response:
            assert response.status == 200
        assert (await streamed(client, "hello"))[-1].type == "message_stop"
        async with session.put(f"{url}/control/faults", json=[{"kind": "nope"}]) as response:
            assert response.status == 400
            assert "unknown fault 'nope'" in (await response.json())["error"]["message"]


async def test_calls_are_counted_by_their_ids() -> None:
    """Ten calls at once, one of them dropped and tried again: the record tells which were repeated."""
    async with (
        running_server(ModelOptions()) as url,
        sdk(url) as client,
        aiohttp.ClientSession() as session,
    ):

        async def call(number: int) -> None:
            words = "[[hold:all]]" + ("[[fault:drop times=1]]" if number == 3 else f"hello {number}")
            try:
                await streamed(client, words, **{"x-headrace-call-id": f"s{number}/1/1"})
            except httpx2.TransportError:
                await streamed(client, words, **{"x-headrace-call-id": f"s{number}/1/1"})

        calls = asyncio.gather(*(call(number) for number in range(10)))
        await counted(url, in_flight=10, failed=1)
        await session.put(f"{url}/control/released/all")
        await calls
        async with session.get(f"{url}/control/calls") as response:
            record = await response.json()
        repeated = {name: counts for name, counts in record["calls"].items() if counts["started"] > 1}
        assert repeated == {"s3/1/1": {"started": 2, "completed": 1}}
        assert len(record["calls"]) == len(record["fingerprints"]) == 10
        peak = record["totals"].pop("in_flight_peak")
        assert peak == 10
        expected = {"started": 11, "completed": 10, "failed": 1, "abandoned": 0, "in_flight": 0}
        assert record["totals"] == expected
        async with session.delete(f"{url}/control/calls") as response:
            assert (await response.json())["totals"]["started"] == 0


async def test_a_caller_that_goes_away_ends_its_call(url: str) -> None:
    """A stalled call does not stay in flight after its caller has left."""
    async with sdk(url) as client:
        stalled = asyncio.create_task(streamed(client, "[[fault:stall]]"))
        await counted(url, in_flight=1)
        stalled.cancel()
        await counted(url, in_flight=0, started=1, abandoned=1)


async def counted(url: str, **expected: int) -> None:
    """Wait until the record of calls has these totals."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/control/calls?brief=1") as response:
                totals = (await response.json())["totals"]
            if {name: totals[name] for name in expected} == expected:
                return
            await asyncio.sleep(0.02)


async def test_an_answer_is_held_in_the_middle_until_it_is_released(url: str) -> None:
    """Half of it has arrived by then; one of the same name that comes later is not held any more."""
    words = "How do rivers work? [[hold:rivers]]"
    async with sdk(url) as client, aiohttp.ClientSession() as session:
        async with await client.messages.create(**asked(words), stream=True) as stream:
            async for event in stream:
                if event.type == "content_block_delta":
                    break
            await counted(url, in_flight=1, completed=0)
            async with session.put(f"{url}/control/released/rivers") as response:
                assert (await response.json()) == {"released": "rivers"}
            rest = [event.type async for event in stream]
        assert "content_block_delta" in rest
        assert rest[-1] == "message_stop"
        assert (await streamed(client, words))[-1].type == "message_stop"
        assert (await client.messages.create(**asked(words))).stop_reason == "end_turn"


async def test_a_paced_stream_takes_its_time_and_arrives_in_pieces() -> None:
    """The first token comes after its share of the latency, the last one not before its end."""
    async with running_server(ModelOptions(latency_s=1.0, first_token_share=0.4)) as url, sdk(url) as client:
        began = time.monotonic()
        async with await client.messages.create(**asked("How do rivers work?"), stream=True) as stream:
            arrived = [time.monotonic() - began async for event in stream if event.type == "content_block_delta"]
        assert time.monotonic() - began > 0.99
        assert arrived[0] > 0.39
        assert len(set(arrived)) > 1
        began = time.monotonic()
        await client.messages.create(**asked("hi [[latency:0.2]]"))
        assert time.monotonic() - began > 0.19


async def test_the_process_serves_and_ends_on_sigterm() -> None:
    """`python -m headrace.simulated_model` says where it is, serves, and stops with status 0, a stalled call or not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.simulated_model", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        said = (await process.stdout.readline()).decode()
        async with sdk(said.split()[-1]) as client:
            assert (await streamed(client, "hello"))[-1].type == "message_stop"
            async with await client.messages.create(**asked("hi [[fault:stall]]"), stream=True) as stalled:
                await anext(aiter(stalled))
                process.send_signal(signal.SIGTERM)
                with pytest.raises(httpx2.TransportError):
                    _ = [event async for event in stalled]
        assert await process.wait() == 0
        await process.stdout.read()
