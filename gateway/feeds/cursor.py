"""What of a feed is new to one reader: pure. Items may come again, from the beginning, and from two stores.

Events have a gap-free `seq`; deltas count on by their offset. They come from two topics, so that a delta may be in the
feed before its turn has started, or after it has ended: the first waits for its turn, the second is dropped.
"""

from collections.abc import Iterable, Sequence

from gateway.feeds.items import Entry, Item
from gateway.feeds.position import Position

MAX_HELD = 2_000
"""Deltas that wait for their turn; Redis keeps as many entries of a session."""


class Cursor:
    """The reader's two cursors, and which turn runs.

    `at_ms`: when the event was at which the reader is; 0: nobody knows.
    """

    __slots__ = ("_at_ms", "_delta", "_event", "_held", "_is_placed", "_running", "_turn")

    def __init__(self, position: Position, at_ms: int = 0) -> None:
        self._event = position.event
        self._delta = position.delta
        self._running = 0
        self._turn = 0
        self._at_ms = at_ms
        self._is_placed = position.event == 0
        self._held: dict[int, Item] = {}

    @property
    def position(self) -> Position:
        return Position(self._event, self._delta)

    @property
    def is_placed(self) -> bool:
        """Whether it has met the last event that the reader has, and so knows which turn runs."""
        return self._is_placed

    def skip(self, items: Iterable[Item]) -> None:
        """The reader wants only what comes after these."""
        for item in items:
            if item.is_event:
                self._event = max(self._event, item.seq)
                self._see(item)
            else:
                self._delta = max(self._delta, item.place)

    def missing(self, items: Iterable[Item]) -> range | None:
        """The `seq`s between the reader's last event and the first new one of these; None where there are none."""
        for item in items:
            if item.is_event and item.seq > self._event:
                return range(self._event + 1, item.seq) if item.seq > self._event + 1 else None
        return None

    def take(self, items: Sequence[Item]) -> list[Entry]:
        """Those of the items that are new to the reader, in an order in which they make sense."""
        entries: list[Entry] = []
        for item in items:
            if item.is_event:
                self._take_event(item, entries)
            elif item.place > self._delta:
                if not self._is_placed or item.turn > self._turn:
                    if len(self._held) < MAX_HELD:
                        self._held[item.place] = item
                elif item.turn == self._running:
                    self._give(item, entries)
        return entries

    def _take_event(self, event: Item, entries: list[Entry]) -> None:
        # A session that was forgotten begins anew: its events count from 1 again, later than all that were seen.
        begins_anew = event.seq == 1 and 0 < self._at_ms < event.at_ms
        if begins_anew:
            self._running = self._turn = 0
        if event.seq > self._event or begins_anew:
            self._event = event.seq
            entries.append(Entry(self.position, event))
        elif self._is_placed:
            return
        self._see(event)
        if self._is_placed:
            self._release(entries)

    def _see(self, event: Item) -> None:
        self._is_placed = self._is_placed or event.seq >= self._event
        self._at_ms = max(self._at_ms, event.at_ms)
        if not event.ends_turn:
            self._running = event.turn
            self._turn = max(self._turn, event.turn)
        elif self._running in (0, event.turn):
            self._running = 0
            self._turn = max(self._turn, event.turn)
        # Else a message was turned away, or cancelled while it waited, and another one's turn goes on.

    def _release(self, entries: list[Entry]) -> None:
        """Give what waited for the turn that runs now."""
        if not self._held:
            return
        ready = [item for _, item in sorted(self._held.items()) if item.turn <= self._turn]
        for item in ready:
            del self._held[item.place]
            if item.turn == self._running and item.place > self._delta:
                self._give(item, entries)

    def _give(self, delta: Item, entries: list[Entry]) -> None:
        self._delta = delta.place
        entries.append(Entry(self.position, delta))
