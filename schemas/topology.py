"""The table of processors: who reads and writes which topic."""

from msgspec import Struct

from schemas.topics import (
    AGENT_DELTAS,
    AGENT_EVENTS,
    BROADCASTS,
    LLM_REQUESTS,
    SESSION_LOG,
    TOOL_CALLS,
    TOOL_RESULTS,
    USER_MESSAGES,
    Topic,
)


class Node(Struct, frozen=True, kw_only=True):
    """A processor: its name, the topic that it reads, and those that it writes besides `dead-letters`."""

    name: str
    reads: Topic
    writes: tuple[Topic, ...]
    does: str


ROUTE_BROADCAST = Node(
    name="route_broadcast",
    reads=BROADCASTS,
    writes=(USER_MESSAGES, SESSION_LOG),
    does="one message for each addressed agent, or one session that gathers",
)
ACCEPT = Node(name="accept", reads=USER_MESSAGES, writes=(SESSION_LOG,), does="validates commands")
ACCEPT_RESULTS = Node(
    name="accept_results", reads=TOOL_RESULTS, writes=(SESSION_LOG,), does="validates results of remote tools"
)
DECIDE = Node(
    name="decide",
    reads=SESSION_LOG,
    writes=(LLM_REQUESTS, TOOL_CALLS, AGENT_EVENTS, SESSION_LOG),
    does="folds each session's log",
)
CALL_MODEL = Node(
    name="call_model", reads=LLM_REQUESTS, writes=(SESSION_LOG, AGENT_DELTAS), does="calls the model, streaming"
)
CALL_TOOL = Node(name="call_tool", reads=TOOL_CALLS, writes=(SESSION_LOG,), does="runs tools")
TOPOLOGY: tuple[Node, ...] = (ROUTE_BROADCAST, ACCEPT, ACCEPT_RESULTS, DECIDE, CALL_MODEL, CALL_TOOL)
