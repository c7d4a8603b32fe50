"""What must hold of the results of tools, of those above all that a service outside says: late, twice, or wrong."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from simulation.invariants import Record, Topics, facts, fold, place_of

from agents.catalog import Catalog
from schemas.codec import decode_dead_letter
from schemas.dead_letter import Cause, DeadLetter
from schemas.effects import CallTool
from schemas.events import ToolReturned
from schemas.log import ToolCompleted, ToolFailed
from schemas.refusal import RefusedError, check_tool_result
from schemas.tool_results import RemoteResult
from schemas.topics import DEAD_LETTERS, TOOL_RESULTS


def check_first_counts(topics: Topics, catalog: Catalog) -> None:
    """The first outcome of a call that is waited for is its result, word for word; no other outcome says anything."""
    steps, bugs = fold(topics, catalog)[1], {letter.id for letter in _letters(topics, Cause.CORE_ERROR)}
    awaited: defaultdict[str, set[str]] = defaultdict(set)
    for record, event in facts(topics):
        step, calls = steps[place_of(record)], awaited[event.session_id]
        if isinstance(event, ToolCompleted | ToolFailed) and place_of(record) not in bugs:
            said = event.content if isinstance(event, ToolCompleted) else event.failure.message
            told = [
                (each.content, each.is_error)
                for each in step.events
                if isinstance(each, ToolReturned) and each.call_id == event.call_id
            ]
            due = [(said, isinstance(event, ToolFailed))] if event.call_id in calls else []
            assert told == due, f"{place_of(record)}: the turn was told {told}, and should {due}"
        calls -= set(step.settled)
        calls |= {order.call_id for order in step.effects if isinstance(order, CallTool)}


def check_heard(topics: Topics, catalog: Catalog) -> None:
    """What a service says is in the log, or in the dead letters; none is refused that is waited for."""
    said = {_said(event) for _, event in facts(topics) if isinstance(event, ToolCompleted | ToolFailed)}
    letters = {letter.id: letter for letter in _letters(topics)}
    waits = _waits(topics, catalog)
    for record, result in _results(topics):
        letter = letters.get(place_of(record))
        if result is None:
            assert letter is not None, f"{place_of(record)} is no result, and nobody was told"
            continue
        is_error = result.error is not None
        content = result.error.message if result.error is not None else result.content
        is_heard = (result.session_id, result.call_id, content, is_error) in said
        assert is_heard or letter is not None, f"{place_of(record)} was not heard, and nobody was told: {result}"
        if letter is not None:
            waited = [(since, until) for since, until in waits[result.call_id] if since <= letter.at < until]
            is_of_it = result.call_id.startswith(f"{result.session_id}/")
            assert not (waited and is_of_it), f"{place_of(record)} was refused at {letter.at}, and awaited: {waited}"


def _said(event: ToolCompleted | ToolFailed) -> tuple[str, str, str, bool]:
    if isinstance(event, ToolFailed):
        return event.session_id, event.call_id, event.failure.message, True
    return event.session_id, event.call_id, event.content, False


def _waits(topics: Topics, catalog: Catalog) -> defaultdict[str, list[tuple[datetime, datetime]]]:
    """From when until when the log has it that each call of a tool waits."""
    waits: defaultdict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    since: dict[str, datetime] = {}
    steps = fold(topics, catalog)[1]
    for record, _ in facts(topics):
        step = steps[place_of(record)]
        for call_id in step.settled:
            if call_id in since:
                waits[call_id].append((since.pop(call_id), record.at))
        since |= {order.call_id: record.at for order in step.effects if isinstance(order, CallTool)}
    return waits


def _results(topics: Topics) -> Iterator[tuple[Record, RemoteResult | None]]:
    """Those that are none stand as None."""
    for record in topics[TOOL_RESULTS.name]:
        try:
            yield record, check_tool_result(record.value, record.key)
        except RefusedError:
            yield record, None


def _letters(topics: Topics, cause: Cause | None = None) -> Iterator[DeadLetter]:
    for record in topics[DEAD_LETTERS.name]:
        letter = decode_dead_letter(record.value or b"")
        if cause is None or letter.cause == cause:
            yield letter
