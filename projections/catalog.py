"""Every projection, by name."""

from projections.audit_log import AUDIT_LOG
from projections.budgets import BUDGETS
from projections.dead_letters import DEAD_LETTER_ARCHIVE
from projections.events import EVENTS
from projections.live import LIVE
from projections.projection import Projection, TableProjection
from projections.sessions import SESSIONS
from projections.statistics import STATISTICS
from projections.summaries import SUMMARIES
from projections.usage import USAGE
from runtime.settings import Settings

TABLE_PROJECTIONS: dict[str, TableProjection] = {
    projection.name: projection for projection in (EVENTS, USAGE, DEAD_LETTER_ARCHIVE, AUDIT_LOG)
}
PROJECTIONS: dict[str, Projection] = TABLE_PROJECTIONS | {
    projection.name: projection for projection in (LIVE, SESSIONS, SUMMARIES, STATISTICS, BUDGETS)
}


def needed(settings: Settings) -> dict[str, Projection]:
    """All but that of shared budgets where none is declared: nobody would read it."""
    return {
        name: projection
        for name, projection in PROJECTIONS.items()
        if projection is not BUDGETS or settings.budgets is not None
    }
