"""Audit events: who did what through the gateway or with the `headrace` command, and how it ended.

What the pipeline itself does is not repeated here: its facts are on `session-log`, its refusals on `dead-letters`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Struct


class Act(StrEnum):
    """What is audited. A record has it as plain text, so that old readers can read acts that they do not know."""

    COMMAND_SENT = "command_sent"
    AUTHENTICATION_FAILED = "authentication_failed"
    FORBIDDEN = "forbidden"
    KEY_CREATED = "key_created"
    KEY_REVOKED = "key_revoked"
    DEAD_LETTER_REPLAYED = "dead_letter_replayed"
    AGENT_APPLIED = "agent_applied"
    AGENT_REMOVED = "agent_removed"


class Outcome(StrEnum):
    """How an act ended: it was done, was not allowed, or was tried without success."""

    SUCCESS = "success"
    DENIED = "denied"
    FAILED = "failed"


class AuditEvent(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="audit_event"):
    """Somebody did something, or was not let. Drop an `id` that was seen: events may be repeated.

    `command_sent` has the `command_id` in its details, by which it is joined with the fact that the command became on
    `session-log` (`message_id` of `message_accepted`, `command_id` of the others).
    """

    id: Annotated[str, msgspec.Meta(description="Identifies the act; one that is published again has the same.")]
    at: Annotated[datetime, msgspec.Meta(description="When it was done, from the clock of whoever wrote it.")]
    event_type: Annotated[
        str, msgspec.Meta(description=f"What was done: {', '.join(f'`{act}`' for act in Act)}; more may come.")
    ]
    outcome: Annotated[Outcome, msgspec.Meta(description="How it ended.")]
    outcome_details: Annotated[
        str, msgspec.Meta(description="Why it was denied or failed; empty where it succeeded.")
    ] = ""
    user_id: Annotated[
        str | None, msgspec.Meta(description="For whom: the `user_id` of the command, or who ran `headrace`.")
    ] = None
    session_id: Annotated[str | None, msgspec.Meta(description="The session that it was done to.")] = None
    tenant: Annotated[str | None, msgspec.Meta(description="The tenant of the API key; none: an operator's.")] = None
    ip_address: Annotated[str | None, msgspec.Meta(description="Where the request came from: IPv4 or IPv6.")] = None
    key_id: Annotated[str | None, msgspec.Meta(description="The id of the API key: not its secret.")] = None
    details: Annotated[
        dict[str, Any], msgspec.Meta(description="What else there is to say, by name; never secrets or what was said.")
    ] = {}


def audit_key(event: AuditEvent) -> bytes | None:
    """The key of the event's record: acts on one session, or with one API key, keep their order."""
    by = event.session_id or event.key_id
    return None if by is None else by.encode()
