"""A bug of the core: some events of the log cannot be handled, in any worker, however often it tries."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from agents import reducer
from agents.catalog import Catalog
from agents.draft import Step
from agents.session import Session
from schemas.content import text_of
from schemas.log import MessageAccepted, ModelCompleted, SessionEvent, ToolCompleted

BUG = "bug"
"""In a message, an answer or a tool's result: what the core cannot handle."""


class PlantedBugError(Exception):
    """What the core raises."""


def planted() -> AbstractContextManager[Any]:
    """A context in which the core has the bug."""
    return patch("agents.handle.reduce", _reduce)


def _reduce(catalog: Catalog, session: Session | None, event: SessionEvent, offset: int) -> Step:
    if _has_bug(event) and (session is None or offset > session.head.log_offset):
        raise PlantedBugError("planted")
    return reducer.reduce(catalog, session, event, offset)


def _has_bug(event: SessionEvent) -> bool:
    match event:
        case MessageAccepted() | ModelCompleted():
            return BUG in text_of(event.content)
        case ToolCompleted():
            return BUG in event.content
        case _:
            return False
