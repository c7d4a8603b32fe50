"""The agents that a pipeline serves, by name."""

from collections.abc import Mapping

from msgspec import Struct

from agents.spec import AgentSpec


class Catalog(Struct, frozen=True):
    """`default` answers messages that name no agent in sessions that have none."""

    agents: Mapping[str, AgentSpec]
    default: str

    def __post_init__(self) -> None:
        if self.default not in self.agents:
            raise ValueError(
                f"expected the default agent to be one of {sorted(self.agents)}, got `{self.default}`: "
                "name one of them or add it"
            )

    def get(self, name: str) -> AgentSpec | None:
        return self.agents.get(name)
