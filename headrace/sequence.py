"""What a reader of a session has seen already: pure, so that every reader drops the same records."""

from collections import deque
from datetime import datetime

from schemas.events import AgentDelta, AgentEvent, DeltaReset, TurnCancelled, TurnCompleted, TurnFailed

ENDED_TURNS_REMEMBERED = 100
"""Deltas come on a topic of their own and can arrive after the end of their turn, but not many turns after it."""


class SessionReader:
    """Tells what is new among the events and deltas of one session.

    A worker that dies may publish events again: the same `seq`, the same content. A session that was forgotten begins
    again at `seq` 1, later than all before.
    """

    def __init__(self) -> None:
        self._last_seq = 0
        self._last_at: datetime | None = None
        self._ended: deque[str] = deque(maxlen=ENDED_TURNS_REMEMBERED)
        self._deltas_at: tuple[str, int, int, int] | None = None

    def is_new(self, event: AgentEvent) -> bool:
        """Whether this event was not seen before; it counts as seen from now on."""
        begins_again = event.seq == 1 and self._last_at and event.at > self._last_at
        if event.seq <= self._last_seq and not begins_again:
            return False
        if begins_again:
            # Its turns have the ids of those before.
            self._ended.clear()
            self._deltas_at = None
        self._last_seq, self._last_at = event.seq, event.at
        if isinstance(event, TurnCompleted | TurnFailed | TurnCancelled):
            self._ended.append(event.turn_id)
        return True

    def is_current(self, delta: AgentDelta) -> bool:
        """Whether this delta belongs to the newest attempt of a turn that has not ended.

        A `DeltaReset` begins an attempt: what was shown of the same step before it is void. A call that is repeated
        after a crash counts its attempts from the beginning, so a reset is current whatever its number.
        """
        if delta.turn_id in self._ended:
            return False
        place = (delta.turn_id, delta.step, delta.attempt, delta.seq)
        last = self._deltas_at
        late = last is not None and last[0] == delta.turn_id and place <= last
        if late and not isinstance(delta, DeltaReset):
            return False
        self._deltas_at = place
        return True
