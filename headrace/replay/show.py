"""A replay as lines for people, and as objects for programs. The same log gives the same output, byte for byte."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, assert_never

import msgspec
from msgspec import Struct

from agents.prompt import Prompt, build_prompt
from agents.session import CallKind, Session
from headrace.replay.compare import Comparison, Difference
from headrace.replay.fold import Moment, digest
from headrace.replay.recording import About
from headrace.replay.summary import changes, summarise
from runtime.kafka import record_time
from schemas.codec import type_tag
from schemas.content import TextBlock
from schemas.effects import CallModel, CallTool, Effect
from schemas.events import (
    AgentEvent,
    ApprovalAnswered,
    ApprovalRequested,
    BroadcastCompleted,
    BroadcastDelivered,
    BroadcastReplied,
    BudgetExceeded,
    HandedOff,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    budget_of,
)
from schemas.log import MessageAccepted, ModelCompleted, ModelFailed, SessionEvent, ToolCompleted, ToolFailed

MAX_CHARACTERS = 160
"""Of what was said, on a line for a person."""


class Line(Struct, frozen=True):
    """One line for a person: its first words, with their colour, and the rest."""

    first: str
    style: str
    rest: str = ""


def as_object(moment: Moment) -> dict[str, Any]:
    """One fact for a program: the fact, what it changed, what it ordered and emitted, and the digest of the state."""
    shown: dict[str, Any] = {
        "offset": moment.fact.offset,
        "at": _time_of(moment),
        "fact": moment.event,
        "changed": changes(moment.before, moment.after),
        "orders": moment.step.effects,
        "emits": moment.step.events,
        "settles": moment.step.settled,
        "state": moment.digest,
    }
    if moment.refused is not None:
        shown["refused"] = moment.refused
    return shown if moment.is_folded else {**shown, "folded": False}


def as_lines(moment: Moment) -> Iterator[Line]:
    """One fact for a person."""
    event = moment.event
    kind = type_tag(event) if event is not None else "no fact"
    what = what_it_says(event) if event is not None else printable(moment.fact.body.decode(errors="replace"))
    yield Line(f"{moment.fact.offset:>8} {_time_of(moment):%Y-%m-%d %H:%M:%S.%f}"[:-3] + f" {kind}", "cyan", what)
    if not moment.is_folded:
        yield _part("not folded", "yellow", "it is from before the place where the log can be folded")
        return
    changed = changes(moment.before, moment.after)
    if "status" in changed:
        old, new = changed.pop("status")
        yield _part("status", "bold", f"{old} → {new}")
    if changed:
        yield _part(
            "changes", "dim", "; ".join(f"{name} {_value(o)} → {_value(n)}" for name, (o, n) in changed.items())
        )
    for order in moment.step.effects:
        yield _part("orders", "magenta", _order(order))
    for happened in moment.step.events:
        yield _part("emits", "green", f"seq {happened.seq} {type_tag(happened)} {_of_event(happened)}".rstrip())
    if moment.refused is not None:
        yield _part("refused", "red", printable(f"{moment.refused.cause}: {moment.refused.error}"))
    elif moment.event is not None and not (changes(moment.before, moment.after) or moment.step.events):
        yield _part("changes", "dim", "nothing: it was followed before, or nobody waits for it")


def _part(first: str, style: str, rest: str) -> Line:
    return Line(f"{'':>8} {first:<8}", style, rest)


def what_it_says(event: SessionEvent) -> str:
    """What of a fact is worth a line."""
    match event:
        case MessageAccepted():
            said = " ".join(b.text if isinstance(b, TextBlock) else f"[{type_tag(b)}]" for b in event.content)
            return f"{event.message_id} {printable(said)}"
        case ModelCompleted():
            blocks = [b.text if isinstance(b, TextBlock) else f"[{type_tag(b)}]" for b in event.content]
            return f"{event.call_id} {event.stop_reason} {printable(' '.join(blocks))}"
        case ToolCompleted():
            return f"{event.call_id} {printable(event.content)}"
        case ModelFailed() | ToolFailed():
            return f"{event.call_id} {event.failure.code}: {printable(event.failure.message)}"
        case _:
            fields = {k: v for k, v in msgspec.to_builtins(event).items() if k not in {"type", "session_id", "at"}}
            return printable(" ".join(f"{name}={value}" for name, value in fields.items()))


def _order(order: Effect) -> str:
    match order:
        case CallModel():
            return f"call_model {order.call_id} ({order.agent}, within {order.timeout_ms / 1000:g} s)"
        case CallTool():
            given = printable(msgspec.json.encode(order.input).decode())
            return f"call_tool {order.call_id} {order.tool} {given} (within {order.timeout_ms / 1000:g} s)"
        case _:
            assert_never(order)


def _of_event(event: AgentEvent) -> str:
    match event:
        case ToolCalled() | ApprovalRequested():
            said = f"{event.call_id} {event.tool}"
        case ToolReturned():
            said = f"{event.call_id} {'error: ' if event.is_error else ''}{printable(event.content)}"
        case ApprovalAnswered():
            by = f" by {event.by}" if event.by else ""
            said = f"{event.call_id} {event.decision}{by}, {event.remaining} more needed"
        case HandedOff():
            said = f"to {event.to_agent} {printable(event.reason)}"
        case BroadcastDelivered():
            said = f"to {event.agent} in {event.child_session_id}"
        case BroadcastReplied():
            late = "late " if event.late else ""
            said = f"{event.agent} {late}{'error: ' if event.is_error else ''}{printable(event.content)}"
        case BroadcastCompleted():
            said = f"{event.reason} {len(event.replies)} replies, missing: {', '.join(event.missing) or 'none'}"
        case BudgetExceeded():
            spent = f"{event.spent} of {event.limit} {event.unit}, {event.reserved} reserved"
            said = f"{budget_of(event)}: {spent}: {event.action}"
        case TurnCompleted():
            said = printable(event.text)
        case TurnFailed():
            said = f"{event.error.code}: {printable(event.error.message)}"
        case TurnCancelled():
            said = printable(event.reason)
        case _:
            said = event.turn_id
    return said


def state_object(about: About, session: Session | None) -> dict[str, Any]:
    """The whole state for a program, and the prompt of a model call that is pending."""
    return {
        "summary": summarise(session),
        "digest": digest(session),
        "head": session.head if session else None,
        "transcript": session.transcript if session else (),
        "prompt": pending_prompt(about, session),
    }


def state_lines(about: About, session: Session | None) -> Iterator[Line]:
    """The same for a person, in full."""
    for name, value in msgspec.structs.asdict(summarise(session)).items():
        yield Line(name, "cyan", _value(value))
    yield Line("digest", "cyan", digest(session))
    if session is None:
        return
    yield Line("head", "cyan", printable(_pretty(session.head), limit=None))
    for number, entry in enumerate(session.transcript):
        yield Line(f"entry {number}", "cyan", printable(_pretty(entry), limit=None))
    prompt = pending_prompt(about, session)
    if prompt is not None:
        yield Line("prompt of the pending model call", "cyan", printable(_pretty(prompt), limit=None))


def pending_prompt(about: About, session: Session | None) -> Prompt | None:
    """What the model gets in the call that is pending; None where none is, or its agent is not known.

    A tool that is not known here has its name and says so in its description.
    """
    turn = session.head.turn if session else None
    if session is None or turn is None or all(call.kind != CallKind.MODEL for call in turn.pending):
        return None
    spec = about.catalog().get(turn.agent, turn.specs_offset)
    if spec is None:
        return None
    unknown = "(this tool is not among the tools of these settings)"
    tools = [about.tools.get(name) or {"name": name, "description": unknown, "input_schema": {}} for name in spec.tools]
    return build_prompt(spec, tools, session)


def comparison_lines(comparison: Comparison) -> Iterator[Line]:
    """The differences for a person, and what was compared."""
    for difference in comparison.differences:
        yield from _difference(difference)
    counts = {name: getattr(comparison, name) for name in ("repeated", "removed", "undecided", "before")}
    words = {
        "repeated": "are on the topic more than once",
        "removed": "were removed from the topic by retention",
        "undecided": "were not decided yet when the topic was read",
        "before": "are from before the beginning of the fold",
    }
    yield Line(f"{comparison.same} events are the same", "bold", f"{len(comparison.differences)} differ")
    for name, count in counts.items():
        if count:
            yield Line(f"{count} events", "dim", words[name])


def _difference(difference: Difference) -> Iterator[Line]:
    places = [f"fact at offset {difference.fact}"] if difference.fact is not None else []
    places += [f"record at offset {difference.record}"] if difference.record is not None else []
    fields = f": {', '.join(difference.fields)}" if difference.fields else ""
    yield Line(f"{difference.kind} seq {difference.seq}", "red", f"({', '.join(places)}){fields}")
    for side, value in (("the fold", difference.folded), ("the topic", difference.found)):
        if value is not None:
            text = value if isinstance(value, str) else bytes(value).decode()
            yield Line(f"  {side}", "dim", printable(text, limit=None))


def printable(text: str, limit: int | None = MAX_CHARACTERS) -> str:
    """One line that does nothing to a terminal; where there is no limit, line breaks stay."""
    kept = "" if limit is not None else "\n"
    text = text if limit is None or len(text) <= limit else f"{text[:limit]}…"
    return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value)


def _time_of(moment: Moment) -> datetime:
    return record_time(moment.fact.timestamp_ms)
