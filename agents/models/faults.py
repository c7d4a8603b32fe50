"""What went wrong with an attempt, and whether another one makes sense: the tables. Pure."""

import re

from msgspec import Struct

from schemas.failure import FailureCode

MAX_DETAIL_CHARACTERS = 500
"""Of what the provider or the network says: enough for any of the API's messages, too little for an HTML page."""

HTTP_OK = 200
HTTP_SERVER_ERROR = 500


class Fault(Struct, frozen=True, kw_only=True):
    """One attempt failed. `retry_after_s` is the wait that the server asked for."""

    code: FailureCode
    message: str
    retryable: bool
    retry_after_s: float | None = None


class Rule(Struct, frozen=True):
    """How one kind of error is met, and what its reader can do."""

    code: FailureCode
    retryable: bool
    advice: str


_BUSY = "Try again later"
_WRONG_REQUEST = Rule(FailureCode.BAD_REQUEST, retryable=False, advice="Change the request: repeating it cannot help")
_SPEND_LIMIT = Rule(
    FailureCode.SPEND_LIMIT_REACHED,
    retryable=False,
    advice="Raise the spend limit or add credit in the provider's console; until then every call fails",
)
_PROVIDER = Rule(FailureCode.PROVIDER_ERROR, retryable=True, advice=_BUSY)

BY_ERROR_CODE: dict[str, Rule] = {
    "enforced_spend_limit_reached": _SPEND_LIMIT,
    "contract_spend_limit_reached": _SPEND_LIMIT,
    "linked_organization_spend_limit_reached": _SPEND_LIMIT,
}
"""`error.details.error_code` of the body. Goes before the status: these come as 429 and would never end."""

BY_STATUS: dict[int, Rule] = {
    400: _WRONG_REQUEST,
    401: Rule(FailureCode.AUTHENTICATION_FAILED, retryable=False, advice="Check ANTHROPIC_API_KEY"),
    402: _SPEND_LIMIT,
    403: Rule(FailureCode.PERMISSION_DENIED, retryable=False, advice="Check what the API key may use"),
    404: Rule(FailureCode.MODEL_NOT_FOUND, retryable=False, advice="Check the agent's model and ANTHROPIC_BASE_URL"),
    408: _PROVIDER,
    409: _PROVIDER,
    413: Rule(FailureCode.REQUEST_TOO_LARGE, retryable=False, advice="Shorten the conversation or its attachments"),
    429: Rule(FailureCode.RATE_LIMITED, retryable=True, advice="Try again later, or raise the rate limit"),
    529: Rule(FailureCode.OVERLOADED, retryable=True, advice=_BUSY),
}
"""Any other status of 500 and more is `_PROVIDER`, the rest `_WRONG_REQUEST`."""

BY_STREAM_ERROR: dict[str, Rule] = {
    "invalid_request_error": BY_STATUS[400],
    "authentication_error": BY_STATUS[401],
    "billing_error": BY_STATUS[402],
    "permission_error": BY_STATUS[403],
    "not_found_error": BY_STATUS[404],
    "request_too_large": BY_STATUS[413],
    "rate_limit_error": BY_STATUS[429],
    "overloaded_error": BY_STATUS[529],
}
"""`error.type` of an `error` event in a stream that began with status 200. Any other type is `_PROVIDER`."""


class HttpError(Struct, frozen=True, kw_only=True):
    """What an error response says. `should_retry` is its header `x-should-retry`."""

    status: int
    detail: str
    error_code: str | None = None
    retry_after_s: float | None = None
    should_retry: bool | None = None


def of_http_error(error: HttpError) -> Fault:
    """The fault of a response with an error status."""
    by_default = _PROVIDER if error.status >= HTTP_SERVER_ERROR else _WRONG_REQUEST
    rule = BY_ERROR_CODE.get(error.error_code or "") or BY_STATUS.get(error.status, by_default)
    return Fault(
        code=rule.code,
        message=f"the model's provider answered with status {error.status}: {_said(error.detail)}. {rule.advice}",
        retryable=rule.retryable and error.should_retry is not False,
        retry_after_s=error.retry_after_s,
    )


def of_stream_error(error_type: str, detail: str) -> Fault:
    """The fault of an `error` event."""
    rule = BY_STREAM_ERROR.get(error_type, _PROVIDER)
    return Fault(
        code=rule.code,
        message=f"the model's provider ended the stream with {_said(error_type)}: {_said(detail)}. {rule.advice}",
        retryable=rule.retryable,
    )


def stream_broken(what: str) -> Fault:
    """The stream was not what it should be; another one probably is."""
    return Fault(
        code=FailureCode.STREAM_BROKEN,
        message=f"the model's stream broke: {_said(what)}. {_BUSY}",
        retryable=True,
    )


def connection_failed(detail: str) -> Fault:
    """No answer came back."""
    return Fault(
        code=FailureCode.CONNECTION_FAILED,
        message=f"the model's provider could not be reached: {_said(detail)}. Check ANTHROPIC_BASE_URL and the network",
        retryable=True,
    )


def call_timeout(timeout_s: float, last: Fault | None) -> Fault:
    """The whole call, retries included, took too long."""
    before = f" (the attempt before it: {last.message})" if last else ""
    return Fault(
        code=FailureCode.CALL_TIMEOUT,
        message=f"the model did not answer within {timeout_s:g} s{before}. Try again later, or raise the time limit",
        retryable=True,
    )


def unknown_block(block_type: str) -> Fault:
    """The answer holds what the transcript cannot: dropping it would make the next request invalid."""
    return Fault(
        code=FailureCode.PROVIDER_ERROR,
        message=f"the model answered with a block of type {_said(block_type)!r}, which this version does not know. "
        "Remove the feature of the request that makes the model use it, or upgrade Headrace",
        retryable=False,
    )


def scrubbed(text: str, secrets: tuple[str, ...]) -> str:
    """`text` without the secrets, and without anything that looks like a key of Anthropic's."""
    for secret in secrets:
        text = text.replace(secret, "[secret]")
    return re.sub(r"sk-ant-[\w-]+", "[secret]", text)


def _said(text: str) -> str:
    """What someone else said, on one line, cut, without its full stop."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= MAX_DETAIL_CHARACTERS else line[:MAX_DETAIL_CHARACTERS] + "…"
