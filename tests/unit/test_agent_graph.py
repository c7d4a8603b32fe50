"""Pictures of agents: the page about patterns has those of the examples as they are."""

from pathlib import Path

import pytest

from agents.catalog import check_asked, parse_agents
from headrace.agent_graph import Edge, Node, as_mermaid, draw

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = parse_agents((ROOT / "examples" / "patterns.toml").read_text(), "patterns.toml")
SHOWN = ("article", "reception", "review", "jury", "polish", "explorer", "orchestrator", "assistant")


@pytest.mark.parametrize("name", SHOWN)
def test_the_page_has_the_picture_of_each_example(name: str) -> None:
    """As `headrace agents graph` draws it."""
    assert f"```mermaid\n{as_mermaid(draw(name, EXAMPLES.get))}\n```" in (ROOT / "docs" / "patterns.md").read_text()


def test_the_examples_ask_agents_that_exist() -> None:
    """A worker that starts with them alone serves them."""
    check_asked(EXAMPLES, EXAMPLES)


def test_agents_that_ask_each_other_are_drawn_once() -> None:
    """An agent that does not exist is drawn as missing; quotes do not end a label."""
    agents = parse_agents(
        '[a]\ninstructions = "x"\nagents = ["b", "gone"]\nhandoffs = ["b"]\n'
        '[b.pattern]\ntype = "chain"\nsteps = [{agent = "a", gate = {contains = "\\"|"}}]',
        "test",
    )
    graph = draw("a", agents.get)
    assert graph.nodes == (
        Node(name="a", kind="agent"),
        Node(name="b", kind="chain"),
        Node(name="gone", kind="missing"),
    )
    assert graph.edges[2:] == (
        Edge(source="a", target="b", label="may hand over to"),
        Edge(source="b", target="a", label='step 1, gate: "|'),
    )
    assert 'n1 -->|"step 1, gate: #34;#124;"| n0' in as_mermaid(graph)
