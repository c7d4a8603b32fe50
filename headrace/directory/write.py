"""Writes what was planned to `agent-specs`, and who did it to `audit-events`."""

import uuid
from datetime import UTC, datetime

from agents.applied import spec_fields
from headrace.audit import act_of_command, user_of_command, write_act
from headrace.connect import confirming, producer
from headrace.directory.errors import CorrectAgentsError
from headrace.directory.plan import Change, Plan
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.audit import Act
from schemas.codec import encode
from schemas.directory import AgentApplied, AgentRemoved, SpecRecord, spec_key
from schemas.topics import AGENT_SPECS, MAX_PUBLIC_IN_BYTES

MAX_SPEC_BYTES = 512 * 1024
"""Half of what the topic takes; instructions have at most 100,000 characters."""


async def carry_out(settings: Settings, plan: Plan) -> None:
    """Write the changes, in their order, and delete what is forgotten; returns when the brokers have all of it.

    Raises:
        CorrectAgentsError: an agent is too large. Nothing was written.
        StartBrokersError, TryAgainError: there are no brokers, or they did not take it.
    """
    now, by = datetime.now(UTC), user_of_command()
    records = [(change, _record(change, now, by)) for change in plan.changes if change.what != "unchanged"]
    for change, record in records:
        size = len(encode(record))
        if size > MAX_SPEC_BYTES:
            raise CorrectAgentsError(
                f"agent [{change.agent}]: expected at most {MAX_SPEC_BYTES} bytes as JSON, got {size}: say less"
            )
    topic = topic_name(settings, AGENT_SPECS)
    async with producer(settings, MAX_PUBLIC_IN_BYTES) as client:
        for change, record in records:
            key = spec_key(change.agent, change.version or "removed", uuid.uuid4().hex[:12])
            act = Act.AGENT_REMOVED if isinstance(record, AgentRemoved) else Act.AGENT_APPLIED
            said = act_of_command(act, agent=change.agent, version=change.version, before=change.before)
            async with confirming(settings):
                await client.send_and_wait(topic, encode(record), key=key, partition=0)
                await write_act(client, settings, said)
        for key in plan.forgotten:
            async with confirming(settings):
                await client.send_and_wait(topic, None, key=key, partition=0)


def _record(change: Change, now: datetime, by: str) -> SpecRecord:
    if change.spec is None:
        return AgentRemoved(agent=change.agent, at=now, by=by)
    assert change.version is not None
    return AgentApplied(agent=change.agent, version=change.version, spec=spec_fields(change.spec), at=now, by=by)
