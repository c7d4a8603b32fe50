"""The picture of the pipeline, drawn from the table of processors: it is in the README."""

from schemas.topics import DEAD_LETTERS, Access
from schemas.topology import TOPOLOGY, Node


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
