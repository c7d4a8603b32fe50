"""The directory as a table of what workers announce: who expires, who leaves, and who is found by whom."""

from datetime import timedelta
from typing import Any

from histories import NOW

from agents.directory import FORGOTTEN_AFTER, Directory
from agents.tools import Tool, Toolbox, ToolContext, ToolReturn
from agents.tools.find_agents import MAX_FOUND, find_agents_tool
from schemas.codec import encode
from schemas.directory import AgentAnnounced, announcement_key

TTL = timedelta(seconds=30)


def announce(directory: Directory, agent: str, worker: str = "w1", seconds: float = 0, **fields: Any) -> None:
    """The worker says `seconds` after NOW that it serves the agent."""
    at = NOW + timedelta(seconds=seconds)
    defaults: dict[str, Any] = {"version": "v1", "model": "m", "since": at, "at": at, "expires_at": at + TTL}
    announced = AgentAnnounced(agent=agent, worker=worker, **{**defaults, **fields})
    directory.take(announcement_key(agent, worker), encode(announced))


def names(directory: Directory, seconds: float = 0, **asked: Any) -> list[str]:
    return [agent.name for agent in directory.find(NOW + timedelta(seconds=seconds), **asked)]


def test_who_falls_silent_expires() -> None:
    """One of two workers goes on announcing; what the other served alone is gone."""
    directory = Directory()
    announce(directory, "shared", "w1")
    announce(directory, "shared", "w2")
    announce(directory, "alone", "w2")
    announce(directory, "shared", "w1", seconds=20)
    assert {agent.name: agent.workers for agent in directory.agents(NOW + timedelta(seconds=29))} == {
        "alone": ("w2",),
        "shared": ("w1", "w2"),
    }
    assert {agent.name: agent.workers for agent in directory.agents(NOW + timedelta(seconds=30))} == {"shared": ("w1",)}
    assert directory.agents(NOW + timedelta(seconds=50)) == []


def test_who_says_goodbye_is_gone_at_once() -> None:
    """A tombstone takes one worker out, and leaves the others."""
    directory = Directory()
    announce(directory, "a", "w1")
    announce(directory, "a", "w2")
    directory.take(announcement_key("a", "w1"), None)
    (agent,) = directory.agents(NOW)
    assert agent.workers == ("w2",)


def test_what_is_long_expired_leaves_the_memory() -> None:
    """Workers without a name come and go under ever new ones."""
    directory = Directory()
    for number in range(5):
        announce(directory, "a", f"w{number}", seconds=number)
    announce(directory, "a", "last", seconds=FORGOTTEN_AFTER.total_seconds() + 32)
    assert {one.worker for one in directory.announced(NOW)} == {"w2", "w3", "w4", "last"}


def test_while_a_version_spreads_the_newest_counts() -> None:
    """The load is of all workers; who still serves another version is told."""
    directory = Directory()
    announce(directory, "a", "w1", version="v2", since=NOW - timedelta(seconds=5), description="new", calls_in_flight=2)
    announce(
        directory, "a", "w2", version="v1", since=NOW - timedelta(seconds=90), description="old", calls_in_flight=3
    )
    announce(directory, "a", "w3", version="v2", since=NOW - timedelta(seconds=1), description="new", calls_in_flight=0)
    (agent,) = directory.agents(NOW)
    assert (agent.version, agent.description, agent.other_versions) == ("v2", "new", ("v1",))
    assert (agent.calls_in_flight, agent.since) == (5, NOW - timedelta(seconds=5))


def test_agents_are_found_by_words_capability_and_tenant() -> None:
    """Best matches first; nobody finds another tenant's agents."""
    directory = Directory()
    announce(directory, "translator", description="Translates legal texts", capabilities=("translation", "law"))
    announce(directory, "lawyer", description="Answers questions about law", capabilities=("law",))
    announce(directory, "private", description="law of acme", tenant="acme")
    assert names(directory) == ["lawyer", "translator"]
    assert names(directory, query="law translates") == ["translator", "lawyer"]
    assert names(directory, query="cooking") == []
    assert names(directory, capability="translation") == ["translator"]
    assert names(directory, query="law", tenant="acme") == ["lawyer", "private", "translator"]
    assert names(directory, query="law", tenant="other") == ["lawyer", "translator"]
    assert names(directory, seconds=30) == []


def test_what_is_no_announcement_is_left_alone() -> None:
    """The topic is readable by every version, and by people."""
    directory = Directory()
    announce(directory, "a")
    misplaced = AgentAnnounced(agent="b", worker="w1", version="v", model="m", since=NOW, at=NOW, expires_at=NOW + TTL)
    for key, value in (
        (None, b"{}"),
        (b"a@w1", encode(misplaced)),
        (b"a@w1", b"[]"),
        (b"a@w1", b"\xff"),
        (b"x", b'{"type": "other"}'),
    ):
        directory.take(key, value)
    assert names(directory) == ["a"]


async def ask(tool: Tool, session_id: str = "s1", tenant: str | None = None, **given: str) -> str:
    """What the model gets."""
    context = ToolContext(call_id="c", session_id=session_id, agent="asker", tenant=tenant)
    outcome = await Toolbox([tool]).run("find_agents", given, context=context, timeout_s=5)
    assert isinstance(outcome, ToolReturn), outcome
    return outcome.content


async def test_a_model_looks_the_directory_up() -> None:
    """It is told of others: not of itself, not of another tenant's, and of no more than it can read."""
    directory = Directory()
    tool = find_agents_tool(directory, clock=lambda: NOW)
    assert await ask(tool) == '{"agents":[],"more":0}'
    announce(directory, "asker")
    announce(directory, "helper", description="Helps.", capabilities=("help",), input_schema={"type": "string"})
    announce(directory, "theirs", tenant="acme")
    assert await ask(tool, tenant="other") == (
        '{"agents":[{"name":"helper","description":"Helps.","capabilities":["help"],'
        '"input_schema":{"type":"string"}}],"more":0}'
    )
    assert "theirs" in await ask(tool, tenant="acme")
    assert "theirs" in await ask(tool, "acme:s1")
    assert "theirs" not in await ask(tool, "other:s1", tenant="acme"), "whose session it is says its id"
    assert await ask(tool, capability="cooking") == '{"agents":[],"more":0}'
    for number in range(MAX_FOUND + 4):
        announce(directory, f"many-{number}")
    assert (await ask(tool, query="many")).endswith('"more":4}')
