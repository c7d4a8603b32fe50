"""Who may come in: the key of a request, its rate, and, where the gateway is open, where the request comes from."""

from aiohttp import hdrs, web
from yarl import URL

from gateway.audit import audited, client_address
from gateway.caller import ANYONE, Caller
from gateway.keys import unauthenticated
from gateway.parts import Parts
from gateway.problems import Code, Problem
from runtime.settings.values import is_loopback
from schemas.audit import Act, Outcome

FAILED_PER_SECOND = 10.0
"""Wrong keys from one address that are audited; a person who mistypes one does not notice."""
RATE_LIMIT_HEADERS = web.RequestKey("rate_limit_headers", dict[str, str])
"""In the request: the headers that tell how much of its key's rate is left."""


async def identify(request: web.Request, parts: Parts) -> Caller:
    """The caller by the header `Authorization`; without one, `ANYONE` where the gateway is open.

    Raises:
        Problem: `unauthenticated`, `too_many_requests` or `unavailable`.
    """
    authorization = request.headers.get(hdrs.AUTHORIZATION)
    if authorization is None:
        if parts.settings.gateway.open:
            return ANYONE
        raise unauthenticated("expected a key, got none: send `Authorization: Bearer KEY`")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise unauthenticated("expected `Authorization: Bearer KEY`, got another scheme")
    return await caller_of(request, parts, token.strip())


async def caller_of(request: web.Request, parts: Parts, token: str) -> Caller:
    """The caller by a key, from the header or from a WebSocket's first frame; takes one request from the key's rate.

    Raises:
        Problem: as `identify`.
    """
    try:
        key = await parts.keys.authenticate(token)
    except Problem as problem:
        if problem.code is Code.UNAUTHENTICATED:
            # Whoever tries keys must not fill the audit log with it.
            address = client_address(request, parts.settings.gateway.proxies)
            await parts.rate_limits.take(f"failed:{address}", FAILED_PER_SECOND)
            await audited(request, parts, None, Act.AUTHENTICATION_FAILED, Outcome.DENIED, why=problem.detail)
        raise
    assert key.caller.key_id is not None
    per_second = key.requests_per_second or parts.settings.gateway.requests_per_second
    allowance = await parts.rate_limits.take(key.caller.key_id, per_second)
    request[RATE_LIMIT_HEADERS] = allowance.headers()
    return key.caller


def require_own_origin(request: web.Request, parts: Parts) -> None:
    """Where the gateway is open, only this machine's own pages and programs may ask.

    A browser on this machine would send requests for any site that it shows. What such a site cannot do is to name a
    loopback host in `Host`, whatever its own name resolves to, or to leave out its name in `Origin`. It may link to the
    page, which cannot be framed.

    Raises:
        Problem: `foreign_origin`.
    """
    if not parts.settings.gateway.open:
        return
    host = request.headers.get(hdrs.HOST, "")
    if not is_loopback(_hostname(host)):
        raise Problem(Code.FOREIGN_ORIGIN, "expected `Host` to be this machine's loopback address, got another name")
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and origin.lower() != f"{request.scheme}://{host}".lower():
        raise Problem(Code.FOREIGN_ORIGIN, "expected `Origin` to be the gateway's own address, got another one")
    is_link = request.method == "GET" and request.path == "/" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    if not is_link and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise Problem(Code.FOREIGN_ORIGIN, "expected a request of the gateway's own page, got one of another site")


def _hostname(host: str) -> str:
    try:
        return URL.build(scheme="http", authority=host).host or ""
    except ValueError:
        return ""
