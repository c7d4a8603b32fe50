"""The calculator: right, bounded, and never executing anything."""

import ast
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tools import ToolContext, ToolError, built_in_tools
from agents.tools.calculator import MAX_DIGITS, calculate
from agents.tools.toolbox import Toolbox

VALUES = [
    ("0.1 + 0.2", "0.3"),
    ("1/3", "0.3333333333333333333333333333"),
    ("10/2", "5"),
    ("  3 + 4 ", "7"),
    ("10 - 3 - 2", "5"),
    ("2 ** 3 ** 2", "512"),
    ("-2 ** 2", "-4"),
    ("2 ** -1", "0.5"),
    ("2 ** 0.5", "1.414213562373095048801688724"),
    ("-7 % 3", "2"),
    ("-7.5 % 3", "1.5"),
    ("-7.5 // 3", "-3"),
    ("7 // -2.0", "-4"),
    ("(1200 * 1.19 - 50) / 3", "459.3333333333333333333333333"),
    ("12345678901234567890.123456789 * 1", "12345678901234567890.12345679"),
    ("1_000 * 0x10", "16000"),
    ("sqrt(16)", "4"),
    ("log(8, 2)", "3"),
    ("log10(1000)", "3"),
    ("ln(e)", "1"),
    ("round(2.5)", "3"),
    ("round(-2.5)", "-3"),
    ("round(2.345, 2)", "2.35"),
    ("round(1234, -2)", "1200"),
    ("floor(-2.5)", "-3"),
    ("ceil(2.1)", "3"),
    ("min(3, 1.5, 2)", "1.5"),
    ("max(abs(-3), 2)", "3"),
    ("sin(pi)", "0"),
    ("sin(1)", "0.8414709848078965"),
    ("degrees(pi)", "180"),
    ("1.5e-31", "1.5E-31"),
    ("10 ** 999", "1" + "0" * 999),
    ("+".join(["1"] * 500), "500"),
    ("(" * 200 + "1" + ")" * 200, "1"),
]


@pytest.mark.parametrize(("expression", "value"), VALUES)
def test_values(expression: str, value: str) -> None:
    """As a careful person with pen and paper has them."""
    assert calculate(expression) == value


REFUSALS = [
    ("1/0", "division by zero"),
    ("0.0 // 0", "division by zero"),
    ("5 % 0", "division by zero"),
    ("0 ** -1", "division by zero"),
    ("sqrt(-1)", "no real value"),
    ("(-8) ** (1/3)", "no real value"),
    ("log(0)", "no real value"),
    ("asin(2)", "no real value"),
    ("2 ^ 3", r"write powers with `\*\*`"),
    ("2,000 * 3", "without thousands separators"),
    ("5% * 3", "write 5% as 0.05"),
    ("x + 1", "there are no variables"),
    ("foo(1)", "there is no function `foo`"),
    ("ln(x=3)", "by position"),
    ("atan2(1)", "expected 2 argument"),
    ("round(1, 2.5)", "whole number of digits"),
    ("1e28 // 3", "too far apart"),
    ("3 4", "expected an arithmetic expression"),
    ("", "expected an arithmetic expression"),
    ("\0", "expected an arithmetic expression"),
    ("True", "expected arithmetic"),
    ("1j", "expected arithmetic"),
    ("'a' * 9", "expected arithmetic"),
    ("[1] * 9", "expected arithmetic"),
    ("lambda: 1", "expected arithmetic"),
    ("(x := 3)", "expected arithmetic"),
    ("(1).__class__.__bases__", "expected arithmetic"),
    ("__import__('os').system('true')", "expected arithmetic"),
    ("sqrt.__globals__", "expected arithmetic"),
    ("[x for x in (1,)][0]", "expected arithmetic"),
    ("f'{1}'", "expected arithmetic"),
]


@pytest.mark.parametrize(("expression", "message"), REFUSALS)
def test_refusals_teach(expression: str, message: str) -> None:
    """What is not arithmetic, or has no value, is said with what to write instead."""
    with pytest.raises(ToolError, match=message):
        calculate(expression)


BLOW_UPS = [
    "9**9**9",
    "9**9**9**9",
    "9.5**99999999",
    "1.0000001**(10**900)",
    "exp(1e9)",
    "1e999999999999",
    "1e999 * 1e999",
    "10**1000",
    "10**998 * 99",
    "sin(10**999)",
    "(((10**999)**9)**9)**9",
    "-" * 900 + "1",
    "abs(" * 240 + "1" + ")" * 240,
    "(" * 600 + "1" + ")" * 300,
    "1" * 1_001,
]


@pytest.mark.parametrize("expression", BLOW_UPS)
def test_blow_ups_are_refused_at_once(expression: str) -> None:
    """The limit is met before the work is done: the worker's other sessions do not notice."""
    began = time.process_time()

    with pytest.raises(ToolError, match=r"too large|too far|levels of nesting|characters|arithmetic expression"):
        calculate(expression)

    assert time.process_time() - began < 0.2


_WHOLE = st.integers(-(10**30), 10**30)


@given(_WHOLE, _WHOLE, st.sampled_from(["+", "-", "*", "//", "%"]))
def test_whole_numbers_are_exact(left: int, right: int, operator: str) -> None:
    """Against Python's own integers."""
    if right == 0 and operator in ("//", "%"):
        return
    expected = {"+": left + right, "-": left - right, "*": left * right}
    if right:
        expected |= {"//": left // right, "%": left % right}

    assert calculate(f"({left}) {operator} ({right})") == str(expected[operator])


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_decimal_remainders_have_the_law_of_division(left: float, right: float) -> None:
    """The remainder has the sign of the divisor and is smaller than it, as for whole numbers."""
    if abs(right) < 1e-6:
        return

    remainder = float(calculate(f"({left!r}) % ({right!r})"))

    assert abs(remainder) <= abs(right)
    assert remainder == 0 or math.copysign(1, remainder) == math.copysign(1, right)


@given(st.text(alphabet="0123456789.+-*/%()e,^ abcsqrtlogpinmax_'[]:=", max_size=60))
def test_any_text_is_a_number_or_a_refusal(text: str) -> None:
    """Nothing else comes out: no other exception, no long output."""
    try:
        value = calculate(text)
    except ToolError:
        return
    assert len(value) <= MAX_DIGITS + 10
    assert isinstance(ast.literal_eval(value), int | float)


async def test_as_a_tool() -> None:
    """Through the toolbox, as the model calls it."""
    toolbox = Toolbox(built_in_tools())
    context = ToolContext(call_id="c", session_id="s", agent="a")

    outcome = await toolbox.run("calculator", {"expression": "6 * 7"}, context=context, timeout_s=1)

    assert toolbox.is_idempotent("calculator")
    assert getattr(outcome, "content", None) == "42"
    await toolbox.close()
