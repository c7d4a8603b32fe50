"""The aiohttp application, made of the table of routes."""

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog
from aiohttp import web
from multidict import CIMultiDict

from gateway.access import RATE_LIMIT_HEADERS, identify, require_own_origin
from gateway.audit import REQUEST_ID, audited
from gateway.caller import ANYONE
from gateway.pages import Pages
from gateway.parts import Parts
from gateway.problems import Code, Problem, problem_response
from gateway.route import Route
from schemas.audit import Act, Outcome


@dataclass
class Running:
    """How many requests are being worked on, streams included."""

    count: int = 0


PARTS = web.AppKey("parts", Parts)
RUNNING = web.AppKey("running", Running)
GIVEN_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{8,64}")
_BRACES = re.compile(r"\{(\w+)\}")
STREAMING = web.RequestKey("streaming", bool)
"""In the request: its head was sent, so that nothing but more of its body can follow."""
UNKNOWN_ROUTE = "unknown"
FORBIDDEN = frozenset({Code.WRONG_SCOPE, Code.WRONG_TENANT, Code.OPERATORS_ONLY, Code.FOREIGN_ORIGIN})
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Server": "headrace",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
}
"""On every answer that has not its own."""

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger(__name__)


def make_app(parts: Parts, routes: Iterable[Route]) -> web.Application:
    """The application; whoever runs it has started the parts, and closes them."""
    app = web.Application(
        middlewares=[_observe, _answer_problems, _bound], client_max_size=parts.settings.gateway.max_request_bytes
    )
    app[PARTS] = parts
    app[RUNNING] = Running()
    for route in routes:
        # aiohttp's own pattern leaves out braces, which a session's id may have.
        app.router.add_route(route.method, _BRACES.sub(r"{\1:[^/]+}", route.path), _endpoint(route, parts))
    app.add_routes(Pages().routes())
    app.on_response_prepare.append(_add_headers)
    return app


def _endpoint(route: Route, parts: Parts) -> Next:
    async def handle(request: web.Request) -> web.StreamResponse:
        if not route.needs_key:
            return await route.handler(request, parts, ANYONE)
        caller = await identify(request, parts)
        try:
            if route.scope is not None:
                caller.require(route.scope)
            return await route.handler(request, parts, caller)
        except Problem as problem:
            if problem.code in FORBIDDEN:
                await audited(request, parts, caller, Act.FORBIDDEN, Outcome.DENIED, why=problem.code.value)
            raise

    return handle


@web.middleware
async def _observe(request: web.Request, handler: Next) -> web.StreamResponse:
    """Gives the request its id, counts it, and logs what failed."""
    given = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = given if GIVEN_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    metrics = request.app[PARTS].metrics
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else UNKNOWN_ROUTE
    begin = time.perf_counter()
    running = request.app[RUNNING]
    running.count += 1
    try:
        with metrics.requests_running.track_inprogress():
            response = await handler(request)
    finally:
        running.count -= 1
    method = request.method if resource is not None else UNKNOWN_ROUTE
    metrics.requests.labels(route, method, response.status).inc()
    if isinstance(response, web.Response):
        metrics.request_seconds.labels(route).observe(time.perf_counter() - begin)
    return response


@web.middleware
async def _answer_problems(request: web.Request, handler: Next) -> web.StreamResponse:
    """Answers whatever goes wrong with a problem; a stream that fails is cut off, and its reader resumes."""
    try:
        return await handler(request)
    except Problem as problem:
        found = problem
    except web.HTTPException as refusal:
        found = _as_problem(refusal)
    except Exception as error:
        log.exception("request_failed", request_id=request[REQUEST_ID], kind=type(error).__name__)
        found = Problem(Code.INTERNAL_ERROR, "the gateway has a bug: report it with the id in `instance`")
    request.app[PARTS].metrics.problems.labels(found.code).inc()
    if request.get(STREAMING):
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the stream failed after its head was sent") from found
    return problem_response(found, request[REQUEST_ID])


@web.middleware
async def _bound(request: web.Request, handler: Next) -> web.StreamResponse:
    """Refuses what comes from another site, and what is too much."""
    parts = request.app[PARTS]
    require_own_origin(request, parts)
    if request.app[RUNNING].count - parts.streams.count > parts.settings.gateway.requests:
        raise Problem(
            Code.OVERLOADED, "this gateway has too many requests at once: try again", headers={"Retry-After": "1"}
        )
    length = request.content_length
    if length is not None and length > parts.settings.gateway.max_request_bytes:
        raise _too_large(parts.settings.gateway.max_request_bytes)
    return await handler(request)


def _as_problem(refusal: web.HTTPException) -> Problem:
    """What aiohttp itself says no to."""
    match refusal:
        case web.HTTPRequestEntityTooLarge():
            return Problem(Code.TOO_LARGE, f"expected a smaller body: {refusal.text}")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(refusal.allowed_methods))
            return Problem(Code.METHOD_NOT_ALLOWED, f"expected one of {allowed}", headers={"Allow": allowed})
        case web.HTTPNotFound():
            return Problem(Code.NOT_FOUND, "expected a path that /openapi.json names, got another one")
    return Problem(Code.NOT_VALID, f"the request is not as it must be: {refusal.reason}")


def _too_large(most: int) -> Problem:
    return Problem(Code.TOO_LARGE, f"expected a body of at most {most:,} bytes: send less, or a link to it")


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer has; also a stream's, whose head is sent long before its end."""
    request[STREAMING] = not isinstance(response, web.Response)
    headers: CIMultiDict[str] = response.headers
    headers["X-Request-Id"] = request.get(REQUEST_ID, "")
    for name, value in {**HEADERS, "Cache-Control": "no-store", **request.get(RATE_LIMIT_HEADERS, {})}.items():
        headers.setdefault(name, value)
