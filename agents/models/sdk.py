"""Anthropic's SDK, as far as it is used: opening a stream, and what its exceptions mean.

Importing it takes over a second, so it is imported by whoever makes a client, not before. The SDK contributes
credentials, headers, URLs and errors. The request body is encoded and the stream decoded on our side: that takes a
third of the CPU of `messages.create(stream=True)`.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import aiohttp
import anthropic
import httpx2
from anthropic._models import FinalRequestOptions

from agents.models import faults
from agents.models.backoff import RetryPolicy, parse_retry_after_s
from agents.models.faults import Fault, HttpError

KEEPALIVE_CONNECTIONS = 1_000
KEEPALIVE_S = 30.0
"""Below the idle timeouts of the common load balancers (60 s), so that a reused connection is rarely a closed one."""

_NETWORK_ERRORS = (httpx2.HTTPError, aiohttp.ClientError, OSError)
WORLD_ERRORS = (anthropic.AnthropicError, *_NETWORK_ERRORS)
"""What the world does to an attempt. The transport maps most of aiohttp's errors to httpx2's, but not all."""


# The SDK's telemetry headers are left out: each is held four times per call, 8 KB in all, and nobody here reads them.
_TELEMETRY = ("lang", "package-version", "os", "arch", "runtime", "runtime-version", "async", "retry-count", "timeout")
_HEADERS = cast(
    "dict[str, str]",
    {
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        **{f"x-stainless-{name}": anthropic.omit for name in (*_TELEMETRY, "read-timeout")},
    },
)


class CredentialsMissingError(Exception):
    """No API key was given and none was found: set ANTHROPIC_API_KEY, or use the simulated model."""


class SameHeaders:
    """The SDK's headers, built once: all requests have the same ones, but for what each adds itself.

    The SDK builds them anew for each request, and takes out again what is left out: a twentieth of a turn's CPU. A
    credential that changes is none of them: it is set when a request is sent.
    """

    def __init__(self, build: Callable[..., httpx2.Headers], options: FinalRequestOptions) -> None:
        self._headers = build(options)

    def __call__(self, options: FinalRequestOptions, **_: Any) -> httpx2.Headers:
        headers = self._headers.copy()
        headers.update(cast("dict[str, str]", options.headers or {}))
        return headers


class MessagesApi:
    """The Messages API behind the SDK's client."""

    def __init__(self, api_key: str | None, base_url: str | None, policy: RetryPolicy) -> None:
        timeout = anthropic.Timeout(connect=policy.connect_s, pool=policy.connect_s, read=policy.stall_s, write=None)
        self._client = _client(api_key, base_url, timeout)
        self.secrets = tuple(secret for secret in (self._client.api_key, self._client.auth_token) if secret)
        # An absolute URL saves the SDK from merging it with the base URL for each request, and one that is parsed saves
        # it from parsing it.
        url = httpx2.URL(f"{str(self._client.base_url).rstrip('/')}/v1/messages")
        # What `client.post` would build anew for each request, at a tenth of a call's CPU.
        self._options = FinalRequestOptions.construct(method="post", url=cast("str", url))
        build = self._client._build_headers  # noqa: SLF001  # The SDK has no other way to keep them.
        self._client._build_headers = SameHeaders(build, self._options)  # type: ignore[method-assign]  # noqa: SLF001

    async def open(self, body: bytes, call_id: str) -> httpx2.Response:
        """Send a request whose body says `stream`, and return the response when its headers have come.

        Raises:
            WORLD_ERRORS: no answer, or an error status.
        """
        options = self._options.model_copy(update={"content": body, "headers": {"x-headrace-call-id": call_id}})
        response = await self._client.request(
            httpx2.Response, options, stream=True, stream_cls=anthropic.AsyncStream[object]
        )
        # With `cast_to=Response`, the SDK returns the response itself, not read, whatever `stream_cls` says.
        return cast("httpx2.Response", response)

    async def close(self) -> None:
        await self._client.close()

    def fault_of(self, error: Exception) -> Fault:
        """What one of WORLD_ERRORS means; one that is a bug of ours is raised again."""
        match error:
            case anthropic.APIStatusError():
                return _of_status_error(error)
            case anthropic.APITimeoutError():
                return faults.connection_failed("it did not answer in time")
            case anthropic.APIConnectionError():
                return _of_connection_error(error)
            case anthropic.CredentialsError():
                return faults.of_http_error(HttpError(status=401, detail=str(error)))
            case httpx2.TimeoutException() | asyncio.TimeoutError():
                return faults.stream_broken("nothing came for too long")
            case httpx2.HTTPError() | aiohttp.ClientError() | OSError():
                return faults.stream_broken(f"the connection was lost ({_named(error)})")
            case _:
                raise error


def _client(api_key: str | None, base_url: str | None, timeout: anthropic.Timeout) -> anthropic.AsyncAnthropic:
    try:
        client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            max_retries=0,
            default_headers=_HEADERS,
            open_telemetry={"propagation": False},
            http_client=anthropic.DefaultAioHttpClient(
                # 0 is aiohttp's word for no limit; with None the transport falls back to aiohttp's limit of 100.
                limits=httpx2.Limits(
                    max_connections=0,
                    max_keepalive_connections=KEEPALIVE_CONNECTIONS,
                    keepalive_expiry=KEEPALIVE_S,
                ),
                timeout=timeout,
            ),
        )
    except anthropic.CredentialsError as error:
        raise CredentialsMissingError(f"{CredentialsMissingError.__doc__} {error}") from error
    if not (client.api_key or client.auth_token or client.credentials):
        raise CredentialsMissingError(CredentialsMissingError.__doc__)
    return client


def _of_status_error(error: anthropic.APIStatusError) -> Fault:
    headers = error.response.headers
    return faults.of_http_error(
        HttpError(
            status=error.status_code,
            detail=error.api_message or str(error.body or "no explanation"),
            error_code=error.error_code,
            retry_after_s=parse_retry_after_s(
                headers.get("retry-after-ms"), headers.get("retry-after"), now=datetime.now(UTC)
            ),
            should_retry={"true": True, "false": False}.get(headers.get("x-should-retry", "")),
        )
    )


def _of_connection_error(error: anthropic.APIConnectionError) -> Fault:
    """The SDK wraps whatever sending raised; only what the network did is a fault."""
    cause = error.__cause__
    if isinstance(cause, _NETWORK_ERRORS):
        return faults.connection_failed(_named(cause))
    raise error


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
