"""Following sessions: what happens in them, as it happens, from wherever a reader was."""

from gateway.feeds.feeds import Feeds
from gateway.feeds.follower import Follower, TooSlow
from gateway.feeds.items import Entry
from gateway.feeds.past import StoredPast
from gateway.feeds.position import BEGINNING, Position

__all__ = ["BEGINNING", "Entry", "Feeds", "Follower", "Position", "StoredPast", "TooSlow"]
