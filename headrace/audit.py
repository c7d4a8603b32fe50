"""Writes down what is done with the command `headrace`, by whom, on the topic that the gateway writes too."""

import getpass
import os
import uuid
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaProducer

from headrace.connect import confirming, producer
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.audit import Act, AuditEvent, Outcome, audit_key
from schemas.codec import cloud_event_headers, encode
from schemas.topics import AUDIT_EVENTS, MAX_PUBLIC_IN_BYTES

SOURCE = "/headrace/command"


def act_of_command(
    act: Act,
    *,
    outcome: Outcome = Outcome.SUCCESS,
    why: str = "",
    key_id: str | None = None,
    session_id: str | None = None,
    tenant: str | None = None,
    **details: Any,
) -> AuditEvent:
    """An act of whoever runs the command, now; `why` it was denied or failed."""
    return AuditEvent(
        id=uuid.uuid4().hex,
        at=datetime.now(UTC),
        event_type=act,
        outcome=outcome,
        outcome_details=why,
        user_id=user_of_command(),
        session_id=session_id,
        tenant=tenant,
        key_id=key_id,
        details={"by": "headrace", **details},
    )


async def audit(settings: Settings, event: AuditEvent) -> None:
    """Write the act; returns when the brokers have it.

    Raises:
        StartBrokersError: no broker answers.
        TryAgainError: they did not take it.
    """
    async with producer(settings, MAX_PUBLIC_IN_BYTES) as client, confirming(settings):
        await write_act(client, settings, event)


async def write_act(client: AIOKafkaProducer, settings: Settings, event: AuditEvent) -> None:
    """The same with a producer that is there."""
    key = audit_key(event)
    subject = event.id if key is None else key.decode()
    headers = cloud_event_headers(event, id=event.id, source=SOURCE, at=event.at, subject=subject)
    await client.send_and_wait(topic_name(settings, AUDIT_EVENTS), encode(event), key=key, headers=headers)


def user_of_command() -> str:
    """Who runs the command, as the machine calls them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        return str(os.getuid())
