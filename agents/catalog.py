"""The agents that a pipeline serves, by name, and how they are declared in TOML."""

import tomllib
from bisect import bisect_right
from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec

from agents.spec import AgentSpec


class AgentsFileError(ValueError):
    """The agents cannot be read as they are declared; the message says where, what was expected and what came."""


class Applied(NamedTuple):
    """What `agent-specs` has at `offset`, under `key`, about one agent; None: it was removed."""

    offset: int
    spec: AgentSpec | None
    key: bytes = b""


class Catalog:
    """The agents of the files, and over them what was applied since, in the order of the offsets of `agent-specs`.

    Its past does not change: what it says as of an offset is the same however much was applied after that, so a turn
    keeps the agent that it began with, and a log that is folded again gives the same.

    `default` answers messages that name no agent, in sessions that have none.
    """

    def __init__(self, agents: Mapping[str, AgentSpec], default: str) -> None:
        if default not in agents:
            raise AgentsFileError(
                f"expected the default agent to be one of {sorted(agents)}, got `{default}`: "
                "name one of them, or add it"
            )
        self.files = agents
        self.default = default
        self.read_to = -1
        """How far `agent-specs` was read: the last offset."""
        self._history: dict[str, tuple[Applied, ...]] = {}

    @property
    def agents(self) -> Mapping[str, AgentSpec]:
        """The agents of now: those of the files in their order, then those that were applied."""
        return self.as_of(self.read_to)

    def as_of(self, offset: int) -> Mapping[str, AgentSpec]:
        """The agents that there were when `agent-specs` had been read up to `offset`; -1: those of the files."""
        found = {name: self.get(name, offset) for name in (*self.files, *self._history)}
        return {name: spec for name, spec in found.items() if spec is not None}

    def get(self, name: str, as_of: int | None = None) -> AgentSpec | None:
        """The agent of that name when `agent-specs` had been read up to `as_of` (-1: as in the files); None: now."""
        history = self.history(name)
        at = len(history) if as_of is None else bisect_right(history, as_of, key=lambda applied: applied.offset)
        return history[at - 1].spec if at else self.files.get(name)

    def apply(self, offset: int, name: str, spec: AgentSpec | None, key: bytes = b"") -> None:
        """`agent-specs` has at `offset` that `name` is `spec` from there on; None: that it is removed."""
        assert offset > self.read_to, "what is applied is applied in the order of its offsets"
        self._history[name] = (*self.history(name), Applied(offset, spec, key))
        self.read_to = offset

    def forget(self, key: bytes) -> None:
        """`agent-specs` has deleted what it had under `key`: no turn that began with it can be running any more."""
        for name, history in self._history.items():
            self._history[name] = tuple(applied for applied in history if applied.key != key)

    def reach(self, offset: int) -> None:
        """`agent-specs` has nothing more up to `offset`."""
        self.read_to = max(self.read_to, offset)

    def history(self, name: str) -> tuple[Applied, ...]:
        """What was applied about an agent, oldest first."""
        return self._history.get(name, ())

    def applied(self) -> tuple[str, ...]:
        """The agents about which something was applied, in the order in which that began."""
        return tuple(name for name, history in self._history.items() if history)


def check_asked(wanted: Mapping[str, AgentSpec], known: Collection[str]) -> None:
    """Whether all agents that patterns ask are `known`. A model that may ask one that is not goes on without it.

    Raises:
        AgentsFileError: one is not.
    """
    for name, spec in wanted.items():
        missing = [asked for asked in spec.asked if asked not in known] if spec.pattern is not None else []
        if missing:
            raise AgentsFileError(
                f"agent [{name}]: expected agents that exist in its `pattern`, got {', '.join(missing)}: add them, or "
                "correct the names"
            )


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
