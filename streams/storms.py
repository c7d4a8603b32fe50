"""Storms: a sender that broadcasts more often than a person or a sound program would is refused for a while.

The window goes over the timestamps of the records, so a backlog that is read late is no storm. Each worker counts what
it routes: with several workers a sender may send as many times the limit as there are workers that hold partitions of
`broadcasts`, and a worker that restarts begins to count anew.
"""

from collections import OrderedDict
from datetime import datetime, timedelta

from schemas.commands import Broadcast
from schemas.dead_letter import Cause
from schemas.refusal import RefusedError

DEFAULT_BROADCASTS_PER_MINUTE = 120
"""Two a second: each of them is a turn of every agent that it reaches."""
WINDOW = timedelta(minutes=1)
MAX_SENDERS = 10_000
"""The last so many are remembered: at most 120 places of about 150 bytes each."""


class Storms:
    """What each sender has sent within the last minute, as far as this worker has routed it."""

    def __init__(self, per_minute: int = DEFAULT_BROADCASTS_PER_MINUTE) -> None:
        self._per_minute = per_minute
        self._sent: OrderedDict[tuple[str | None, str | None], dict[str, datetime]] = OrderedDict()

    def check(self, broadcast: Broadcast, place: str, at: datetime) -> None:
        """Count a broadcast, once however often its record is delivered.

        Args:
            broadcast: what is to be routed.
            place: where its record is.
            at: the record's timestamp.

        Raises:
            RefusedError: the sender has sent too many; a refused one does not count.
        """
        sender = (broadcast.tenant, broadcast.sender)
        sent = self._sent.setdefault(sender, {})
        self._sent.move_to_end(sender)
        if len(self._sent) > MAX_SENDERS:
            self._sent.popitem(last=False)
        if place in sent:
            return
        for old in [known for known, when in sent.items() if when <= at - WINDOW]:
            del sent[old]
        if len(sent) >= self._per_minute:
            who = f"`{broadcast.sender}`" if broadcast.sender else "senders without a name"
            error = f"expected at most {self._per_minute} broadcasts per minute of {who}, got more: "
            raise RefusedError(Cause.TOO_MANY_BROADCASTS, f"{error}send it again later, and less often")
        sent[place] = at
