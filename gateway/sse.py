"""A session's feed as server-sent events: the records as they are on the topics, or as AG-UI has them."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Protocol

import msgspec
from aiohttp import hdrs, web
from msgspec import Struct

from gateway.agui import MEDIA_TYPE, AgUi
from gateway.audit import REQUEST_ID
from gateway.caller import Caller, Scope
from gateway.feeds import BEGINNING, Entry, Follower, Position
from gateway.parts import Parts
from gateway.passing_over import UNREADABLE, pass_over
from gateway.problems import Code, Problem, ProblemDetails, problem_details
from gateway.reading import read_query, read_session_id
from gateway.route import Route
from gateway.ticking import Ticking

HEARTBEAT_S = 15.0
"""Proxies close what is silent for a minute, some for half of one."""
RETRY_MS = 1_000
"""What browsers wait before they connect again."""
GOODBYE_S = 5.0
"""As long is waited for a reader to take the reason why its stream ends."""
HEARTBEAT = b": heartbeat\n\n"
LAST_EVENT_ID = "Last-Event-ID"
HEADERS = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store",
    # nginx would keep events back until it has a buffer full.
    "X-Accel-Buffering": "no",
}


After = Annotated[
    str,
    msgspec.Meta(max_length=100, description="Begin behind this position: the `id` of the last event that was seen."),
]


class EventsQuery(Struct, frozen=True, kw_only=True):
    """Where to begin, and in which words; the header `Last-Event-ID`, which browsers send, goes before `after`."""

    after: After | None = None
    from_: Annotated[
        Literal["beginning", "now"],
        msgspec.Meta(description="Where to begin without a position: at the session's first event, or now."),
    ] = msgspec.field(name="from", default="now")
    format: Annotated[
        Literal["records", "ag-ui"],
        msgspec.Meta(description="`records`: as they are on the topics. `ag-ui`: the events of AG-UI 1.0."),
    ] = "records"


class Rendering(Protocol):
    """Makes of what happened what the reader reads."""

    def begin(self, position: Position) -> bytes: ...

    def render(self, entry: Entry) -> bytes: ...

    def end(self, details: ProblemDetails) -> bytes: ...


class Records:
    """Each record as it is on its topic, without decoding it."""

    def begin(self, position: Position) -> bytes:
        """Without data a browser shows nothing, but it knows then where it is."""
        return b"retry: %d\nid: %s\n\n" % (RETRY_MS, str(position).encode())

    def render(self, entry: Entry) -> bytes:
        position, body = entry.position, entry.body
        if b"\n" in body or b"\r" in body:
            # Between the tokens of JSON that somebody else wrote: inside of its strings they are escaped.
            body = body.replace(b"\r", b" ").replace(b"\n", b" ")
        return b"id: %d-%d\nevent: %s\ndata: %s\n\n" % (position.event, position.delta, entry.type.encode(), body)

    def end(self, details: ProblemDetails) -> bytes:
        return b"event: error\ndata: %s\n\n" % msgspec.json.encode(details)


async def get_events(request: web.Request, parts: Parts, caller: Caller) -> web.StreamResponse:
    """The session's feed, until the reader leaves; it ends with an `error` event where the gateway ends it."""
    session_id = read_session_id(request, caller)
    query = read_query(request, EventsQuery)
    is_ag_ui = query.format == "ag-ui" or MEDIA_TYPE in request.headers.get(hdrs.ACCEPT, "")
    given = request.headers.get(LAST_EVENT_ID) or query.after
    rendering: Rendering
    try:
        if is_ag_ui:
            rendering, after = AgUi.resumed(given) if given else (AgUi(), None)
        else:
            rendering, after = Records(), Position.parse(given) if given else None
    except ValueError as error:
        raise Problem(Code.NOT_VALID, f"the position is not as it must be: {error}", errors=[str(error)]) from None
    if after is None and query.from_ == "beginning":
        after = BEGINNING
    with parts.streams.opened("sse"):
        async with parts.feeds.follow(session_id, after) as follower:
            stream = EventStream(request, parts, caller, rendering, follower)
            return await stream.run()


class EventStream:
    """One reader's stream, from its head to its end."""

    def __init__(
        self, request: web.Request, parts: Parts, caller: Caller, rendering: Rendering, follower: Follower
    ) -> None:
        self._request = request
        self._parts = parts
        self._caller = caller
        self._rendering = rendering
        self._follower = follower
        self._response = web.StreamResponse(headers=HEADERS)
        self._ticking = Ticking(request, parts, caller, follower.poke)

    async def run(self) -> web.StreamResponse:
        try:
            await self._response.prepare(self._request)
            with self._ticking:
                await self._follow()
        except ConnectionError:
            # The reader has gone, and comes again where it was.
            pass
        except Problem as problem:
            await self._say_why(problem)
        return self._response

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        await self._response.write(self._rendering.begin(self._follower.start))
        written_at = loop.time()
        metric = self._parts.metrics.entries_sent.labels("sse")
        while True:
            entries = await self._follower.take()
            if entries:
                await self._write(b"".join(self._rendered(entries)))
                metric.inc(len(entries))
                written_at = loop.time()
            elif await self._ticking.is_over():
                return
            elif loop.time() >= written_at + HEARTBEAT_S:
                await self._write(HEARTBEAT)
                written_at = loop.time()

    def _rendered(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        for entry in entries:
            try:
                yield self._rendering.render(entry)
            except UNREADABLE as error:
                pass_over(self._parts.metrics, "sse", entry, error)

    async def _write(self, data: bytes) -> None:
        """Raises the follower's end where the reader does not take what is written."""
        task = asyncio.current_task()
        assert task is not None
        self._follower.on_end = task.cancel
        try:
            await self._response.write(data)
        except asyncio.CancelledError:
            if self._follower.why is not None and task.uncancel() == 0:
                raise self._follower.why from None
            raise
        finally:
            self._follower.on_end = None

    async def _say_why(self, problem: Problem) -> None:
        """The stream's last words; a reader who does not take them is cut off."""
        self._parts.metrics.streams_ended.labels("sse", problem.code).inc()
        details = problem_details(problem, self._request[REQUEST_ID])
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._response.write(self._rendering.end(details))
                await self._response.write_eof()
        except (TimeoutError, ConnectionError):
            if self._request.transport is not None:
                self._request.transport.abort()


ROUTES = (
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/events",
        handler=get_events,
        summary="Follow a session: its events, and its answers while they are written",
        tag="streams",
        scope=Scope.SESSIONS_READ,
        query=EventsQuery,
        answers={200: None},
        media_type="text/event-stream",
        request_headers={LAST_EVENT_ID: "Begin behind this position; browsers send it when they connect again."},
    ),
)
