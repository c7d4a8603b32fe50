"""Coalescing the text of a stream into few frames: the first at once, then one per 50 ms or 256 characters.

A delta is a record on a topic. A model writes some 100 tokens per second; at 20 frames per second a person sees no
difference, and the pipeline carries a fifth of the records.
"""

from collections.abc import Callable
from typing import Protocol

from agents.models.port import DeltaSink

FLUSH_AFTER_S = 0.05
FLUSH_AT_CHARACTERS = 256


class Timer(Protocol):
    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Timer]
"""`loop.call_later`, or a test's stand-in."""


class DeltaCoalescer:
    """The frames of one call, over all its attempts."""

    __slots__ = ("_attempt", "_call_later", "_characters", "_parts", "_seq", "_sink", "_timer", "is_first_sent")

    def __init__(self, sink: DeltaSink, call_later: CallLater) -> None:
        self._sink = sink
        self._call_later = call_later
        self._attempt = 0
        self._seq = 0
        self._parts: list[str] = []
        self._characters = 0
        self._timer: Timer | None = None
        self.is_first_sent = False

    def begin_attempt(self) -> None:
        """Start the next attempt: what waits of the last one is dropped, and a reset frame says that it is void."""
        self.abandon()
        self._attempt += 1
        self._seq = 0
        self.is_first_sent = False
        if self._attempt > 1:
            self._send(None)

    def add(self, text: str) -> None:
        """Send `text`, at once or together with what follows."""
        if not text:
            return
        if not self.is_first_sent:
            self.is_first_sent = True
            self._send(text)
            return
        self._parts.append(text)
        self._characters += len(text)
        if self._characters >= FLUSH_AT_CHARACTERS:
            self.flush()
        elif self._timer is None:
            self._timer = self._call_later(FLUSH_AFTER_S, self.flush)

    def flush(self) -> None:
        """Send what waits."""
        if self._parts:
            text = "".join(self._parts)
            self.abandon()
            self._send(text)

    def abandon(self) -> None:
        """Forget what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._parts.clear()
        self._characters = 0

    def _send(self, text: str | None) -> None:
        seq = self._seq
        self._seq += 1
        self._sink(self._attempt, seq, text)
