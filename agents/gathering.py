"""A session that gathers the replies to a broadcast: it has no model, and asks each agent that the broadcast is for.

With `first` and `quorum`, answers count, and failures do not; when there are enough, or the time is over, the others
are cancelled: nobody needs them, so nobody pays for them. With `all`, every end counts, and the deadline cancels
nobody. What comes after the end is recorded as late.
"""

from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from agents.accounts import rest_of_bill
from agents.audience import each_share, reached
from agents.draft import Draft
from agents.endings import turn_away
from agents.failures import gathers, id_in_use, nothing_here
from agents.gathered import told_together
from agents.session import Gathering, ToolResultEntry, UserEntry
from schemas.asks import AskedBy
from schemas.content import TextBlock
from schemas.events import BroadcastCompleted, BroadcastDelivered, BroadcastReplied
from schemas.gather import GATHERER, MAX_GATHERED_AGENTS, Gather, GatheredReply, Quorum, WhyOver, reply_session_id
from schemas.ids import BROADCAST_ID, call_id, turn_id
from schemas.log import (
    ApprovalDecided,
    BroadcastAccepted,
    CancelRequested,
    ChildEnded,
    MessageAccepted,
    SessionEndRequested,
    SessionEvent,
    TimerFired,
)

TURN = 1
"""Its replies are its only turn."""


def begin_gathering(draft: Draft, event: BroadcastAccepted) -> None:
    """Give the broadcast to each agent that it is for. One that was routed again changes nothing."""
    if is_for_late_joiners(event):
        _join(draft, event)
        return
    if draft.head.gathering is not None:
        if draft.head.gathering.broadcast_id != event.broadcast_id:
            _refuse(draft, event)
        return
    if draft.head.turns or draft.head.quarantined is not None or draft.head.ended_at is not None:
        _refuse(draft, event)
        return
    found = reached(draft.catalog.as_of(event.specs_offset), event.audience, event.tenant)
    agents, beyond = found.agents[:MAX_GATHERED_AGENTS], found.agents[MAX_GATHERED_AGENTS:]
    gathering = Gathering(
        broadcast_id=event.broadcast_id,
        agents=agents,
        waiting=agents,
        missing=(*beyond, *found.unknown),
        needed=_needed(event.gather, len(agents)),
        wants_all=event.gather in {"all", "none"},
        deadline=event.deadline,
        reply_to=event.reply_to,
        user_id=event.user_id,
        tenant=event.tenant,
        traceparent=event.traceparent,
        specs_offset=event.specs_offset,
        asked_by=event.asked_by,
        hops=event.hops,
    )
    draft.set(gathering=gathering, turns=TURN)
    draft.append(UserEntry(turn=TURN, message_id=event.broadcast_id, content=event.content))
    limit = _share(event, len(agents))
    budget_micros = each_share(event.budget_micros, len(agents))
    for number, agent in enumerate(agents, 1):
        _deliver(draft, event, agent, replace(_asked_by(draft, number, _depth(event)), **limit), budget_micros)
    _end_if_enough(draft)


def is_for_late_joiners(event: SessionEvent) -> bool:
    """Whether it begins nothing: what was not routed is not told again."""
    return isinstance(event, BroadcastAccepted) and event.for_late_joiners


def _join(draft: Draft, event: BroadcastAccepted) -> None:
    """Give the broadcast to agents that came later. Where the gathering has ended, nobody waits for what they say."""
    gathering = draft.head.gathering
    if gathering is None or gathering.broadcast_id != event.broadcast_id:
        return
    found = reached(draft.catalog.as_of(event.specs_offset), event.audience, event.tenant).agents
    new = tuple(agent for agent in found if agent not in gathering.agents)
    new = new[: MAX_GATHERED_AGENTS - len(gathering.agents)]
    agents, is_open = (*gathering.agents, *new), gathering.is_open
    draft.set(
        gathering=replace(
            gathering,
            agents=agents,
            waiting=(*gathering.waiting, *new) if is_open else gathering.waiting,
            missing=tuple(name for name in gathering.missing if name not in new),
            needed=gathering.needed + (len(new) if gathering.wants_all else 0),
        )
    )
    share = each_share(event.budget_micros, len(agents))
    for agent in new:
        number = agents.index(agent) + 1
        asked_by = _asked_by(draft, number, _depth(event)) if is_open else None
        _deliver(draft, event, agent, asked_by, share)


