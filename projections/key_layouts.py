"""Which keys the projections in Redis have, and which of them change places together when they are made again."""

from msgspec import Struct

from agents.shared_budgets import SPENT_PREFIX
from projections.budgets import BUDGETS
from projections.budgets import LIFETIME_MS as BUDGET_LIFETIME_MS
from projections.calls import DAY_MS
from projections.live import LIFETIME_MS as FEED_LIFETIME_MS
from projections.live import LIVE
from projections.sessions import LIFETIME_MS as SESSION_LIFETIME_MS
from projections.sessions import SESSIONS
from projections.statistics import KNOWN_LIFETIME_MS, MINUTE_LIFETIME_MS, STATISTICS
from projections.summaries import LIFETIME_MS as SUMMARY_LIFETIME_MS
from projections.summaries import SUMMARIES


class Kind(Struct, frozen=True):
    """Keys that begin with `prefix`. They expire `lifetime_ms` after their last change; 0: never.

    `rule` names one of `lua/rebuild/swap.lua`, which says when a live key is kept; `with`: when the one before it is.
    """

    prefix: str
    lifetime_ms: int
    rule: str
    name: str = ""
    """What they are counted as; by default, what they begin with."""

    @property
    def counted(self) -> str:
        return self.name or self.prefix.removesuffix(":")


class Layout(Struct, frozen=True, kw_only=True):
    """The keys of a projection.

    Those of `together` change places in one moment. Of each of `groups`, those do that have the same name after their
    prefix; each key has all of its group. `members` are sorted sets by time, whose members change one by one.
    """

    groups: tuple[tuple[Kind, ...], ...]
    together: tuple[Kind, ...] = ()
    members: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (*self.together, *(kind for group in self.groups for kind in group))

    @property
    def counted(self) -> tuple[str, ...]:
        """What is counted when they are compared."""
        return (*(kind.counted for kind in self.kinds), *self.members)


LAYOUTS: dict[str, Layout] = {
    LIVE.name: Layout(
        groups=((Kind("live:", FEED_LIFETIME_MS, "feed"), Kind("live-state:", FEED_LIFETIME_MS, "with")),)
    ),
    SESSIONS.name: Layout(
        groups=(
            (Kind("session:", SESSION_LIFETIME_MS, "session"),),
            (Kind("sessions:", SESSION_LIFETIME_MS, "members", name="sessions:{tenant}"),),
        ),
        members=("sessions",),
    ),
    SUMMARIES.name: Layout(
        groups=(
            (
                Kind("summary:", SUMMARY_LIFETIME_MS, "summary"),
                Kind("summary-messages:", SUMMARY_LIFETIME_MS, "with"),
            ),
            (Kind("user:", SUMMARY_LIFETIME_MS, "members"),),
        )
    ),
    BUDGETS.name: Layout(groups=((Kind(SPENT_PREFIX, BUDGET_LIFETIME_MS, "minute"),),)),
    STATISTICS.name: Layout(
        together=(
            Kind("statistics:progress", 0, "rebuilt"),
            Kind("statistics:total", 0, "total"),
            Kind("statistics:minute:", MINUTE_LIFETIME_MS, "minute"),
        ),
        groups=((Kind("statistics:known:", KNOWN_LIFETIME_MS, "rebuilt"),),),
    ),
}

SHIFT_MS = 10_000 * DAY_MS
"""How much later than live keys those of a shadow expire: longer than a rebuild takes, and than any record is old."""
