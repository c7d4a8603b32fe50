"""The faults that the simulated model can show, as a table, and the rules that switch them on."""

from typing import Annotated

import msgspec

from headrace.simulated_model.requests import RequestRefusedError


class HttpFault(msgspec.Struct, frozen=True):
    """The call ends with this status and Anthropic's JSON error body."""

    status: int
    error_type: str
    message: str
    error_code: str | None = None


HTTP_FAULTS: dict[str, HttpFault] = {
    "400": HttpFault(400, "invalid_request_error", "Simulated fault: the request is invalid."),
    "401": HttpFault(401, "authentication_error", "Simulated fault: invalid x-api-key"),
    "403": HttpFault(403, "permission_error", "Simulated fault: this key may not use the model."),
    "404": HttpFault(404, "not_found_error", "Simulated fault: model not found"),
    "408": HttpFault(408, "timeout_error", "Simulated fault: the request took too long to arrive."),
    "409": HttpFault(409, "conflict_error", "Simulated fault: conflict"),
    "413": HttpFault(413, "request_too_large", "Simulated fault: request exceeds the maximum size"),
    "429": HttpFault(429, "rate_limit_error", "Simulated fault: the rate limit of your organization is exceeded."),
    "500": HttpFault(500, "api_error", "Simulated fault: internal server error"),
    "502": HttpFault(502, "api_error", "Simulated fault: bad gateway"),
    "503": HttpFault(503, "api_error", "Simulated fault: service unavailable"),
    "504": HttpFault(504, "timeout_error", "Simulated fault: the model did not answer in time."),
    "529": HttpFault(529, "overloaded_error", "Overloaded"),
    "spend-limit": HttpFault(
        429,
        "rate_limit_error",
        "Simulated fault: your organization has crossed the monthly API usage threshold of its tier.",
        "enforced_spend_limit_reached",
    ),
}

STREAM_FAULTS: dict[str, str] = {
    "reset": "the connection is closed before anything was sent",
    "drop": "the connection is closed in the middle of the stream",
    "truncate": "the stream ends cleanly before message_stop",
    "bad-chunk": "an event in the middle of the stream is not JSON",
    "sse-error": "an `error` event (overloaded_error) in the middle of the stream",
    "stall": "nothing more is sent from the middle of the stream on",
}


class Fault(msgspec.Struct, frozen=True):
    """A fault that strikes one call."""

    kind: str
    retry_after: str | None = None


class FaultRule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A fault that strikes calls whatever their text: the next `times` ones, those before `until`, or all."""

    kind: str
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    until: float | None = None
    """Unix time in seconds."""
    retry_after: int | float | str | None = None


class FaultRules:
    """The rules set over `PUT /control/faults`; the first one in force strikes."""

    def __init__(self) -> None:
        self._rules: list[FaultRule] = []

    def replace(self, body: bytes) -> int:
        """Take the rules from a JSON list; returns their number, raises RequestRefusedError."""
        try:
            rules = msgspec.json.decode(body, type=list[FaultRule])
        except msgspec.DecodeError as error:
            raise RequestRefusedError(f"a list of fault rules was expected: {error}") from error
        for rule in rules:
            check_kind(rule.kind)
        self._rules = rules
        return len(rules)

    def clear(self) -> None:
        self._rules = []

    def strike(self, now_unix_s: float) -> Fault | None:
        """Return the fault for one call, and use up one of its times."""
        while self._rules:
            rule = self._rules[0]
            if rule.times == 0 or (rule.until is not None and now_unix_s >= rule.until):
                self._rules = self._rules[1:]
                continue
            if rule.times is not None:
                rule.times -= 1
            return Fault(rule.kind, None if rule.retry_after is None else str(rule.retry_after))
        return None


def check_kind(kind: str) -> None:
    """Raise RequestRefusedError unless `kind` is in one of the tables."""
    if kind not in HTTP_FAULTS and kind not in STREAM_FAULTS:
        known = ", ".join([*HTTP_FAULTS, *STREAM_FAULTS])
        raise RequestRefusedError(f"unknown fault '{kind}': expected one of {known}")
