"""What of a feed this gateway cannot read, as a newer worker wrote it: each reader is told the rest."""

import msgspec
import structlog

from gateway.feeds import Entry
from gateway.metrics import Metrics

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)

log = structlog.get_logger(__name__)


def pass_over(metrics: Metrics, kind: str, entry: Entry, error: Exception) -> None:
    """Say that a reader of this kind does not get the entry."""
    metrics.entries_unreadable.labels(kind).inc()
    log.error("feed_entry_passed_over", kind=kind, position=str(entry.position), error=str(error))
