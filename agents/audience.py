"""Whom a broadcast reaches: pure, so that who routes it and who gathers its replies find the same."""

from collections.abc import Mapping
from typing import NamedTuple

from agents.spec import AgentSpec
from schemas.gather import Audience, AudienceOf


class Reached(NamedTuple):
    """The agents that get it, and the names of which there is no such agent, for this sender."""

    agents: tuple[str, ...]
    unknown: tuple[str, ...]


def visible(agents: Mapping[str, AgentSpec], tenant: str | None) -> tuple[str, ...]:
    """Everybody's agents, and the tenant's own: of the others nobody is told whether they exist."""
    return tuple(name for name, spec in agents.items() if spec.serves(tenant))


def reached(agents: Mapping[str, AgentSpec], audience: Audience, tenant: str | None) -> Reached:
    """The agents that a broadcast of `tenant` (None: nobody's) reaches, each once.

    Args:
        agents: all that there are, by name.
        audience: whom the broadcast is for.
        tenant: whose broadcast it is.
    """
    seen = visible(agents, tenant)
    if isinstance(audience, str):
        return Reached(seen, ())
    if isinstance(audience, AudienceOf):
        return Reached(tuple(name for name in seen if _fits(agents[name], audience)), ())
    known = frozenset(seen)
    wanted = tuple(dict.fromkeys(audience))
    return Reached(
        tuple(name for name in wanted if name in known), tuple(sorted(name for name in wanted if name not in known))
    )


def _fits(spec: AgentSpec, audience: AudienceOf) -> bool:
    if audience.capability is not None and audience.capability not in spec.capabilities:
        return False
    return audience.tenant is None or spec.tenant == audience.tenant


def each_share(budget_micros: int | None, agents: int) -> int | None:
    """What each of them may spend of a broadcast's budget; None: there is none."""
    return None if budget_micros is None else budget_micros // max(agents, 1)
