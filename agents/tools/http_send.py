"""One request to a host that the operator lists, over the same guarded connection as a fetch."""

import asyncio

import aiohttp
from msgspec import Struct
from msgspec.structs import replace
from yarl import URL

from agents.tools.fetch_bounds import FetchBounds, Resolve
from agents.tools.http_fetch import check_url, guarded_session, parse_url, read_answer
from agents.tools.http_hosts import HttpHosts
from agents.tools.port import ToolError

REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")
"""What does no harm when a server gets it twice, as HTTP defines them."""
ATTEMPTS = 2
ACCEPT = "application/json, text/*;q=0.9, */*;q=0.5"


class Request(Struct, frozen=True, kw_only=True):
    """`key` identifies the call, whichever attempt it is."""

    method: str
    url: str
    body: bytes | None
    key: str


async def send(request: Request, hosts: HttpHosts, bounds: FetchBounds, resolve: Resolve) -> str:
    """Status, address, content type and text of the answer.

    Raises:
        ToolError: the host is not allowed, or there is no answer; the message says whether it may have been acted on.
    """
    url = parse_url(request.url)
    origin = _origin(url)
    if origin not in hosts.all:
        known = ", ".join(sorted(hosts.all))
        raise ToolError(f"expected a URL that begins with one of {known}, got `{origin}`: nothing else may be reached")
    allowed = replace(bounds, ports=frozenset({url.port or 0}), allow_inside=origin in hosts.private)
    check_url(url, allowed)
    try:
        async with asyncio.timeout(bounds.timeout_s):
            return await _attempts(request, url, hosts, allowed, resolve)
    except TimeoutError as error:
        raise _unanswered(request, f"no complete answer within {bounds.timeout_s:g} s") from error


def _origin(url: URL) -> str:
    """Scheme, host and port where it is not the scheme's own; without user name and password."""
    try:
        return str(url.origin())
    except ValueError:
        raise ToolError(
            "expected a whole URL, such as `https://api.example.com/orders`, got one without a host"
        ) from None


async def _attempts(request: Request, url: URL, hosts: HttpHosts, bounds: FetchBounds, resolve: Resolve) -> str:
    left = ATTEMPTS if request.method in REPEATABLE else 1
    while True:
        left -= 1
        try:
            return await _once(request, url, hosts, bounds, resolve)
        except aiohttp.ClientConnectorError as error:
            if not left:
                raise ToolError(
                    f"`{url.host}` cannot be reached ({type(error).__name__}): nothing was sent",
                    retryable=not isinstance(error, aiohttp.ClientSSLError),
                ) from error
        except aiohttp.ClientError as error:
            if not left:
                raise _unanswered(request, f"the connection failed ({type(error).__name__})") from error


async def _once(request: Request, url: URL, hosts: HttpHosts, bounds: FetchBounds, resolve: Resolve) -> str:
    origin = _origin(url)
    headers = {"User-Agent": "headrace-http_request", "Idempotency-Key": request.key}
    if request.body is not None:
        headers["Content-Type"] = "application/json"
    async with (
        guarded_session(bounds, resolve, ACCEPT) as session,
        session.request(
            request.method,
            url,
            data=request.body,
            headers={**headers, **hosts.headers_of(origin)},
            allow_redirects=False,
        ) as response,
    ):
        return hosts.without_secrets(origin, str(await read_answer(response, bounds)))


def _unanswered(request: Request, what: str) -> ToolError:
    if request.method in REPEATABLE:
        return ToolError(f"{request.method} got no answer: {what}", retryable=True)
    return ToolError(
        f"{request.method} got no answer: {what}. It may have taken effect or not: check before you send it again"
    )
