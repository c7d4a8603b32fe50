"""Following and commanding sessions over one WebSocket; `docs/websocket.md` is its protocol."""

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from aiohttp import WSMsgType, hdrs, web

from gateway.access import caller_of, identify
from gateway.audit import audited
from gateway.caller import ANYONE, Caller, Scope
from gateway.feeds import BEGINNING, Entry, Position
from gateway.keys import unauthenticated
from gateway.metrics import Metrics
from gateway.parts import Parts
from gateway.passing_over import UNREADABLE, pass_over
from gateway.problems import Code, Problem
from gateway.route import Route
from gateway.ticking import Ticking
from gateway.websocket_commands import command_of, do, read_frame, ref_of
from gateway.websocket_frames import (
    Authenticate,
    CommandFrames,
    ErrorFrame,
    Follow,
    Followed,
    FromClient,
    FromServer,
    Ping,
    Pong,
    Ready,
    Unfollow,
    Unfollowed,
)
from gateway.websocket_telling import Told, frames_of
from runtime.ending import cancelled
from schemas.audit import Act, Outcome

HEARTBEAT_S = 20.0
"""Proxies close what is silent for a minute, some for half of one."""
AUTHENTICATE_S = 10.0
GOODBYE_S = 5.0
"""As long is waited for a reader to take the reason why the connection ends."""
MAX_FOLLOWED = 100
"""A screen shows fewer; each costs what an SSE stream costs."""
MAX_COMMANDS_WAITING = 100
"""Commands are done one after the other, in their order; the brokers take some milliseconds for each."""
MAX_FRAMES_PER_S = 50.0
CLOSE_CODES = {Code.STOPPING: 1001, Code.UNAUTHENTICATED: 4001, Code.WRONG_SCOPE: 4003, Code.TOO_SLOW: 4008}
OTHER_CLOSE_CODE = 1011
FORBIDDEN = frozenset({Code.WRONG_SCOPE, Code.WRONG_TENANT})

_encode = msgspec.json.Encoder().encode
log = structlog.get_logger(__name__)


async def open_websocket(request: web.Request, parts: Parts, caller: Caller) -> web.StreamResponse:
    """A WebSocket, until one of the two ends it."""
    known = None
    del caller
    if hdrs.AUTHORIZATION in request.headers or parts.settings.gateway.open:
        known = await identify(request, parts)
    with parts.streams.opened("websocket"):
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=parts.settings.gateway.max_request_bytes, compress=False
        )
        if not socket.can_prepare(request).ok:
            raise Problem(Code.NOT_VALID, "expected a WebSocket handshake (RFC 6455), got another request")
        await socket.prepare(request)
        await Connection(request, parts, socket, known).run()
        return socket


