"""The agents that a pipeline serves, by name, and how they are declared in TOML."""

import tomllib
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from agents.spec import AgentSpec


class AgentsFileError(ValueError):
    """The agents cannot be read as they are declared; the message says where, what was expected and what came."""


class Catalog(Struct, frozen=True):
    """`default` answers messages that name no agent, in sessions that have none."""

    agents: Mapping[str, AgentSpec]
    default: str

    def __post_init__(self) -> None:
        if self.default not in self.agents:
            raise AgentsFileError(
                f"expected the default agent to be one of {sorted(self.agents)}, got `{self.default}`: "
                "name one of them, or add it"
            )

    def get(self, name: str) -> AgentSpec | None:
        return self.agents.get(name)


def parse_agents(text: str, source: str) -> dict[str, AgentSpec]:
    """Agents from TOML: one table per agent, whose name is the table's; in the order of the file.

    Args:
        text: the TOML.
        source: where it is from, for the error.

    Raises:
        AgentsFileError: it is not TOML, or a table is not an agent.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AgentsFileError(f"{source}: expected TOML: {error}") from None
    if not tables:
        raise AgentsFileError(f"{source}: expected at least one agent, got none: add a table such as [assistant]")
    return {name: _parse_agent(name, table, source) for name, table in tables.items()}


def _parse_agent(name: str, table: object, source: str) -> AgentSpec:
    if not isinstance(table, dict):
        raise AgentsFileError(f"{source}: expected a table per agent, such as [{name}], got the value `{name}`")
    try:
        return msgspec.convert({**table, "name": name}, AgentSpec)
    except msgspec.ValidationError as error:
        fields = ", ".join(AgentSpec.__struct_fields__[1:])
        raise AgentsFileError(f"{source}, agent [{name}]: {error}. An agent has: {fields}") from None
