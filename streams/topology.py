"""The table of processors: who reads and writes which topic. The picture in the README is drawn from it."""

from msgspec import Struct

from schemas.topics import (
    AGENT_DELTAS,
    AGENT_EVENTS,
    BROADCASTS,
    DEAD_LETTERS,
    LLM_REQUESTS,
    SESSION_LOG,
    TOOL_CALLS,
    USER_MESSAGES,
    Access,
    Topic,
)


class Node(Struct, frozen=True, kw_only=True):
    """A processor: its name, the topic that it reads, and those that it writes besides `dead-letters`."""

    name: str
    reads: Topic
    writes: tuple[Topic, ...]
    does: str


ROUTE_BROADCAST = Node(
    name="route_broadcast", reads=BROADCASTS, writes=(USER_MESSAGES,), does="one message for each addressed agent"
)
ACCEPT = Node(name="accept", reads=USER_MESSAGES, writes=(SESSION_LOG,), does="validates commands")
DECIDE = Node(
    name="decide", reads=SESSION_LOG, writes=(LLM_REQUESTS, TOOL_CALLS, AGENT_EVENTS), does="folds each session's log"
)
CALL_MODEL = Node(
    name="call_model", reads=LLM_REQUESTS, writes=(SESSION_LOG, AGENT_DELTAS), does="calls the model, streaming"
)
CALL_TOOL = Node(name="call_tool", reads=TOOL_CALLS, writes=(SESSION_LOG,), does="runs tools")
TOPOLOGY: tuple[Node, ...] = (ROUTE_BROADCAST, ACCEPT, DECIDE, CALL_MODEL, CALL_TOOL)


def mermaid(topology: tuple[Node, ...] = TOPOLOGY) -> str:
    """The flow as a Mermaid diagram: processors are boxes, topics are cylinders, public ones are bold."""
    topics = {topic.name: topic for node in topology for topic in (node.reads, *node.writes)}
    topics[DEAD_LETTERS.name] = DEAD_LETTERS
    lines = ["flowchart LR"]
    lines += [f"  {_id(name)}[({name})]" for name in topics]
    lines += [f'  {node.name}["{node.name}<br/><i>{node.does}</i>"]' for node in topology]
    for node in topology:
        lines.append(f"  {_id(node.reads.name)} --> {node.name}")
        lines += [f"  {node.name} --> {_id(topic.name)}" for topic in node.writes]
        lines.append(f"  {node.name} -. cannot be processed .-> {_id(DEAD_LETTERS.name)}")
    public = ",".join(_id(topic.name) for topic in topics.values() if topic.access != Access.INTERNAL)
    lines.append("  classDef public stroke-width:3px")
    lines.append(f"  class {public} public")
    return "\n".join(lines) + "\n"


def _id(topic: str) -> str:
    return topic.replace("-", "_")
