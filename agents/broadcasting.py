"""Agents that address many others at once: the call of `broadcast` becomes a session that gathers what they reply."""

from collections.abc import Collection, Iterator
from datetime import timedelta
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agents.accounts import share, wait_for_bill
from agents.asks import ask_depth, over_limit
from agents.audience import reached
from agents.draft import Draft
from agents.results import Result, take_result, turn_down
from agents.session import CallKind, PendingCall
from agents.spec import BROADCAST_TOOL, AgentSpec
from schemas.asks import AskedBy
from schemas.content import TextBlock
from schemas.events import ToolCalled
from schemas.gather import (
    DEFAULT_DEADLINE_SECONDS,
    MAX_DEADLINE_SECONDS,
    MAX_GATHERED_AGENTS,
    MAX_HOPS,
    Audience,
    AudienceOf,
    Gather,
    Quorum,
    call_broadcast_id,
    gathering_session_id,
    sender_session_id,
)
from schemas.ids import AgentName, Capability, tenant_of_session
from schemas.log import BroadcastAccepted

GRACE = timedelta(minutes=1)
"""A gathering that ends at its deadline says so itself, unless its worker is down; then the call ends so much later."""
SHOWN_AGENTS = 50
"""As many as a model needs to see to name another one."""


class Wanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of the tool."""

    message: Annotated[str, msgspec.Meta(min_length=1, description="What to say, with all that they must know.")]
    agents: Annotated[
        tuple[AgentName, ...], msgspec.Meta(description="The agents that get it; left out or empty: all that may.")
    ] = ()
    capability: Annotated[Capability | None, msgspec.Meta(description="Only agents that can do this.")] = None
    gather: Annotated[
        Literal["all", "first", "none"],
        msgspec.Meta(description="Wait for the replies of all, for the first answer, or for none."),
    ] = "all"
    quorum: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=MAX_GATHERED_AGENTS)] | None,
        msgspec.Meta(description="Wait for so many answers instead."),
    ] = None
    deadline_seconds: Annotated[
        int,
        msgspec.Meta(ge=1, le=MAX_DEADLINE_SECONDS, description="Wait no longer than this; go on with what there is."),
    ] = DEFAULT_DEADLINE_SECONDS

    def how(self) -> Gather:
        return self.gather if self.quorum is None else Quorum(quorum=self.quorum)


def _schema() -> dict[str, Any]:
    _, components = msgspec.json.schema_components([Wanted])
    schema: dict[str, Any] = components["Wanted"]
    return {name: value for name, value in schema.items() if name not in {"title", "description"}}


SCHEMA = _schema()


def definitions(spec: AgentSpec) -> Iterator[dict[str, Any]]:
    """The tool, as the model is told of it, where the agent may broadcast."""
    if spec.broadcasts:
        text = (
            f"Say the same to {_whom(spec)}, all at once, and wait for their replies. They see your message only, each "
            "in a conversation of its own."
        )
        yield {"name": BROADCAST_TOOL, "description": text, "input_schema": SCHEMA}


def _whom(spec: AgentSpec) -> str:
    match spec.broadcasts:
        case AudienceOf(capability=str(capability)):
            return f"other agents that can do `{capability}`"
        case tuple(names):
            return f"some or all of the agents {', '.join(names)}"
        case _:
            return "other agents"


def start_broadcast(draft: Draft, call: PendingCall, spec: AgentSpec) -> None:
    """Send the message on its way, within the limits of who sends it; where that cannot be, the call has its result."""
    turn = draft.turn
    tenant = tenant_of_session(draft.head.session_id, turn.tenant)
    try:
        wanted = msgspec.convert(call.input, Wanted)
    except msgspec.ValidationError as invalid:
        turn_down(draft, call, f"{invalid}: call it again as its description says")
        return
    may = _may_address(draft, spec, tenant)
    agents = tuple(name for name in may if _is_wanted(wanted, name, may[name]))
    error = _problem(draft, wanted, may, agents) or over_limit(draft, spec.limits, "a broadcast")
    if error:
        turn_down(draft, call, error)
        return
    broadcast_id = call_broadcast_id(draft.head.session_id, turn.number, call.step, tenant)
    seconds = min(wanted.deadline_seconds, spec.limits.ask_seconds)
    begun = replace(
        call,
        kind=CallKind.ASK,
        since=draft.at,
        child=gathering_session_id(broadcast_id),
        via=sender_session_id(spec.name, tenant),
        expires_at=draft.at + timedelta(seconds=seconds) + GRACE,
    )
    draft.exchange(call, begun)
    draft.set_turn(asks=turn.asks + 1)
    draft.publish(ToolCalled, call_id=call.call_id, tool=call.tool, input=call.input, child_session_id=begun.child)
    draft.facts.append(
        BroadcastAccepted(
            session_id=begun.via,
            broadcast_id=broadcast_id,
            content=(TextBlock(text=wanted.message),),
            gather=wanted.how(),
            deadline=draft.at + timedelta(seconds=seconds),
            at=draft.at,
            audience=agents,
            user_id=turn.user_id,
            tenant=tenant,
            traceparent=turn.traceparent,
            specs_offset=turn.specs_offset,
            hops=turn.hops,
            asked_by=share(
                AskedBy(session_id=draft.head.session_id, call_id=call.call_id, depth=ask_depth(turn)), turn
            ),
            sender=spec.name,
        )
    )
    if wanted.gather == "none" and wanted.quorum is None:
        wait_for_bill(draft, begun)
        take_result(draft, begun, Result(f"It is sent to {', '.join(agents)}; nobody waits for replies."))


def _may_address(draft: Draft, spec: AgentSpec, tenant: str | None) -> dict[str, AgentSpec]:
    """All that the agent may broadcast to, itself excepted."""
    there = draft.catalog.as_of(draft.turn.specs_offset)
    audience: Audience = "all" if isinstance(spec.broadcasts, bool) else spec.broadcasts
    return {name: there[name] for name in reached(there, audience, tenant).agents if name != spec.name}


def _is_wanted(wanted: Wanted, name: str, spec: AgentSpec) -> bool:
    if wanted.agents and name not in wanted.agents:
        return False
    return wanted.capability is None or wanted.capability in spec.capabilities


def _problem(draft: Draft, wanted: Wanted, may: Collection[str], agents: Collection[str]) -> str:
    """Why nothing is sent, as the model is told it; empty where nothing speaks against it."""
    stray = [name for name in wanted.agents if name not in may]
    if stray or not agents:
        got = ", ".join(stray) or f"none{f' that can do `{wanted.capability}`' if wanted.capability else ''}"
        known = ", ".join(islice(may, SHOWN_AGENTS)) or "none"
        return f"expected agents among {known}, got {got}: address some of them, or go on without"
    if len(agents) > MAX_GATHERED_AGENTS:
        return f"expected at most {MAX_GATHERED_AGENTS} agents, got {len(agents)}: name fewer, or a capability"
    if draft.turn.hops > MAX_HOPS:
        return f"expected at most {MAX_HOPS} broadcasts that lead to one another, got more: answer without a broadcast"
    return ""
