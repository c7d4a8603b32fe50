"""One fact of a session's log is handled, whatever it holds: also one that uncovers a bug of the reducer."""

from msgspec import Struct

from agents.catalog import Catalog
from agents.draft import Step
from agents.quarantine import quarantine
from agents.reducer import reduce
from agents.session import Session
from schemas.log import SessionEvent


class Handling(Struct, frozen=True):
    """What the fact leads to; `bug` is the exception of a reducer that could not handle it, and `cause` names it."""

    step: Step
    bug: Exception | None = None
    cause: str = ""


def handle(catalog: Catalog, session: Session | None, event: SessionEvent, offset: int, place: str) -> Handling:
    """Fold `event` into `session`, and set the session apart where that fails.

    Args:
        catalog: the agents.
        session: None where there is none yet.
        event: the fact.
        offset: where the partition of the session log has it.
        place: the same with topic and partition, as `{topic}/{partition}/{offset}`: it is part of a quarantine's cause.
    """
    try:
        return Handling(reduce(catalog, session, event, offset))
    except Exception as error:  # noqa: BLE001 - whatever the bug is, it must stop this session and no other one
        cause = f"{type(error).__name__} at {place}"
        step = quarantine(catalog, session, event, offset, cause)
        assert step.session is not None
        return Handling(step, error, step.session.head.quarantined or cause)
