"""What the gateway answers where it cannot do what it was asked: problem details as RFC 9457 has them.

Every kind is a row of `PROBLEMS`. Its `code` is for programs; `detail` says what was expected, what came, what to do.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Struct

PROBLEM_JSON = "application/problem+json"


class Code(StrEnum):
    """Every kind of problem. The value is what `code` says."""

    NOT_JSON = "not_json"
    NOT_VALID = "not_valid"
    UNAUTHENTICATED = "unauthenticated"
    WRONG_SCOPE = "wrong_scope"
    WRONG_TENANT = "wrong_tenant"
    OPERATORS_ONLY = "operators_only"
    FOREIGN_ORIGIN = "foreign_origin"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOTHING_TO_REPLAY = "nothing_to_replay"
    TOO_LARGE = "too_large"
    NOT_JSON_TYPE = "not_json_type"
    OTHER_BODY = "other_body"
    TOO_MANY_REQUESTS = "too_many_requests"
    INTERNAL_ERROR = "internal_error"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    TOO_MANY_STREAMS = "too_many_streams"
    STOPPING = "stopping"
    TOO_SLOW = "too_slow"


class Kind(Struct, frozen=True):
    """The status and the title of all problems of a kind, and what a caller does about them."""

    status: int
    title: str
    remedy: str


PROBLEMS: dict[Code, Kind] = {
    Code.NOT_JSON: Kind(400, "The body is not JSON", "Send JSON in UTF-8."),
    Code.NOT_VALID: Kind(400, "The request is not valid", "Correct what `errors` names."),
    Code.UNAUTHENTICATED: Kind(401, "No valid key", "Send `Authorization: Bearer KEY` with a key that is valid."),
    Code.WRONG_SCOPE: Kind(403, "The key lacks a scope", "Use a key that has the scope."),
    Code.WRONG_TENANT: Kind(403, "The session is not the tenant's", "Begin the session's id with your tenant's name."),
    Code.OPERATORS_ONLY: Kind(403, "Only for operators", "Use a key that belongs to no tenant."),
    Code.FOREIGN_ORIGIN: Kind(403, "The request is from another site", "Open the gateway's own address."),
    Code.NOT_FOUND: Kind(404, "There is no such thing", "Correct the path, or the id in it."),
    Code.METHOD_NOT_ALLOWED: Kind(405, "The path has no such method", "Use a method that `Allow` names."),
    Code.NOTHING_TO_REPLAY: Kind(409, "The dead letter cannot be sent again", "Send the record again from its origin."),
    Code.TOO_LARGE: Kind(413, "The request is too large", "Send less, or a link to it."),
    Code.NOT_JSON_TYPE: Kind(415, "The body is not declared as JSON", "Send `Content-Type: application/json`."),
    Code.OTHER_BODY: Kind(422, "The idempotency key was used for another body", "Use a new key for a new request."),
    Code.TOO_MANY_REQUESTS: Kind(429, "Too many requests", "Wait as long as `Retry-After` says."),
    Code.INTERNAL_ERROR: Kind(500, "The gateway has a bug", "Report it with `instance`."),
    Code.UNAVAILABLE: Kind(503, "A part of Headrace does not answer", "Try again later, with the same id."),
    Code.OVERLOADED: Kind(503, "The gateway has too much to do", "Try again after `Retry-After`."),
    Code.TOO_MANY_STREAMS: Kind(503, "Too many streams are open", "Try again after `Retry-After`, or elsewhere."),
    Code.STOPPING: Kind(503, "The gateway stops", "Connect again: another instance goes on."),
    Code.TOO_SLOW: Kind(503, "The reader is too slow", "Connect again and resume."),
}


class Problem(Exception):  # noqa: N818 # It is called what RFC 9457 calls it.
    """Ends a request with this problem.

    Args:
        code: the kind.
        detail: what was expected, what came, and what to do. Whoever asked reads it: nothing of others in it.
        headers: to be sent with it, such as `Retry-After`.
        errors: one sentence for each thing that is wrong with the request.
    """

    def __init__(
        self, code: Code, detail: str, *, headers: Mapping[str, str] | None = None, errors: Sequence[str] = ()
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = tuple(errors)

    @property
    def status(self) -> int:
        return PROBLEMS[self.code].status


class ProblemDetails(Struct, frozen=True, kw_only=True):
    """Why there is no other answer."""

    type: Annotated[str, msgspec.Meta(description="The kind of problem, as a reference: `/problems/{code}`.")]
    title: Annotated[str, msgspec.Meta(description="The kind of problem, in words.")]
    status: Annotated[int, msgspec.Meta(description="The status of the answer.")]
    detail: Annotated[str, msgspec.Meta(description="What was expected, what came, and what to do.")]
    code: Annotated[Code, msgspec.Meta(description="The kind of problem, for programs.")]
    instance: Annotated[str, msgspec.Meta(description="The request's id, as `X-Request-Id` says it.")]
    errors: Annotated[
        tuple[str, ...], msgspec.Meta(description="What is wrong with the request, one sentence for each thing.")
    ] = ()


def problem_details(problem: Problem, request_id: str) -> ProblemDetails:
    """The body that says it; a stream has it in its last event."""
    kind = PROBLEMS[problem.code]
    return ProblemDetails(
        type=f"/problems/{problem.code}",
        title=kind.title,
        status=kind.status,
        detail=problem.detail,
        code=problem.code,
        instance=request_id,
        errors=problem.errors,
    )


def problem_response(problem: Problem, request_id: str) -> web.Response:
    """The answer that says it."""
    body = msgspec.json.encode(problem_details(problem, request_id))
    return web.Response(body=body, status=problem.status, content_type=PROBLEM_JSON, headers=problem.headers)


def unavailable(what: str, retry_after_s: int = 1) -> Problem:
    """The problem that a part of Headrace, such as PostgreSQL, does not answer now."""
    return Problem(
        Code.UNAVAILABLE,
        f"{what} does not answer: try again after {retry_after_s} s",
        headers={"Retry-After": str(retry_after_s)},
    )
