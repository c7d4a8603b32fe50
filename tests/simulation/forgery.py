"""Orders and outcomes that nothing of Headrace wrote: well formed, and of no call, or of one that is not so."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Protocol

from msgspec.structs import replace
from simulation.broker import Broker, Place
from simulation.invariants import Record

from schemas.codec import decode_call_model, decode_call_tool, decode_session_event, encode
from schemas.content import TextBlock
from schemas.effects import CallModel, CallTool, Effect
from schemas.events import ApprovalRequested
from schemas.log import ModelCompleted, SessionEvent, ToolCompleted, ToolStarted
from schemas.refusal import UNREADABLE
from schemas.topics import LLM_REQUESTS, SESSION_LOG, TOOL_CALLS, Topic
from schemas.usage import Usage

FAR = 1_000_000
NOBODY = "nobody"
Change = Callable[[Effect, int], Effect]


class Desk(Protocol):
    """What a forger has before them."""

    rng: Random
    broker: Broker
    act: dict[Place, int]
    """Where each partition was when what happens now began: what lies before is of sessions that are forgotten."""


CHANGES: Mapping[str, Change] = {
    "unknown session": lambda order, _: replace(order, session_id=NOBODY),
    "unknown call": lambda order, _: replace(order, call_id=f"{order.session_id}/90/1"),
    "call of a later turn": lambda order, end: replace(order, call_id=_later(order), log_offset=end + FAR),
    "call of a later turn, too early": lambda order, _: replace(order, call_id=_later(order)),
    "far beyond the log": lambda order, end: replace(order, log_offset=end + FAR),
    "beyond the log by one": lambda order, end: replace(order, log_offset=end),
    "a little beyond the log": lambda order, end: replace(order, log_offset=end + 2),
    "without time": lambda order, _: replace(order, timeout_ms=1),
    "another tool": lambda order, _: (
        replace(order, tool="add", input={"n": -1}) if isinstance(order, CallTool) else order
    ),
}


def forge_order(desk: Desk, asked: Sequence[ApprovalRequested]) -> str:
    """Write an order that was not given; `asked`: the approvals that were asked for."""
    rng, broker = desk.rng, desk.broker
    topic = rng.choice([LLM_REQUESTS, TOOL_CALLS])
    given = list(_given(desk, topic))
    if not given:
        return "nothing"
    order = rng.choice(given)
    said = rng.choice([*CHANGES, *(["not approved"] * 4)])
    end = broker.end((SESSION_LOG.name, broker.partition_of(order.session_id.encode())))
    if said != "not approved":
        order = CHANGES[said](order, end)
    elif asked and isinstance(order, CallTool):
        event = rng.choice(asked)
        order = replace(order, session_id=event.session_id, call_id=event.call_id, tool=event.tool)
    return f"{said}: {_write(desk, topic, order, order.call_id)}"


def forge_outcome(desk: Desk) -> str:
    """Write an outcome that nobody waits for: of an unknown call, once more of one that has its outcome, or a claim."""
    rng = desk.rng
    outcomes = list(_outcomes(desk))
    given = [*_given(desk, LLM_REQUESTS), *_given(desk, TOOL_CALLS)]
    if not outcomes or not given:
        return "nothing"
    session_id, call_id = rng.choice(outcomes)
    match rng.randrange(4):
        case 0:
            session_id = NOBODY
        case 1:
            call_id = f"{session_id}/90/1"
        case 2:
            order = rng.choice(given)
            at = desk.broker.now
            claim = ToolStarted(session_id=order.session_id, call_id=order.call_id, at=at)
            return f"claim: {_write(desk, SESSION_LOG, claim, f'{order.call_id}/forged')}"
        case _:
            pass
    make = _completed if rng.random() < 0.5 else _returned
    event: SessionEvent = make(desk, session_id, call_id)
    return f"outcome: {_write(desk, SESSION_LOG, event, f'{call_id}/forged')}"


def _completed(desk: Desk, session_id: str, call_id: str) -> ModelCompleted:
    return ModelCompleted(
        session_id=session_id,
        call_id=call_id,
        model="m",
        content=(TextBlock(text="forged"),),
        stop_reason="end_turn",
        usage=Usage(output_tokens=1_000),
        cost_micros=1_000,
        at=desk.broker.now,
    )


def _returned(desk: Desk, session_id: str, call_id: str) -> ToolCompleted:
    return ToolCompleted(session_id=session_id, call_id=call_id, content="forged", at=desk.broker.now)


def _write(desk: Desk, topic: Topic, record: Effect | SessionEvent, id: str) -> str:
    key = record.session_id.encode()
    place = topic.name, desk.broker.partition_of(key)
    offset = desk.broker.store(place, key, encode(record), [("ce_id", id.encode())])
    return f"{place[0]}/{place[1]}/{offset} {id}"


def _given(desk: Desk, topic: Topic) -> Iterator[Effect]:
    decode: Callable[[bytes], CallModel | CallTool] = decode_call_model if topic is LLM_REQUESTS else decode_call_tool
    for record in _records(desk, topic):
        try:
            yield decode(record.value or b"")
        except UNREADABLE:
            continue


def _outcomes(desk: Desk) -> Iterator[tuple[str, str]]:
    for record in _records(desk, SESSION_LOG):
        try:
            event = decode_session_event(record.value or b"")
        except UNREADABLE:
            continue
        if isinstance(event, ModelCompleted | ToolCompleted):
            yield event.session_id, event.call_id


def _records(desk: Desk, topic: Topic) -> Iterator[Record]:
    for place in desk.broker.places(topic.name):
        yield from desk.broker.logs[place][desk.act.get(place, 0) :]


def _later(order: Effect) -> str:
    session_id, turn, _ = order.call_id.rsplit("/", 2)
    return f"{session_id}/{int(turn) + 1}/1"
