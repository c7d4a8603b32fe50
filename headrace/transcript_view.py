"""What a person sees of a turn: pieces of text as they come, tools as they run, one line at the end."""

import time
from typing import assert_never

import msgspec
from rich.console import Console

from schemas.events import (
    AgentDelta,
    AgentEvent,
    ApprovalAnswered,
    ApprovalRequested,
    BroadcastCompleted,
    BroadcastDelivered,
    BroadcastReplied,
    BudgetExceeded,
    DeltaReset,
    HandedOff,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    budget_of,
)

MAX_SHOWN_CHARACTERS = 200
MICROS = 1_000_000


APPROVAL_WORDS = {"approve": "approved", "deny": "denied", "expired": "nobody decided in time: denied"}


class TranscriptView:
    """Writes one turn to a console.

    Events and deltas come on two topics, so the end of a turn can overtake the last deltas: what is missing of the
    answer is then taken from the end.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._step: tuple[str, int] | None = None
        self._text = ""

    def show(self, item: AgentEvent | AgentDelta) -> None:
        """Write what this event or delta says."""
        match item:
            case TextDelta():
                self._show_text(item)
            case DeltaReset():
                self._void()
            case ToolCalled():
                self._note(f"→ {item.tool} {_short(msgspec.json.encode(item.input).decode())}", "cyan")
            case ToolReturned():
                self._note(f"← {_short(item.content)}", "red" if item.is_error else "green")
            case ApprovalRequested():
                self._note(
                    f"? {item.tool} {_short(msgspec.json.encode(item.input).decode())} asks for approval", "yellow"
                )
            case ApprovalAnswered():
                by = f" by {item.by}" if item.by else ""
                more = f", {item.remaining} more needed" if item.remaining else ""
                self._note(f"{APPROVAL_WORDS[item.decision]}{by}{more}", "yellow")
            case HandedOff():
                self._note(f"{item.agent} hands off to {item.to_agent} {_short(item.reason)}".rstrip(), "cyan")
            case BroadcastDelivered() | BroadcastReplied() | BroadcastCompleted():
                self._show_gathering(item)
            case BudgetExceeded():
                spent = f"{item.spent} {item.unit} of {item.limit} ({budget_of(item)})"
                self._note(f"budget exceeded: {spent}, {item.reserved} reserved: {item.action}", "yellow")
            case TurnCompleted():
                self._complete(item)
            case TurnFailed():
                self._note(f"failed ({item.error.code}): {item.error.message}", "red")
            case TurnCancelled():
                self._note(f"cancelled {item.reason}".rstrip(), "yellow")
            case TurnStarted():
                self._began = time.monotonic()
            case _:
                assert_never(item)

    def _show_gathering(self, item: BroadcastDelivered | BroadcastReplied | BroadcastCompleted) -> None:
        match item:
            case BroadcastDelivered():
                self._note(f"⇉ {item.agent}{' (late)' if item.late is True else ''}", "cyan")
            case BroadcastReplied():
                late = " (late)" if item.late else ""
                self._note(f"← {item.agent}{late}: {_short(item.content)}", "red" if item.is_error else "green")
            case BroadcastCompleted():
                missing = f", missing: {', '.join(item.missing)}" if item.missing else ""
                self._note(f"{item.reason}: {len(item.replies)} replies{missing}", "dim")

    def _show_text(self, delta: TextDelta) -> None:
        step = (delta.turn_id, delta.step)
        if step != self._step:
            self._end_line()
            self._step, self._text = step, ""
        self._text += delta.text
        self._write(delta.text)

    def _void(self) -> None:
        if self._text:
            self._note("the model is asked again; what it said last is void", "yellow")
            self._text = ""

    def _complete(self, end: TurnCompleted) -> None:
        if end.text.startswith(self._text):
            self._write(end.text[len(self._text) :])
        elif self._text != end.text:
            self._end_line()
            self._write(end.text)
        self._text = end.text
        cut = "" if end.stop_reason == "end_turn" else f" · stopped: {end.stop_reason}"
        cost = f"${end.cost_micros / MICROS:.4f}"
        took = time.monotonic() - self._began
        self._note(f"{end.usage.total_tokens} tokens · {cost} · {took:.1f} s{cut}", "dim")

    def _write(self, text: str) -> None:
        self._console.print(text, end="", markup=False)

    def _end_line(self) -> None:
        if self._text:
            self._console.print()

    def _note(self, text: str, style: str) -> None:
        self._end_line()
        self._text = ""
        self._console.print(text, style=style, markup=False)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN_CHARACTERS else line[:MAX_SHOWN_CHARACTERS] + "…"
