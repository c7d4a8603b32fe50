"""Whether a record would be refused again: asked as the pipeline asks, before anything is sent."""

from collections.abc import Callable, Collection
from datetime import datetime

from agents.catalog import AgentsFileError
from headrace.dead_letters.errors import RefusedAgainError
from headrace.directory import read_known
from runtime.agent_files import read_catalog
from runtime.settings import Settings
from schemas.causation import plain_topic
from schemas.codec import decode_call_model, decode_call_tool, decode_session_event
from schemas.dead_letter import Cause
from schemas.directory import AgentApplied
from schemas.refusal import UNREADABLE, RefusedError, check_broadcast, check_command, check_tool_result
from schemas.topics import BROADCASTS, LLM_REQUESTS, SESSION_LOG, TOOL_CALLS, TOOL_RESULTS, USER_MESSAGES

DECODERS: dict[str, Callable[[bytes], object]] = {
    SESSION_LOG.name: decode_session_event,
    LLM_REQUESTS.name: decode_call_model,
    TOOL_CALLS.name: decode_call_tool,
}


def check_record(topic: str, key: bytes | None, value: bytes, now: datetime, agents: Collection[str]) -> None:
    """Look at a record as the processor of its topic would; what only a session's state can tell is not asked.

    Raises:
        RefusedError: it would be a dead letter.
    """
    name = plain_topic(topic)
    if name == USER_MESSAGES.name:
        check_command(value, key)
    elif name == TOOL_RESULTS.name:
        check_tool_result(value, key)
    elif name == BROADCASTS.name:
        audience = check_broadcast(value, now).audience
        unknown = sorted(set(audience) - set(agents)) if isinstance(audience, tuple) else []
        if unknown:
            raise RefusedError(Cause.NO_SUCH_AGENT, f"expected agents of {sorted(agents)}, got also {unknown}")
    else:
        try:
            DECODERS[name](value)
        except UNREADABLE as error:
            raise RefusedError(Cause.NOT_VALID, f"expected a record of {name}: {error}") from None


async def known_agents(settings: Settings) -> Collection[str]:
    """The names of the agents of these settings, and of those that were applied.

    Raises:
        RefusedAgainError: they cannot be read, and so nobody knows which broadcasts would be refused.
    """
    try:
        names = set(read_catalog(settings).agents)
    except (AgentsFileError, OSError) as error:
        raise RefusedAgainError(f"the agents of these settings cannot be read: {error}") from None
    for name, entry in (await read_known(settings)).standing().items():
        if isinstance(entry.record, AgentApplied):
            names.add(name)
        else:
            names.discard(name)
    return sorted(names)
