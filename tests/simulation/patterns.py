"""What must hold of turns of agents with a pattern: they ask what the pattern says, and nothing twice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from simulation.invariants import Topics, distinct_events, facts, fold, place_of

from agents.catalog import Catalog
from agents.pattern_rules import Answer, Round, Say, Stop, decide
from agents.patterns import Pattern, needs
from agents.spec import AgentSpec, ask_tool
from schemas.content import text_of
from schemas.events import (
    AgentEvent,
    ApprovalRequested,
    HandedOff,
    ToolCalled,
    ToolReturned,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
)
from schemas.failure import FailureCode
from schemas.log import MessageAccepted

Key = tuple[str, int, str]
"""A session, its life and a turn."""


@dataclass(slots=True)
class PatternTurn:
    """What was said to it, what it has asked since the agent with the pattern has it, and how it ended."""

    pattern: Pattern
    message: str
    since: int = 0
    """The step of the hand-off: calls up to it are of the agent that handed over."""
    begun: dict[int, tuple[str, str]] = field(default_factory=dict)
    """The agent and the message of each question, by its step."""
    answers: dict[int, Answer] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    end: TurnCompleted | TurnFailed | None = None


def check_patterns(topics: Topics, catalog: Catalog) -> None:
    """A pattern asks what it says of what it was answered, no question twice, and its turn ends as it says."""
    for key, turn in _turns(topics, catalog).items():
        assert len(set(turn.children)) == len(turn.children), f"{key} has asked the same again: {turn.children}"
        most = needs(turn.pattern).asks
        assert len(turn.begun) <= most, f"{key} has asked {len(turn.begun)} times, and may {most} times"
        rounds = list(_rounds(turn))
        for number, asked in enumerate(rounds):
            _check_round(key, turn, asked, rounds[:number])
        _check_end(key, turn, rounds)


def _check_round(key: Key, turn: PatternTurn, steps: Sequence[int], before: Sequence[Sequence[int]]) -> None:
    due = decide(turn.pattern, turn.message, [_answers(turn, earlier) for earlier in before])
    assert isinstance(due, tuple), f"{key} asks again, and should {due}"
    asked = [turn.begun[step] for step in steps]
    assert asked == [(ask.agent, ask.message) for ask in due], f"{key} asks {asked}, and should {due}"


def _check_end(key: Key, turn: PatternTurn, rounds: Sequence[Sequence[int]]) -> None:
    end = turn.end
    is_its_own = isinstance(end, TurnCompleted) or (
        isinstance(end, TurnFailed) and end.error.code == FailureCode.PATTERN_STOPPED
    )
    if not is_its_own:
        return  # Somebody, or a limit, has ended it.
    open_steps = turn.begun.keys() - turn.answers.keys()
    assert not open_steps, f"{key} has ended before it was answered: {open_steps}"
    due = decide(turn.pattern, turn.message, [_answers(turn, asked) for asked in rounds])
    is_so = (isinstance(end, TurnCompleted) and due == Say(end.text)) or (
        isinstance(end, TurnFailed) and due == Stop(end.error.message)
    )
    assert is_so, f"{key} should end with {due}: {end}"


def _answers(turn: PatternTurn, steps: Sequence[int]) -> Round:
    return tuple(turn.answers[step] for step in steps)


def _rounds(turn: PatternTurn) -> Iterator[list[int]]:
    """The steps of what was asked at once: there is one of the pattern's own between two rounds."""
    steps: list[int] = []
    for step in sorted(turn.begun):
        if steps and step != steps[-1] + 1:
            yield steps
            steps = []
        steps.append(step)
    if steps:
        yield steps


def _turns(topics: Topics, catalog: Catalog) -> dict[Key, PatternTurn]:
    """From where an agent with a pattern has them."""
    messages = _messages(topics, catalog)
    turns: dict[Key, PatternTurn] = {}
    told: dict[Key, MessageAccepted] = {}
    for (name, life, _), event in distinct_events(topics).items():
        key = name, life, event.turn_id
        if isinstance(event, TurnStarted):
            told[key] = messages[name, event.message_id][min(life, len(messages[name, event.message_id])) - 1]
        if isinstance(event, TurnStarted | HandedOff):
            agent = event.agent if isinstance(event, TurnStarted) else event.to_agent
            spec = _spec(catalog, told[key], agent)
            if spec is not None and spec.pattern is not None:
                since = _step(event.call_id) if isinstance(event, HandedOff) else 0
                turns[key] = PatternTurn(spec.pattern, text_of(told[key].content), since)
        elif key in turns:
            _note(turns[key], event)
    return turns


def _spec(catalog: Catalog, message: MessageAccepted, agent: str) -> AgentSpec | None:
    return catalog.get(agent, message.specs_offset)


def _messages(topics: Topics, catalog: Catalog) -> dict[tuple[str, str], list[MessageAccepted]]:
    """What began each turn: the first of the same id, in each life of its session."""
    begun: dict[tuple[str, str], list[MessageAccepted]] = {}
    ended: set[tuple[str, str]] = set()
    steps = fold(topics, catalog)[1]
    for record, event in facts(topics):
        step = steps[place_of(record)]
        if step.session is None and step.rewritten:
            ended |= {key for key in begun if key[0] == event.session_id}
        if not isinstance(event, MessageAccepted):
            continue
        key = event.session_id, event.message_id
        if key not in begun or key in ended:
            begun.setdefault(key, []).append(event)
            ended.discard(key)
    return begun


def _note(turn: PatternTurn, event: AgentEvent) -> None:
    match event:
        case ToolCalled() | ApprovalRequested() if _is_of_pattern(turn, event):
            # What people approved may be something else: the first event says what the pattern asked.
            asked = event.tool.removeprefix(ask_tool("")), str(event.input.get("message"))
            turn.begun.setdefault(_step(event.call_id), asked)
            if isinstance(event, ToolCalled) and event.child_session_id:
                turn.children.append(event.child_session_id)
        case ToolReturned() if _step(event.call_id) in turn.begun:
            agent = event.tool.removeprefix(ask_tool(""))
            turn.answers[_step(event.call_id)] = Answer(agent, event.content, is_error=event.is_error)
        case TurnCompleted() | TurnFailed():
            turn.end = event
        case _:
            pass


def _is_of_pattern(turn: PatternTurn, event: ToolCalled | ApprovalRequested) -> bool:
    return event.tool.startswith(ask_tool("")) and _step(event.call_id) > turn.since


def _step(call_id: str) -> int:
    return int(call_id.rpartition("/")[2])
