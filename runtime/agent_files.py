"""Reads the agents that the settings name."""

from importlib import resources
from pathlib import Path

from agents.catalog import AgentsFileError, Catalog, check_asked, parse_agents
from agents.spec import AgentSpec
from runtime.settings import Settings

SHIPPED = "agents/shipped.toml"


def read_catalog(settings: Settings) -> Catalog:
    """The agents to serve; the first one is the default where the settings name none.

    Raises:
        AgentsFileError: a file cannot be read, or does not declare agents.
    """
    agents = read_agents(settings.agents)
    check_asked(agents, agents)
    return Catalog(agents, settings.default_agent or next(iter(agents)))


def read_agents(path: Path | None) -> dict[str, AgentSpec]:
    """The agents of a TOML file or of a folder of them, in their order; None: the shipped ones.

    Raises:
        AgentsFileError: a file cannot be read, or does not declare agents.
    """
    agents: dict[str, AgentSpec] = {}
    for source, text in _sources(path):
        for name, spec in parse_agents(text, source).items():
            if name in agents:
                raise AgentsFileError(f"{source}: expected each agent once, got [{name}] again: rename or remove one")
            agents[name] = spec
    return agents


def _sources(path: Path | None) -> list[tuple[str, str]]:
    if path is None:
        return [(SHIPPED, resources.files("agents").joinpath("shipped.toml").read_text(encoding="utf-8"))]
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        raise AgentsFileError(f"{path}: expected agents in *.toml files, got a folder without any")
    try:
        return [(str(file), file.read_text(encoding="utf-8")) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise AgentsFileError(f"{path}: cannot be read: {error}") from None
