"""Images that are sent to an agent with a pattern."""

from histories import NOW, History
from team import Team, ask

from agents.catalog import Catalog, parse_agents
from agents.session import UserEntry
from schemas.content import ImageBlock, TextBlock, UrlSource
from schemas.log import MessageAccepted

AGENTS = """
[p]
[p.pattern]
type = "chain"
steps = ["q", "lead"]
[q]
[q.pattern]
type = "chain"
steps = ["a", "b"]
[lead]
instructions = "Lead."
agents = ["c"]
[a]
instructions = "Help."
[b]
instructions = "Help."
[c]
instructions = "Help."
"""


def test_agents_see_the_images_of_the_message_also_where_patterns_ask_patterns() -> None:
    """A model that asks says in words what it has seen: its helper gets none."""
    world = Team(Catalog(parse_agents(AGENTS, "test"), "p"))
    image = ImageBlock(source=UrlSource(url="https://example.com/cat.png"))
    content = (TextBlock(text="What is it?"), image)
    world.hear(world.session("s1").feed(MessageAccepted(session_id="s1", message_id="m1", content=content, at=NOW)))
    world.deliver()
    for child, said in (("s1~1.2~1.2", "a cat"), ("s1~1.2~1.4", "a cat, then")):
        world.hear(world.session(child).model_says(said))
        world.deliver()
    world.hear(world.session("s1~1.4").model_says(ask(agent="c"), call_id="s1~1.4/1/1"))
    world.deliver()
    seen = {name: image in first_entry(child).content for name, child in world.sessions.items()}
    assert seen.pop("s1~1.4~1.2") is False
    assert len(seen) == 5
    assert all(seen.values())


def first_entry(history: History) -> UserEntry:
    assert history.session is not None
    entry = history.session.transcript[0]
    assert isinstance(entry, UserEntry)
    return entry
