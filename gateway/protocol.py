"""HTTP itself: what is not even a request is answered with a problem too, and not repeated in a log."""

import asyncio
import uuid
from typing import Any

import structlog
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.web_protocol import RequestHandler

from gateway.problems import Code, Problem, problem_response

INTERNAL_SERVER_ERROR = 500
ARGUMENTS: dict[str, Any] = {
    "access_log": None,
    # A body that is small on the wire and large in memory is refused as what it is: not JSON.
    "auto_decompress": False,
}

EARLIER_S = 0.1
"""Than aiohttp gives up waiting: a request that is cancelled in that very moment would be told twice that it ended."""

log = structlog.get_logger(__name__)


class Runner(web.AppRunner):
    """Runs an application with `Protocol` for its connections."""

    __slots__ = ()

    def __init__(self, app: web.Application, shutdown_timeout_s: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout_s, **ARGUMENTS)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **ARGUMENTS)


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return Protocol(self, loop=self._loop, access_log_class=_NoAccessLog, **self._kwargs)


class _NoAccessLog(AbstractAccessLogger):
    """Requests are counted, not logged."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        del request, response, time


class Protocol(RequestHandler):
    """One connection. aiohttp would answer with what it could not read, and log it, with a key that was in it."""

    __slots__ = ()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # aiohttp's own name.
        """Let the request end for `timeout` seconds, then cancel it.

        aiohttp would wait so long once more before it does, and for ever where `timeout` is 0.
        """
        assert timeout is not None
        task = self._task_handler
        after_s = max(timeout - EARLIER_S, 0.0)
        timer = None if task is None else asyncio.get_running_loop().call_later(after_s, task.cancel)
        try:
            await super().shutdown(timeout)
        finally:
            if timer is not None:
                timer.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        del message
        request_id = uuid.uuid4().hex
        if status == INTERNAL_SERVER_ERROR:
            log.error("connection_failed", request_id=request_id, kind=type(exc).__name__, exc_info=exc)
            problem = Problem(Code.INTERNAL_ERROR, "the gateway has a bug: report it with the id in `instance`")
        else:
            log.info("not_a_request", request_id=request_id, kind=type(exc).__name__, ip_address=request.remote)
            problem = Problem(
                Code.NOT_VALID,
                f"expected an HTTP request with at most {self.max_line_size:,} bytes in its first line and in each "
                "header, and no control characters",
            )
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: no other one can be sent")
        response = problem_response(problem, request_id)
        response.headers["X-Request-Id"] = request_id
        response.headers["Server"] = "headrace"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.force_close()
        return response
