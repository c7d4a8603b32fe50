"""An agent and those that it asks, as a graph: Mermaid text, or nodes and edges. Pure."""

from collections.abc import Callable, Iterator
from typing import assert_never

from msgspec import Struct

from agents.patterns import Chain, Evaluate, Loop, Parallel, Pattern, Route, Vote
from agents.spec import AgentSpec, addressed_by_name


class Edge(Struct, frozen=True, kw_only=True):
    """What goes from one node to another; an agent of the name, or one of its steps."""

    source: str
    target: str
    label: str = ""


class Node(Struct, frozen=True, kw_only=True):
    """`kind` is the pattern, `agent` for one that calls a model, `answer`, or `missing` for an agent that is none."""

    name: str
    kind: str


class Graph(Struct, frozen=True, kw_only=True):
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def draw(name: str, spec_of: Callable[[str], AgentSpec | None]) -> Graph:
    """The graph of an agent, and of all agents that it may come to ask."""
    edges: list[Edge] = []
    kinds: dict[str, str] = {}
    waiting = [name]
    while waiting:
        agent = waiting.pop(0)
        if agent in kinds:
            continue
        spec = spec_of(agent)
        kinds[agent] = "missing" if spec is None else kind_of(spec)
        if spec is not None:
            edges += _edges(spec)
            waiting += [*spec.asked, *spec.handoffs, *addressed_by_name(spec)]
    nodes = tuple(Node(name=agent, kind=kind) for agent, kind in kinds.items())
    return Graph(nodes=nodes, edges=tuple(edges))


def kind_of(spec: AgentSpec) -> str:
    """The type of its pattern, as its file says it; else `agent`."""
    return "agent" if spec.pattern is None else str(spec.pattern.__struct_config__.tag)


def _edges(spec: AgentSpec) -> Iterator[Edge]:
    if spec.pattern is not None:
        yield from _pattern_edges(spec.name, spec.pattern)
    for asked in spec.agents:
        yield Edge(source=spec.name, target=asked, label="may ask")
    for other in spec.handoffs:
        yield Edge(source=spec.name, target=other, label="may hand over to")
    for addressed in addressed_by_name(spec):
        yield Edge(source=spec.name, target=addressed, label="may broadcast to")


def _pattern_edges(name: str, pattern: Pattern) -> Iterator[Edge]:
    match pattern:
        case Chain():
            for number, step in enumerate(pattern.all_steps, 1):
                gate = f", gate: {step.gate.matches or step.gate.contains}" if step.gate else ""
                yield Edge(source=name, target=step.agent, label=f"step {number}{gate}")
        case Route():
            yield Edge(source=name, target=pattern.classifier, label="classify")
            for word, agent in pattern.routes.items():
                yield Edge(source=name, target=agent, label=f"if {word}")
            if pattern.default is not None:
                yield Edge(source=name, target=pattern.default, label="else")
        case Parallel():
            for agent in pattern.sections:
                yield Edge(source=name, target=agent, label="at once")
            if pattern.join is not None:
                yield Edge(source=name, target=pattern.join, label="join")
        case Vote():
            yield Edge(source=name, target=pattern.agent, label=f"{pattern.votes} votes")
            if pattern.judge is not None:
                yield Edge(source=name, target=pattern.judge, label="if equal")
        case Evaluate():
            yield Edge(source=name, target=pattern.generator, label=f"generate, at most {pattern.max_rounds} times")
            yield Edge(source=name, target=pattern.evaluator, label=f"evaluate, until {pattern.accept}")
        case Loop():
            yield Edge(
                source=name, target=pattern.agent, label=f"until {pattern.stop}, at most {pattern.max_rounds} times"
            )
        case _:
            assert_never(pattern)


def as_mermaid(graph: Graph) -> str:
    """The graph as Mermaid text, which Markdown pages show as a picture."""
    ids = {node.name: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    for node in graph.nodes:
        kind = "" if node.kind == "agent" else f"<br/><i>{node.kind}</i>"
        opening, closing = ("[", "]") if node.kind == "agent" else ("([", "])")
        lines.append(f'    {ids[node.name]}{opening}"{_quoted(node.name)}{kind}"{closing}')
    lines += [f'    {ids[edge.source]} -->|"{_quoted(edge.label)}"| {ids[edge.target]}' for edge in graph.edges]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """As Mermaid takes any character inside quotes."""
    special = '"#<>&|`\\\n'
    return "".join(f"#{ord(letter)};" if letter in special else letter for letter in text)
