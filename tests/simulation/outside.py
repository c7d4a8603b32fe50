"""What must hold of sessions with which something was wrong: forged and repeated records, bugs of the core."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from simulation.invariants import Record, Started, Topics, facts, fold, lives, place_of

from agents.catalog import Catalog
from schemas.codec import decode_call_model, decode_call_tool, decode_dead_letter
from schemas.dead_letter import Cause
from schemas.effects import CallModel, CallTool
from schemas.events import TurnCancelled, TurnCompleted, TurnFailed
from schemas.failure import FailureCode
from schemas.log import (
    MessageAccepted,
    ModelCompleted,
    ModelFailed,
    SessionReleaseRequested,
)
from schemas.refusal import UNREADABLE
from schemas.topics import DEAD_LETTERS, LLM_REQUESTS, SESSION_LOG, TOOL_CALLS
from schemas.usage import Usage


def check_orders(topics: Topics, catalog: Catalog, started: Iterable[Started]) -> None:
    """No call begins that the core did not order; an order that names no event of the log is in the dead letters."""
    given: defaultdict[str, list[tuple[int, str | None]]] = defaultdict(list)
    steps = fold(topics, catalog)[1]
    for record, _ in facts(topics):
        for order in steps[place_of(record)].effects:
            given[order.call_id].append((record.offset, order.tool if isinstance(order, CallTool) else None))
    for call in started:
        orders = given[call.call_id]
        is_given = any(offset < call.log_end and tool == call.tool for offset, tool in orders)
        assert is_given, f"{call} was not ordered: {orders}"
    ends: defaultdict[int, int] = defaultdict(int)
    for record in topics[SESSION_LOG.name]:
        ends[record.partition] = record.offset + 1
    buried = _buried(topics, Cause.NOT_IN_LOG)
    for record, order in _orders(topics):
        is_nobodys = order.log_offset >= ends[record.partition]
        assert not is_nobodys or place_of(record) in buried, f"{place_of(record)} waits for ever, and nobody was told"


def _orders(topics: Topics) -> Iterator[tuple[Record, CallModel | CallTool]]:
    for topic, decode in ((LLM_REQUESTS, decode_call_model), (TOOL_CALLS, decode_call_tool)):
        for record in topics[topic.name]:
            try:
                yield record, decode(record.value or b"")
            except UNREADABLE:
                continue


def _buried(topics: Topics, cause: Cause) -> set[str]:
    letters = (decode_dead_letter(record.value or b"") for record in topics[DEAD_LETTERS.name])
    return {letter.id for letter in letters if letter.cause == cause}


def check_usage(topics: Topics, catalog: Catalog) -> None:
    """A session has paid for each model call that it ordered once, as the first outcome in its log says."""
    sessions, steps = fold(topics, catalog)
    expired = lives(topics, catalog)
    bugs = _buried(topics, Cause.CORE_ERROR)
    open_calls: set[str] = set()
    paid: defaultdict[str, Usage] = defaultdict(Usage)
    for record, event in facts(topics):
        name = event.session_id
        if record.offset in expired.get(name, []):
            paid.pop(name, None)
            open_calls = {call_id for call_id in open_calls if not call_id.startswith(f"{name}/")}
        if isinstance(event, ModelCompleted | ModelFailed) and place_of(record) not in bugs:
            is_first = event.call_id in open_calls and event.call_id.startswith(f"{name}/")
            paid[name] += event.usage if is_first else Usage()
            open_calls -= {event.call_id} if is_first else set()
        open_calls |= {order.call_id for order in steps[place_of(record)].effects if isinstance(order, CallModel)}
    for name, session in sessions.items():
        if session is not None:
            assert session.head.usage == paid[name], f"{name} has paid {session.head.usage}, for {paid[name]}"


def check_quarantine(topics: Topics, catalog: Catalog) -> None:
    """A bug of the core fails what its session is asked until it is released, and nothing else, in no other session."""
    steps, expired = fold(topics, catalog)[1], lives(topics, catalog)
    bugs, refused = _buried(topics, Cause.CORE_ERROR), _buried(topics, Cause.NOT_QUARANTINED)
    walks: defaultdict[str, _Standing] = defaultdict(_Standing)
    for record, event in facts(topics):
        name, place = event.session_id, place_of(record)
        if record.offset in expired.get(name, []):
            del walks[name]
        standing = walks[name]
        if isinstance(event, MessageAccepted):
            standing.open.setdefault(event.message_id, standing.is_quarantined)
        elif isinstance(event, SessionReleaseRequested) and event.command_id not in standing.released:
            standing.released.add(event.command_id)
            standing.is_quarantined &= place in refused
        session = steps[place].session
        if place in bugs:
            standing.is_quarantined = True
            standing.open = dict.fromkeys(standing.open, True)
        for end in steps[place].events:
            if isinstance(end, TurnCompleted | TurnCancelled | TurnFailed):
                is_for_it = isinstance(end, TurnFailed) and end.error.code == FailureCode.SESSION_QUARANTINED
                must = standing.open.pop(end.message_id)
                # One that gathers turns every message away, whatever else is wrong with it.
                is_turned_away = session is not None and session.head.gathering is not None
                assert is_for_it == must or is_turned_away, (
                    f"{place}: {end} in a session that is {'' if must else 'not '}quarantined"
                )


@dataclass(slots=True)
class _Standing:
    """A session as an operator sees it; `open`: the messages, and whether each fails for the quarantine."""

    is_quarantined: bool = False
    open: dict[str, bool] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
