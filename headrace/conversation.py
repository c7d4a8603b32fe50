"""A conversation in the terminal.

The prompt blocks and takes Ctrl-C in the main thread, so the client's event loop runs in another one.
"""

import asyncio
import concurrent.futures
import os
import signal
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from types import FrameType
from typing import Any, TypeVar

from headrace.client import Headrace
from headrace.errors import KeepWaitingError
from headrace.output import console, print_error, print_json_bytes
from headrace.transcript_view import TranscriptView
from runtime.settings import Settings
from schemas.codec import encode
from schemas.events import AgentDelta, AgentEvent, ApprovalRequested, TurnCancelled, TurnCompleted, TurnFailed

QUIET_HINT_S = 5.0
"""After so long without any event, a person is told what may be missing."""

T = TypeVar("T")
_Item = AgentEvent | AgentDelta


class EndedError(Exception):
    """The person has ended the conversation."""


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="client", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.submit(coroutine).result()

    def close(self) -> None:
        self.wait(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        """Cancel what still runs, for instance the wait for the next event."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


class Conversation:
    """One session: messages go in, what happens is shown."""

    def __init__(self, loop: _Loop, headrace: Headrace, session_id: str, agent: str | None, *, json: bool) -> None:
        self._loop = loop
        self._headrace = headrace
        self._session_id = session_id
        self._agent = agent
        self._json = json
        self._items: AsyncIterator[_Item] | None = None
        self._open = AsyncExitStack()

    async def open(self) -> None:
        """Begin to follow the session: nothing that is sent from now on can be missed."""
        await self._open.enter_async_context(self._headrace)
        following = self._headrace.follow(self._session_id, deltas=True)
        await self._open.enter_async_context(following)
        self._items = aiter(following)

    async def close(self) -> None:
        await self._open.aclose()

    def turn(self, text: str, timeout_s: float) -> None:
        """Send a message and show its turn to the end; Ctrl-C cancels it, and a second one ends the conversation."""
        message = self._loop.wait(self._headrace.send(self._session_id, text, agent=self._agent))
        view = TranscriptView(console())
        with self._cancelling_on_interrupt(message.id):
            for item in self._turn_items(message.id, timeout_s):
                if self._json:
                    print_json_bytes(encode(item))
                else:
                    view.show(item)
                if isinstance(item, ApprovalRequested):
                    self._ask_for_approval(item)

    def _turn_items(self, message_id: str, timeout_s: float) -> Iterator[_Item]:
        turn_ids: set[str] = set()
        while True:
            item = self._result(self._loop.submit(self._next()), timeout_s, message_id, quiet=not turn_ids)
            # Somebody else may talk in the same session: only this message's turn is shown.
            if not isinstance(item, AgentEvent):
                if item.turn_id in turn_ids or not turn_ids:
                    yield item
            elif item.message_id == message_id:
                turn_ids.add(item.turn_id)
                yield item
                if isinstance(item, TurnCompleted | TurnFailed | TurnCancelled):
                    return

    @contextmanager
    def _cancelling_on_interrupt(self, message_id: str) -> Iterator[None]:
        """A handler instead of KeyboardInterrupt, which would come wherever the turn is just being shown."""
        asked = False

        def cancel(_signal: int, _frame: FrameType | None) -> None:
            nonlocal asked
            if asked:
                raise EndedError
            asked = True
            # Not through a buffer that the interrupted code may be in the middle of.
            os.write(sys.stderr.fileno(), b"\ncancelling the turn; Ctrl-C again to leave\n")
            self._loop.submit(self._headrace.cancel(self._session_id, message_id, reason="Ctrl-C in the chat"))

        before = signal.signal(signal.SIGINT, cancel)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _result(
        self, following: concurrent.futures.Future[_Item], timeout_s: float, message_id: str, *, quiet: bool
    ) -> _Item:
        hint_s = min(QUIET_HINT_S, timeout_s) if quiet else 0.0
        try:
            if quiet:
                return following.result(hint_s)
        except concurrent.futures.TimeoutError:
            print_error("nothing yet: is a worker running? (`headrace doctor` tells)")
        try:
            return following.result(timeout_s - hint_s)
        except concurrent.futures.TimeoutError:
            raise KeepWaitingError(
                f"message {message_id} of session {self._session_id} has no answer after {timeout_s:g} s; it stays "
                f"accepted: `headrace tail agent-events --session {self._session_id} --from-beginning` shows it",
                message_id,
            ) from None

    async def _next(self) -> _Item:
        assert self._items is not None, "not open"
        return await anext(self._items)

    def _ask_for_approval(self, request: ApprovalRequested) -> None:
        if not sys.stdin.isatty():
            return
        try:
            approved = input("allow it? [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            approved = False
        decide = self._headrace.approve if approved else self._headrace.deny
        self._loop.wait(decide(self._session_id, request.call_id))


def converse(settings: Settings, *, session: str | None, agent: str | None, timeout_s: float, json: bool) -> int:
    """Talk until the person, or stdin, ends; returns the exit status."""
    session_id = session or f"chat-{uuid.uuid4().hex[:8]}"
    with _opened(settings, session_id, agent, json=json) as conversation:
        try:
            for text in _messages(session_id, json=json):
                conversation.turn(text, timeout_s)
        except EndedError:
            return 130
    return 0


@contextmanager
def _opened(settings: Settings, session_id: str, agent: str | None, *, json: bool) -> Iterator[Conversation]:
    loop = _Loop()
    try:
        conversation = Conversation(loop, Headrace.of(settings), session_id, agent, json=json)
        try:
            loop.wait(conversation.open())
            yield conversation
        finally:
            loop.wait(conversation.close())
    finally:
        loop.close()


def _messages(session_id: str, *, json: bool) -> Iterator[str]:
    """What the person says, or the lines of stdin; empty lines are left out."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            if text := line.strip():
                if not json:
                    console().print(f"> {text}", style="bold", markup=False)
                yield text
        return
    # Line editing and a history at the prompt come with this import.
    import readline  # noqa: F401

    console().print(f"Session {session_id}. Ctrl-C cancels a turn, Ctrl-D ends the chat.", style="dim", markup=False)
    while True:
        try:
            text = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            console().print()
            return
        if text:
            yield text
