"""The turn of an agent with a pattern: where a model would be called, its pattern says at once what comes next."""

from agents.draft import Draft
from agents.endings import complete, fail
from agents.pattern_rules import Answer, Ask, Round, Say, Stop, decide
from agents.session import AssistantEntry, Entry, ToolResultEntry, UserEntry
from agents.spec import ask_tool
from agents.tool_calls import call_tools
from schemas.content import TextBlock, ToolUseBlock, text_of
from schemas.failure import Failure, FailureCode


def go_on_at_once(draft: Draft) -> None:
    """Let the pattern say what comes next, until its turn waits for an answer, or ends.

    Every other turn waits for something, so nothing is done to it.
    """
    while draft.head.turn is not None and not draft.turn.pending:
        _say(draft)


def _say(draft: Draft) -> None:
    pattern = draft.spec.pattern
    assert pattern is not None, "a turn runs, and waits for nothing"
    entries = tuple(draft.session.newest_of_turn(draft.turn.number))[::-1]
    match decide(pattern, _message(entries), _rounds(entries, _prefix(draft))):
        case Stop(why):
            fail(draft, Failure(code=FailureCode.PATTERN_STOPPED, message=why))
        case Say(text):
            content = (TextBlock(text=text),) if text else ()
            draft.append(AssistantEntry(turn=draft.turn.number, content=content))
            complete(draft, "end_turn")
        case asks:
            uses = [_use(draft, index, ask) for index, ask in enumerate(asks, 1)]
            draft.append(AssistantEntry(turn=draft.turn.number, content=tuple(uses)))
            call_tools(draft, uses)


def _use(draft: Draft, index: int, ask: Ask) -> ToolUseBlock:
    name = f"{_prefix(draft)}{draft.turn.steps + index}"
    return ToolUseBlock(id=name, name=ask_tool(ask.agent), input={"message": ask.message})


def _prefix(draft: Draft) -> str:
    """Of the ids of what a pattern asks: they differ within a session, as a model may have to read all of it later."""
    return f"p{draft.turn.number}_"


def _message(entries: tuple[Entry, ...]) -> str:
    return "".join(text_of(entry.content) for entry in entries if isinstance(entry, UserEntry))


def _rounds(entries: tuple[Entry, ...], prefix: str) -> tuple[Round, ...]:
    """What the pattern has asked; what a model asked before it handed the conversation over is not the pattern's."""
    results = {entry.tool_use_id: entry for entry in entries if isinstance(entry, ToolResultEntry)}
    rounds = []
    for entry in entries:
        uses = entry.tool_uses() if isinstance(entry, AssistantEntry) else ()
        if uses and uses[0].id.startswith(prefix):
            rounds.append(tuple(_answer(use, results[use.id]) for use in uses))
    return tuple(rounds)


def _answer(use: ToolUseBlock, result: ToolResultEntry) -> Answer:
    return Answer(use.name.removeprefix(ask_tool("")), result.content, is_error=result.is_error)
