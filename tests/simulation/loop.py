"""An event loop whose time is the world's: nothing waits for real, and what is paused hears no timer."""

import asyncio
import selectors
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol


class Sleeper(Protocol):
    """Whose timers do not ring while it is paused."""

    is_paused: bool
    missed: list[Callable[[], None]]
    """The timers that rang meanwhile: they are due when it wakes up."""


sleeper: ContextVar[Sleeper | None] = ContextVar("sleeper", default=None)
"""Who sets timers."""


class _NoFiles(selectors.SelectSelector):
    """No file is ever ready; asking the system costs a third of the loop's time."""

    def select(self, timeout: float | None = None) -> list[Any]:
        del timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Some task must always be ready to run: the one that moves the time on."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        super().__init__(_NoFiles())

    def time(self) -> float:
        return self._seconds()

    def call_at(  # type: ignore[override]  # The types of `args` are the callback's, and of no interest here.
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        who = sleeper.get()
        if who is None:
            return super().call_at(when, callback, *args, context=context)

        def ring() -> None:
            if handle.cancelled():
                return
            if who.is_paused:
                who.missed.append(ring)
            else:
                callback(*args)

        handle = super().call_at(when, ring, context=context)
        return handle

    def is_idle(self) -> bool:
        """Whether nothing goes on by itself at this time but the task that asks."""
        return not self._ready  # type: ignore[attr-defined]  # typeshed leaves it out.

    def next_timer(self) -> float | None:
        """When the next timer rings that is not cancelled."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # typeshed leaves it out.
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)
