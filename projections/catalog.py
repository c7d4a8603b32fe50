"""Every projection, by name."""

from projections.dead_letters import DEAD_LETTER_ARCHIVE
from projections.events import EVENTS
from projections.projection import Projection
from projections.usage import USAGE

PROJECTIONS: dict[str, Projection] = {
    projection.name: projection for projection in (EVENTS, USAGE, DEAD_LETTER_ARCHIVE)
}
