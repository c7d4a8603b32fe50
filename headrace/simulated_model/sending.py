"""How bytes leave: at a pace, or with a fault in the middle of them."""

import asyncio
from collections.abc import Awaitable

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from headrace.simulated_model.stream import BAD_CHUNK, error_event, grouped

STALL_MAX_S = 3600.0
"""A stalled call ends when its caller goes away, or after this time."""


class _OneWriteStart(web.StreamResponse):
    """A stream whose headers leave together with its first bytes, as aiohttp does for a `web.Response`."""

    _send_headers_immediately = False


class Pace(msgspec.Struct, frozen=True):
    """How long a call takes, which part of that passes before the first token, and in how many writes it leaves."""

    latency_s: float
    first_token_share: float
    writes: int


async def send_paced(
    request: web.Request, headers: CIMultiDict[str], entries: list[bytes], pace: Pace
) -> web.StreamResponse:
    """Send the entries of a stream so that the last one leaves when the latency is over.

    Each write has its time on the clock of the loop, so the delays of a busy loop do not add up.
    """
    loop = asyncio.get_running_loop()
    writes = grouped(entries, pace.writes)
    first_at = loop.time() + pace.latency_s * pace.first_token_share
    interval_s = pace.latency_s * (1 - pace.first_token_share) / max(1, len(writes) - 1)
    response = _OneWriteStart(headers=headers)
    for index, data in enumerate(writes):
        await asyncio.sleep(first_at + index * interval_s - loop.time())
        if index == 0:
            await response.prepare(request)
        if index == len(writes) - 1:
            await response.write_eof(data)
        else:
            await response.write(data)
    return response


async def send_held(
    request: web.Request, headers: CIMultiDict[str], entries: list[bytes], passed: Awaitable[None]
) -> web.StreamResponse:
    """Send half of a stream, and the rest when `passed` is done."""
    half = len(entries) // 2
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(b"".join(entries[:half]))
    await passed
    await response.write_eof(b"".join(entries[half:]))
    return response


async def send_broken(
    request: web.Request, headers: CIMultiDict[str], events: list[bytes], kind: str
) -> web.StreamResponse:
    """Send half of a stream, or of anything else that `events` is, and then do what the fault says."""
    response = web.StreamResponse(headers=headers)
    if kind == "reset":
        return _hung_up(request, response)
    half = max(1, len(events) // 2)
    await response.prepare(request)
    await response.write(b"".join(events[:half]))
    match kind:
        case "drop":
            return _hung_up(request, response)
        case "stall":
            await asyncio.sleep(STALL_MAX_S)
            return _hung_up(request, response)
        case "bad-chunk":
            await response.write(BAD_CHUNK + b"".join(events[half:]))
        case "sse-error":
            await response.write(error_event("overloaded_error", "Overloaded", headers["request-id"]))
        case _:
            assert kind == "truncate", kind
    await response.write_eof()
    return response


def _hung_up(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection. What was written still leaves; the end of the response does not."""
    if request.transport is not None:
        request.transport.close()
    return response
