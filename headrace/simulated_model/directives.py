"""What the text of a user message can order the simulated model to do. The orders bind for the whole turn.

    [[fault:KIND]]                     the call fails in this way (faults.py has the kinds), each time
    [[fault:KIND times=2 step=3 retry-after=1]]
                                       only the first two attempts of one call; only the third model call of the turn;
                                       with this `retry-after` header
    [[stop:REASON]]                    the answer ends for this reason
    [[tools:NAME,NAME]]                ask for these tools, with plausible inputs
    [[tool:NAME {"a": 1}]]             ask for exactly this call; several are asked for at once
    [[tool-loop:NAME]]                 ask for this tool again and again, without end
    [[say:TEXT]]                       answer exactly this
    [[latency:SECONDS]]                the call takes this long
    [[hold:NAME]]                      the answer stops in the middle until `PUT /control/released/NAME`

`tool` and `tools` apply to the first model call of a turn, the others to each. Several faults are tried in their order.
"""

import json
import re
from typing import Any

import msgspec

from headrace.simulated_model.faults import Fault, check_kind
from headrace.simulated_model.requests import RequestRefusedError

OPENING = re.compile(r"\[\[(fault|stop|tools|tool-loop|tool|say|latency|hold):\s*")
TOOL_NAME = re.compile(r"[^\s{\]]+")
STOP_REASONS = ("end_turn", "max_tokens", "stop_sequence", "pause_turn", "refusal", "model_context_window_exceeded")
LATENCY_MAX_S = 3600.0


class FaultOrder(msgspec.Struct, frozen=True):
    """A fault, and to which calls of the turn it applies."""

    fault: Fault
    times: int | None = None
    step: int | None = None

    def strikes(self, step: int, attempt: int) -> bool:
        return (self.step is None or step == self.step) and (self.times is None or attempt <= self.times)


class ToolOrder(msgspec.Struct, frozen=True):
    """A tool to ask for; without an input, one is made from its schema."""

    name: str
    input: dict[str, Any] | None = None


class Directives(msgspec.Struct):
    """All orders found in one text, and the text without them."""

    text: str
    faults: list[FaultOrder] = []
    tools: list[ToolOrder] = []
    tool_loop: str | None = None
    stop: str | None = None
    say: str | None = None
    latency_s: float | None = None
    hold: str | None = None


def parse_directives(text: str) -> Directives:
    """Read the orders in a text. Double brackets with other words are left alone; raises RequestRefusedError."""
    found = Directives(text=text)
    if "[[" not in text:
        return found
    rest: list[str] = []
    position = 0
    while opening := OPENING.search(text, position):
        rest.append(text[position : opening.start()])
        if opening[1] == "tool":
            position = _read_tool(text, opening.end(), found)
        else:
            end = text.find("]]", opening.end())
            if end < 0:
                raise RequestRefusedError(f"directive '{opening[0]}' has no end: expected ']]'")
            _take(opening[1], text[opening.end() : end].strip(), found)
            position = end + 2
    rest.append(text[position:])
    found.text = " ".join(" ".join(rest).split())
    return found


def _read_tool(text: str, start: int, found: Directives) -> int:
    """Read `NAME {json}]]`, whose JSON may contain double brackets; returns the position after it."""
    name = TOOL_NAME.match(text, start)
    if not name:
        raise RequestRefusedError("directive 'tool' expects NAME or NAME {json input}")
    end = name.end() + len(text[name.end() :]) - len(text[name.end() :].lstrip())
    tool_input = None
    if text.startswith("{", end):
        try:
            tool_input, end = json.JSONDecoder().raw_decode(text, end)
        except json.JSONDecodeError as error:
            raise RequestRefusedError(f"directive 'tool:{name[0]}' has an input that is not JSON: {error}") from error
    close = text.find("]]", end)
    if close < 0 or text[end:close].strip():
        raise RequestRefusedError(f"directive 'tool:{name[0]}' has no end: expected ']]' after its input")
    found.tools.append(ToolOrder(name[0], tool_input))
    return close + 2


def _take(word: str, value: str, found: Directives) -> None:
    match word:
        case "fault":
            found.faults.append(_fault_order(value))
        case "stop" if value not in STOP_REASONS:
            raise RequestRefusedError(f"directive 'stop:{value}': expected one of {', '.join(STOP_REASONS)}")
        case "stop":
            found.stop = value
        case "tools":
            found.tools.extend(ToolOrder(name.strip()) for name in value.split(",") if name.strip())
        case "tool-loop":
            found.tool_loop = value
        case "say":
            found.say = value
        case "hold":
            found.hold = value
        case _:
            found.latency_s = _number(word, value, LATENCY_MAX_S)


def _fault_order(value: str) -> FaultOrder:
    kind, *words = value.split()
    check_kind(kind)
    values = dict(word.partition("=")[::2] for word in words)
    unknown = set(values) - {"times", "step", "retry-after"}
    if unknown:
        raise RequestRefusedError(f"directive 'fault:{value}': expected times=N, step=N or retry-after=SECONDS")
    return FaultOrder(
        Fault(kind, values.get("retry-after")),
        times=int(_number("times", values["times"], 1e9)) if "times" in values else None,
        step=int(_number("step", values["step"], 1e9)) if "step" in values else None,
    )


def _number(word: str, value: str, maximum: float) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise RequestRefusedError(f"directive '{word}': expected a number, not '{value}'") from error
    if not 0 <= number <= maximum:
        raise RequestRefusedError(f"directive '{word}': expected a number from 0 to {maximum:g}, not '{value}'")
    return number
