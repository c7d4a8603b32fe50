"""Coalescing deltas."""

from collections.abc import Callable

from agents.models.deltas import FLUSH_AFTER_S, FLUSH_AT_CHARACTERS, DeltaCoalescer

Frame = tuple[int, int, str | None]


class Clock:
    """Timers that fire when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[tuple[float, Callable[[], None], list[bool]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "Clock.Handle":
        cancelled: list[bool] = []
        self._timers.append((self.now_s + delay_s, callback, cancelled))
        return Clock.Handle(cancelled)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        due = [timer for timer in self._timers if timer[0] <= self.now_s]
        self._timers = [timer for timer in self._timers if timer[0] > self.now_s]
        for _, callback, cancelled in due:
            if not cancelled:
                callback()

    class Handle:
        def __init__(self, cancelled: list[bool]) -> None:
            self._cancelled = cancelled

        def cancel(self) -> None:
            self._cancelled.append(True)


def make() -> tuple[DeltaCoalescer, Clock, list[Frame]]:
    frames: list[Frame] = []
    clock = Clock()
    deltas = DeltaCoalescer(lambda attempt, seq, text: frames.append((attempt, seq, text)), clock.call_later)
    deltas.begin_attempt()
    return deltas, clock, frames


def test_the_first_at_once_the_rest_after_50_ms() -> None:
    """The first text leaves at once; what follows waits for its companions, 50 ms at most."""
    deltas, clock, frames = make()
    deltas.add("The ")
    assert frames == [(1, 0, "The ")]
    deltas.add("sun ")
    clock.advance(FLUSH_AFTER_S / 2)
    deltas.add("shines")
    assert len(frames) == 1
    clock.advance(FLUSH_AFTER_S / 2)
    assert frames[1:] == [(1, 1, "sun shines")]


def test_256_characters_leave_without_waiting() -> None:
    """A fast model is not held back: a full frame leaves at once, and its timer with it."""
    deltas, clock, frames = make()
    deltas.add("a")
    deltas.add("b" * (FLUSH_AT_CHARACTERS - 1))
    assert len(frames) == 1
    deltas.add("c")
    assert frames[1:] == [(1, 1, "b" * (FLUSH_AT_CHARACTERS - 1) + "c")]
    clock.advance(1)
    assert len(frames) == 2


def test_the_end_sends_what_waits() -> None:
    """Nothing is lost at the end of the message."""
    deltas, clock, frames = make()
    deltas.add("a")
    deltas.add("b")
    deltas.flush()
    clock.advance(1)
    assert frames == [(1, 0, "a"), (1, 1, "b")]


def test_a_retry_begins_with_a_reset_and_without_the_old_text() -> None:
    """What waited of the failed attempt never leaves; the new one begins with its reset frame and counts from 0."""
    deltas, clock, frames = make()
    deltas.add("old ")
    deltas.add("text")
    deltas.begin_attempt()
    clock.advance(1)
    deltas.add("new")
    assert frames == [(1, 0, "old "), (2, 0, None), (2, 1, "new")]


def test_empty_text_is_no_frame() -> None:
    """A tool call without words shows nothing."""
    deltas, _, frames = make()
    deltas.add("")
    deltas.flush()
    assert frames == []