def _refuse(draft: Draft, event: BroadcastAccepted) -> None:
    draft.refusal = id_in_use(event)
    if event.asked_by is not None:
        _answer(draft, event.asked_by, call_id=event.asked_by.call_id, content=draft.refusal.error, is_error=True)


def _needed(gather: Gather, agents: int) -> int:
    if isinstance(gather, Quorum):
        return gather.quorum
    return {"none": 0, "first": 1, "all": agents}[gather]


def _depth(event: BroadcastAccepted) -> int:
    return max(event.hops + 1, event.asked_by.depth if event.asked_by else 0)


def _share(event: BroadcastAccepted, agents: int) -> dict[str, int]:
    """What each agent may take of what there is for all of them."""
    if event.asked_by is None or not agents:
        return {}
    whole = {name: getattr(event.asked_by, name) for name in ("budget_micros", "budget_tokens", "budget_calls")}
    return {name: amount // agents for name, amount in whole.items() if not isinstance(amount, UnsetType)}


def _deliver(
    draft: Draft, event: BroadcastAccepted, agent: str, asked_by: AskedBy | None, budget_micros: int | None
) -> None:
    child = reply_session_id(event.broadcast_id, agent)
    draft.facts.append(
        MessageAccepted(
            session_id=child,
            message_id=child,
            content=event.content,
            at=draft.at,
            sent_at=event.sent_at,
            agent=agent,
            user_id=event.user_id,
            tenant=event.tenant,
            metadata={**event.metadata, BROADCAST_ID: event.broadcast_id},
            traceparent=event.traceparent,
            specs_offset=event.specs_offset,
            asked_by=asked_by,
            hops=event.hops + 1,
            budget_micros=budget_micros,
        )
    )
    late = UNSET if asked_by is not None else True
    draft.publish_about(BroadcastDelivered, TURN, event.broadcast_id, agent, child_session_id=child, late=late)


def _asked_by(draft: Draft, number: int, depth: int) -> AskedBy:
    session_id = draft.head.session_id
    return AskedBy(session_id=session_id, call_id=call_id(turn_id(session_id, TURN), number), depth=depth)


def gathering_went_on(draft: Draft, event: SessionEvent) -> bool:
    """Follow what happens to a session that gathers; whether that was all there is to do."""
    match event:
        case ChildEnded():
            _replied(draft, event)
        case TimerFired():
            deadline = _gathering(draft).deadline
            if deadline is not None and event.due >= deadline:
                _end(draft, "deadline")
        case CancelRequested():
            _cancel(draft, event)
        case MessageAccepted():
            if not draft.before.knows(event.message_id):
                turn_away(draft, event, gathers(event.session_id))
        case SessionEndRequested():
            if _gathering(draft).is_open:
                _end(draft, "cancelled")
            return False
        case ApprovalDecided():
            draft.refusal = nothing_here(event)
        case _:
            return False
    return True


def _gathering(draft: Draft) -> Gathering:
    assert draft.head.gathering is not None, "the session gathers nothing"
    return draft.head.gathering


def _replied(draft: Draft, event: ChildEnded) -> None:
    gathering = _gathering(draft)
    agent = next((a for a in gathering.waiting if _is_of(draft, gathering, a, event)), None)
    if agent is None:
        return
    is_open = gathering.is_open
    counts = gathering.wants_all or not event.is_error
    is_counted = is_open or gathering.asked_by is not None
    draft.set(
        gathering=replace(
            gathering,
            waiting=tuple(other for other in gathering.waiting if other != agent),
            counted=gathering.counted + int(is_open and counts),
            tokens=gathering.tokens + (event.tokens if is_counted else 0),
            cost_micros=gathering.cost_micros + (event.cost_micros if is_counted else 0),
            calls=gathering.calls + (event.calls if is_counted else 0),
        )
    )
    if is_open:
        draft.append(ToolResultEntry(turn=TURN, tool_use_id=agent, content=event.content, is_error=event.is_error))
    draft.publish_about(
        BroadcastReplied,
        TURN,
        gathering.broadcast_id,
        agent,
        child_session_id=event.child_session_id,
        content=event.content,
        is_error=event.is_error,
        late=not is_open,
    )
    if is_open:
        _end_if_enough(draft)
    elif not _gathering(draft).waiting:
        _tell_asker(draft, "", is_error=False)


def _is_of(draft: Draft, gathering: Gathering, agent: str, event: ChildEnded) -> bool:
    number = gathering.agents.index(agent) + 1
    return (
        event.child_session_id == reply_session_id(gathering.broadcast_id, agent)
        and event.call_id == _asked_by(draft, number, 0).call_id
    )


def _end_if_enough(draft: Draft) -> None:
    gathering = _gathering(draft)
    if gathering.agents and gathering.counted >= gathering.needed:
        _end(draft, "gathered")
    elif not gathering.waiting:
        _end(draft, "exhausted")


def _cancel(draft: Draft, event: CancelRequested) -> None:
    gathering = _gathering(draft)
    asker = gathering.asked_by
    mine = {None, gathering.broadcast_id, *(() if asker is None else (asker.call_id,))}
    if gathering.is_open and event.message_id in mine:
        _end(draft, "cancelled", event.reason, tells_asker=event.asked_by is None)
    elif event.asked_by is None:
        draft.refusal = nothing_here(event)


def _end(draft: Draft, reason: WhyOver, why: str = "", *, tells_asker: bool = True) -> None:
    """Tell what was gathered, and cancel the agents that nobody waits for any more.

    An asker that cancelled, or that waits for nothing, is told the costs when all agents have ended.
    """
    gathering = _gathering(draft)
    draft.set(gathering=replace(gathering, deadline=None))
    replies = tuple(
        GatheredReply(agent=entry.tool_use_id, content=entry.content, is_error=entry.is_error)
        for entry in draft.transcript
        if isinstance(entry, ToolResultEntry)
    )
    if reason == "cancelled" or not gathering.wants_all:
        for agent in gathering.waiting:
            _cancel_reply(draft, gathering, agent, why or f"the gathering has ended: {reason}")
    missing = (*gathering.waiting, *gathering.missing)
    told = told_together(gathering, replies, missing, reason)
    draft.publish_about(
        BroadcastCompleted,
        TURN,
        gathering.broadcast_id,
        GATHERER,
        reason=reason,
        replies=told.replies,
        missing=missing,
        cost_micros=gathering.cost_micros,
    )
    _tell_session(draft, gathering, told.text)
    if (tells_asker and gathering.needed) or not gathering.waiting:
        _tell_asker(draft, told.text, is_error=reason != "gathered" and not replies)


def _cancel_reply(draft: Draft, gathering: Gathering, agent: str, reason: str) -> None:
    child = reply_session_id(gathering.broadcast_id, agent)
    asked_by = _asked_by(draft, gathering.agents.index(agent) + 1, 0)
    draft.facts.append(
        CancelRequested(
            session_id=child,
            command_id=f"{asked_by.call_id}/cancel",
            at=draft.at,
            message_id=child,
            reason=reason,
            asked_by=asked_by,
        )
    )


def _tell_session(draft: Draft, gathering: Gathering, text: str) -> None:
    if gathering.reply_to is None:
        return
    draft.facts.append(
        MessageAccepted(
            session_id=gathering.reply_to,
            message_id=draft.head.session_id,
            content=(TextBlock(text=text),),
            at=draft.at,
            user_id=gathering.user_id,
            tenant=gathering.tenant,
            metadata={BROADCAST_ID: gathering.broadcast_id},
            traceparent=gathering.traceparent,
            specs_offset=gathering.specs_offset,
            hops=gathering.hops + 1,
        )
    )


def _tell_asker(draft: Draft, text: str, *, is_error: bool) -> None:
    """Tell what was gathered and its costs; and once more, for the costs only, when those that ran on have ended."""
    gathering = _gathering(draft)
    if gathering.asked_by is None:
        return
    draft.set(gathering=replace(gathering, is_told=True, tokens=0, cost_micros=0, calls=0))
    call_id = gathering.asked_by.call_id
    _answer(
        draft,
        gathering.asked_by,
        call_id=rest_of_bill(call_id) if gathering.is_told else call_id,
        content=text,
        is_error=is_error,
        tokens=gathering.tokens,
        cost_micros=gathering.cost_micros,
        calls=gathering.calls,
    )


def _answer(draft: Draft, asker: AskedBy, **told: Any) -> None:
    child = draft.head.session_id
    draft.facts.append(ChildEnded(session_id=asker.session_id, child_session_id=child, at=draft.at, **told))
