"""The aiohttp server: `POST /v1/messages`, `/v1/messages/count_tokens`, and the control endpoints that tests use."""

import asyncio
import time
from hashlib import blake2b

import msgspec
import orjson
from aiohttp import web

from headrace.simulated_model.control import add_control
from headrace.simulated_model.directives import Directives, parse_directives
from headrace.simulated_model.faults import HTTP_FAULTS, Fault, FaultRules
from headrace.simulated_model.holds import Holds
from headrace.simulated_model.ledger import CallLedger, Outcome, Tally
from headrace.simulated_model.options import ModelOptions
from headrace.simulated_model.rate_limits import RateLimitHeaders
from headrace.simulated_model.replies import plan_reply
from headrace.simulated_model.requests import MessagesRequest, RequestRefusedError, decode_prompt, decode_request
from headrace.simulated_model.sending import Pace, send_broken, send_held, send_paced
from headrace.simulated_model.stream import Outgoing, broken_parts, error_body
from headrace.simulated_model.transcript import Turn, check_transcript, read_turn
from headrace.simulated_model.usage import InputUsage, PromptCache, count_tokens

BODY_MAX_BYTES = 32 * 1024 * 1024
"""The real API's limit for a request to the Messages API."""

TIMED_FAULTS_MAX = 100_000
"""Calls for which the attempts of a `[[fault:… times=N]]` are counted."""

CALL_ID_MAX_CHARACTERS = 200
"""Bounds the record of calls; ids of the form session/turn/step are much shorter."""

JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"


class _Call(msgspec.Struct):
    """One call of `POST /v1/messages`; its outcome is the one it has when its handler ends."""

    http: web.Request
    body: bytes
    request_id: str
    fingerprint: str
    call_id: str | None
    outcome: Outcome = "failed"