class Connection:
    """One client: what it asks for, what it follows, and why it ends."""

    def __init__(self, request: web.Request, parts: Parts, socket: web.WebSocketResponse, known: Caller | None) -> None:
        self._request = request
        self._parts = parts
        self._socket = socket
        self._caller = known or ANYONE
        self._is_known = known is not None
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._commands: asyncio.Queue[CommandFrames] = asyncio.Queue(MAX_COMMANDS_WAITING)
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._allowance = Allowance(MAX_FRAMES_PER_S, asyncio.get_running_loop().time)

    async def run(self) -> None:
        """Until the client leaves, or there is a reason to end it."""
        works = [asyncio.create_task(work) for work in (self._listen(), self._command())]
        try:
            await asyncio.wait([*works, self._end], return_when=asyncio.FIRST_COMPLETED)
            ended = [work for work in works if work.done()]
            for work in ended:
                # An error of ours goes up; ConnectionError: the client has gone.
                work.result()
            if self._end.done():
                self._end.result()
        except ConnectionError:
            pass
        except Problem as problem:
            await self._say_why(problem)
        finally:
            self._end.cancel()
            await cancelled(*works, *self._followed.values())
            await self._close(1000, b"")

    # What the client says.

    async def _listen(self) -> None:
        if not self._is_known:
            await self._authenticate()
        if not self._caller.scopes & {Scope.SESSIONS_READ, Scope.SESSIONS_WRITE}:
            self._caller.require(Scope.SESSIONS_READ)
        await self._send(
            Ready(
                name=self._caller.name,
                tenant=self._caller.tenant,
                scopes=tuple(sorted(self._caller.scopes)),
                session_prefix=self._caller.session_prefix,
                heartbeat_s=HEARTBEAT_S,
            )
        )
        watching = asyncio.create_task(self._watch())
        try:
            async for message in self._socket:
                await self._hear(message.data if message.type is WSMsgType.TEXT else None)
        finally:
            watching.cancel()

    async def _authenticate(self) -> None:
        try:
            async with asyncio.timeout(AUTHENTICATE_S):
                message = await self._socket.receive()
        except TimeoutError:
            raise unauthenticated(f"expected an `authenticate` frame within {AUTHENTICATE_S:.0f} s, got none") from None
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
            raise ConnectionResetError
        expected = unauthenticated('expected {"type": "authenticate", "key": "…"} as the first frame, got another one')
        try:
            frame = read_frame(message.data if message.type is WSMsgType.TEXT else "")
        except Problem:
            raise expected from None
        if not isinstance(frame, Authenticate):
            raise expected
        self._caller = await caller_of(self._request, self._parts, frame.key)

    async def _hear(self, text: str | None) -> None:
        if text is None:
            await self._refuse(Problem(Code.NOT_VALID, "expected a text frame with JSON, got a binary one"))
            return
        frame: FromClient | None = None
        try:
            self._allowance.take()
            frame = read_frame(text)
            await self._act(frame)
        except Problem as problem:
            await self._refuse(problem, frame, text)

    async def _act(self, frame: FromClient) -> None:
        match frame:
            case Ping():
                await self._send(Pong(ref=frame.ref))
            case Follow():
                self._follow(frame)
            case Unfollow():
                task = self._followed.pop(frame.session_id, None)
                if task is not None:
                    task.cancel()
                await self._send(Unfollowed(session_id=frame.session_id))
            case Authenticate():
                raise Problem(Code.NOT_VALID, "expected no `authenticate` frame, got one: you are in already")
            case _:
                self._caller.require(Scope.SESSIONS_WRITE)
                self._caller.require_session(frame.session_id)
                try:
                    self._commands.put_nowait(frame)
                except asyncio.QueueFull:
                    waiting = f"{MAX_COMMANDS_WAITING} commands that wait"
                    raise Problem(Code.TOO_MANY_REQUESTS, f"expected at most {waiting}: send it again, later") from None

    async def _command(self) -> None:
        while True:
            frame = await self._commands.get()
            try:
                command = command_of(frame, self._caller)
                await self._send(await do(self._request, self._parts, self._caller, frame.ref, command))
            except Problem as problem:
                await self._refuse(problem, frame)

    async def _refuse(self, problem: Problem, frame: FromClient | None = None, text: str = "") -> None:
        self._parts.metrics.problems.labels(problem.code).inc()
        if problem.code in FORBIDDEN:
            why = problem.code.value
            await audited(self._request, self._parts, self._caller, Act.FORBIDDEN, Outcome.DENIED, why=why)
        ref = getattr(frame, "ref", None) if frame is not None else ref_of(text)
        session_id = getattr(frame, "session_id", None)
        await self._send(ErrorFrame(code=problem.code, detail=problem.detail, ref=ref, session_id=session_id))

    # What the client is told.

    def _follow(self, frame: Follow) -> None:
        self._caller.require(Scope.SESSIONS_READ)
        session_id = self._caller.require_session(frame.session_id)
        if session_id in self._followed:
            raise Problem(Code.NOT_VALID, "expected a session that is not followed yet: unfollow it first")
        if len(self._followed) >= MAX_FOLLOWED:
            raise Problem(Code.TOO_MANY_REQUESTS, f"expected at most {MAX_FOLLOWED} followed sessions: unfollow one")
        try:
            after = Position.parse(frame.after) if frame.after is not None else None
        except ValueError as error:
            raise Problem(Code.NOT_VALID, str(error)) from None
        if after is None and frame.from_ == "beginning":
            after = BEGINNING
        self._followed[session_id] = asyncio.create_task(self._tell(session_id, after))

    async def _tell(self, session_id: str, after: Position | None) -> None:
        try:
            async with self._parts.feeds.follow(session_id, after) as follower:
                # A write to a client that takes nothing would never come back.
                follower.on_end = lambda: self._end_for(follower.why)
                await self._send(Followed(session_id=session_id, resume=str(follower.start)))
                metric = self._parts.metrics.entries_sent.labels("websocket")
                while True:
                    entries = await follower.take()
                    for entry in entries:
                        for frame in _told(entry, self._parts.metrics):
                            await self._send(frame)
                    metric.inc(len(entries))
        except ConnectionError as error:
            self._end_for(error)
        except Problem as problem:
            if problem.code in CLOSE_CODES:
                self._end_for(problem)
                return
            self._followed.pop(session_id, None)
            await self._send(ErrorFrame(code=problem.code, detail=problem.detail, session_id=session_id))
            await self._send(Unfollowed(session_id=session_id))
        except Exception as error:
            # Nobody waits for this task: the client learns of it by the end of the connection, and resumes.
            log.exception("follow_failed", session_id=session_id, kind=type(error).__name__)
            self._end_for(Problem(Code.INTERNAL_ERROR, "the gateway has a bug: connect again, and resume"))

    async def _send(self, frame: FromServer) -> None:
        await self._socket.send_frame(_encode(frame), WSMsgType.TEXT)

    # How it ends.

    async def _watch(self) -> None:
        woken = asyncio.Event()
        with Ticking(self._request, self._parts, self._caller, woken.set) as ticking:
            while True:
                await woken.wait()
                woken.clear()
                try:
                    if await ticking.is_over():
                        return
                except Problem as problem:
                    self._end_for(problem)
                    return

    def _end_for(self, why: Exception | None) -> None:
        if why is not None and not self._end.done():
            self._end.set_exception(why)

    async def _say_why(self, problem: Problem) -> None:
        self._parts.metrics.streams_ended.labels("websocket", problem.code).inc()
        frame = ErrorFrame(code=problem.code, detail=problem.detail)
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._send(frame)
        except (TimeoutError, ConnectionError):
            pass
        await self._close(CLOSE_CODES.get(problem.code, OTHER_CLOSE_CODE), problem.code.encode())

    async def _close(self, code: int, why: bytes) -> None:
        """A client who does not take it is cut off."""
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._socket.close(code=code, message=why)
        except (TimeoutError, ConnectionError):
            if self._request.transport is not None:
                self._request.transport.abort()


def _told(entry: Entry, metrics: Metrics) -> list[Told]:
    try:
        return list(frames_of(entry))
    except UNREADABLE as error:
        pass_over(metrics, "websocket", entry, error)
        return []


class Allowance:
    """So many frames a second, and twice as many at once."""

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left = 2 * per_s
        self._at = clock()

    def take(self) -> None:
        """One frame of it; raises `Problem(too_many_requests)` where there is none left."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._per_s, 2 * self._per_s)
        self._at = now
        if self._left < 1:
            most = f"{self._per_s:.0f} frames a second"
            raise Problem(Code.TOO_MANY_REQUESTS, f"expected at most {most}: send the frame again, later")
        self._left -= 1


ROUTES = (
    Route(
        method="GET",
        path="/v1/ws",
        handler=open_websocket,
        summary="Follow and command sessions over a WebSocket",
        tag="streams",
        # The key may be in the first frame.
        needs_key=False,
        answers={101: None},
        media_type="application/json",
    ),
)