class SimulatedModel:
    """The state of one server: its options, fault rules, prompt cache and record of calls."""

    def __init__(self, options: ModelOptions) -> None:
        self.rules = FaultRules()
        self.holds = Holds()
        self.ledger = CallLedger(options.recorded_calls_max)
        self._options = options
        self._cache = PromptCache()
        self._rate_limits = RateLimitHeaders()
        self._attempts = Tally(TIMED_FAULTS_MAX)
        self._requests = 0

    async def messages(self, http: web.Request) -> web.StreamResponse:
        """Serve `POST /v1/messages`."""
        try:
            body = await http.read()
        except web.HTTPRequestEntityTooLarge:
            return self._refused(_too_large(), self._next_request_id())
        fingerprint = blake2b(body, digest_size=8).hexdigest()
        call_id = http.headers.get("x-headrace-call-id")
        if call_id is not None:
            call_id = call_id[:CALL_ID_MAX_CHARACTERS]
        call = _Call(http, body, self._next_request_id(), fingerprint, call_id)
        seen = self.ledger.start(fingerprint, call.call_id)
        try:
            response = await self._answer(call, f"{fingerprint}{seen:04x}")
        except RequestRefusedError as error:
            response = self._refused(error, call.request_id)
        except (ConnectionError, asyncio.CancelledError):
            call.outcome = "abandoned"
            raise
        finally:
            self.ledger.end(fingerprint, call.call_id, call.outcome)
        return response

    async def count_tokens(self, http: web.Request) -> web.StreamResponse:
        """Serve `POST /v1/messages/count_tokens`."""
        request_id = self._next_request_id()
        try:
            _check_key(http)
            prompt = decode_prompt(await http.read())
            check_transcript(prompt.messages)
            prompt.offered_tools()
        except web.HTTPRequestEntityTooLarge:
            return self._refused(_too_large(), request_id)
        except RequestRefusedError as error:
            return self._refused(error, request_id)
        return self._response(orjson.dumps({"input_tokens": count_tokens(prompt)}), JSON, request_id)

    async def not_found(self, http: web.Request) -> web.StreamResponse:
        """Serve every other path."""
        error = RequestRefusedError(f"Not found: {http.method} {http.path}", status=404, error_type="not_found_error")
        return self._refused(error, self._next_request_id())

    async def _answer(self, call: _Call, reply_id: str) -> web.StreamResponse:
        _check_key(call.http)
        request = decode_request(call.body)
        check_transcript(request.messages)
        turn = read_turn(request.messages)
        orders = parse_directives(turn.text)
        fault = self._fault(call, turn, orders)
        if fault is not None and fault.kind in HTTP_FAULTS:
            return self._failed(fault, call.request_id)
        reply = plan_reply(request, turn, orders, reply_id)
        outgoing = Outgoing(reply, reply_id, request.model, self._input_usage(call, request))
        self._rate_limits.spend(outgoing.usage.total, outgoing.output_tokens)
        if fault is not None:
            return await self._broken(call, request, outgoing, fault)
        response = await self._whole(call, outgoing, orders, is_stream=bool(request.stream))
        call.outcome = "completed"
        return response

    async def _whole(
        self, call: _Call, outgoing: Outgoing, orders: Directives, *, is_stream: bool
    ) -> web.StreamResponse:
        latency_s = self._options.latency_s if orders.latency_s is None else orders.latency_s
        if not is_stream:
            if orders.hold is not None:
                await self.holds.passed(orders.hold)
            await asyncio.sleep(latency_s)
            return self._response(outgoing.message(), JSON, call.request_id)
        if orders.hold is None and not latency_s:
            return self._response(b"".join(outgoing.events()), EVENT_STREAM, call.request_id)
        headers = self._rate_limits.headers(call.request_id, EVENT_STREAM, time.time())
        if orders.hold is not None:
            return await send_held(call.http, headers, outgoing.events(), self.holds.passed(orders.hold))
        pace = Pace(latency_s, self._options.first_token_share, self._writes(latency_s))
        return await send_paced(call.http, headers, outgoing.events(), pace)

    def _input_usage(self, call: _Call, request: MessagesRequest) -> InputUsage:
        if b'"cache_control"' in call.body:
            return self._cache.use(request, time.monotonic())
        return InputUsage(uncached=count_tokens(request), written=0, read=0)

    def _fault(self, call: _Call, turn: Turn, orders: Directives) -> Fault | None:
        """Return the fault for this attempt: one that the text orders, or else one that a control rule sets."""
        if orders.faults:
            attempt = self._attempts.add(f"{call.fingerprint} {call.call_id}")
            for order in orders.faults:
                if order.strikes(turn.step, attempt):
                    return order.fault
        return self.rules.strike(time.time())

    def _writes(self, latency_s: float) -> int:
        """Return in how many writes a stream leaves: the fewer, the more calls are in flight."""
        affordable = int(latency_s * self._options.paced_writes_per_s / self.ledger.totals.in_flight)
        return max(3, min(self._options.paced_writes_max, affordable))

    async def _broken(
        self, call: _Call, request: MessagesRequest, outgoing: Outgoing, fault: Fault
    ) -> web.StreamResponse:
        if fault.kind == "sse-error" and not request.stream:
            return self._failed(Fault("529"), call.request_id)
        content_type = EVENT_STREAM if request.stream else JSON
        headers = self._rate_limits.headers(call.request_id, content_type, time.time())
        return await send_broken(call.http, headers, broken_parts(outgoing, is_stream=bool(request.stream)), fault.kind)

    def _failed(self, fault: Fault, request_id: str) -> web.Response:
        known = HTTP_FAULTS[fault.kind]
        body = error_body(known.error_type, known.message, request_id, known.error_code)
        response = self._response(body, JSON, request_id, known.status)
        if known.status == HTTP_FAULTS["429"].status:
            response.headers["anthropic-ratelimit-requests-remaining"] = "0"
        if fault.retry_after is not None:
            response.headers["retry-after"] = fault.retry_after
        return response

    def _refused(self, error: RequestRefusedError, request_id: str) -> web.Response:
        return self._response(error_body(error.error_type, error.message, request_id), JSON, request_id, error.status)

    def _response(self, body: bytes, content_type: str, request_id: str, status: int = 200) -> web.Response:
        headers = self._rate_limits.headers(request_id, content_type, time.time())
        return web.Response(body=body, status=status, headers=headers)

    def _next_request_id(self) -> str:
        self._requests += 1
        return f"req_simulated{self._requests:012d}"


def _check_key(http: web.Request) -> None:
    """The SDK sends its key as a bearer token; `x-api-key` is the older way."""
    if not http.headers.get("x-api-key") and not http.headers.get("Authorization"):
        raise RequestRefusedError("x-api-key header is required", status=401, error_type="authentication_error")


def _too_large() -> RequestRefusedError:
    message = f"Request exceeds the maximum size of {BODY_MAX_BYTES} bytes"
    return RequestRefusedError(message, status=413, error_type="request_too_large")


def create_app(options: ModelOptions | None = None) -> web.Application:
    """Make the application: the API, and under `/control` what tests set and read."""
    model = SimulatedModel(options or ModelOptions())
    app = web.Application(client_max_size=BODY_MAX_BYTES)
    app.router.add_post("/v1/messages", model.messages)
    app.router.add_post("/v1/messages/count_tokens", model.count_tokens)
    add_control(app, model.rules, model.ledger, model.holds)
    app.router.add_route("*", "/{path:.*}", model.not_found)
    return app
